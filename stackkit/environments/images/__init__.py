"""A model's image: a build context with a Dockerfile, and what a Docker Engine makes of it.

``build`` builds and pushes it, ``make_context`` gives the same context to be built elsewhere. The Docker SDK is
imported when an engine is asked for something.
"""

from __future__ import annotations

from .builder import BuiltImage, build
from .contents import LABEL_DIGEST, LABEL_URI, default_base_image, make_context
from .context import BuildContext
from .engine import connect, log_lines

__all__ = [
    "LABEL_DIGEST",
    "LABEL_URI",
    "BuildContext",
    "BuiltImage",
    "build",
    "connect",
    "default_base_image",
    "log_lines",
    "make_context",
]
