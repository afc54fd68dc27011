"""Predictions for a file: ``python -P -m stackkit.serving.batch MODEL --input FILE --output FILE``.

The rows of the file reach the model as a request's would, chunk after chunk, by the server's own loaders and casting:
the answers are those of the server. Everything but reading Parquet and calling the model uses the standard library.
"""

from __future__ import annotations

DEFAULT_CHUNK_SIZE = 10_000
"""Rows in one call of the model: fewer are slower, more are hardly faster and take more memory."""
