"""stackkit: model deployers for machine-learning pipelines.

Importing this package costs next to nothing: each public name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client
    from .pipelines import get_step_context, pipeline, step

__version__ = "0.1.0"
__all__ = ["Client", "__version__", "get_step_context", "pipeline", "step"]

_HOMES = {
    "Client": "stackkit.client",
    "get_step_context": "stackkit.pipelines",
    "pipeline": "stackkit.pipelines",
    "step": "stackkit.pipelines",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
