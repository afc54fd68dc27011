"""The model server: loads one model and answers MLflow's scoring protocol, supervised and restarted.

``python -P -m stackkit.serving MODEL`` runs it. The package imports nothing else of stackkit, because a copy of it
runs inside the model's own environment; everything but the worker uses the standard library alone.
"""

from __future__ import annotations

__version__ = "0.1.0"
