"""Model deployers: the public verbs, services, and what a flavor's author builds on.

``LocalModelDeployer`` and every other flavor's class can be imported from here too: ``<Name>ModelDeployer`` is the
implementation of the installed flavor of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .abilities import (
    CompletesStart,
    FindsServers,
    ForwardsPorts,
    FoundServer,
    ShowsManifest,
    SplitsTraffic,
    TransformsBatches,
    UpdatesInPlace,
)
from .base import BaseModelDeployer, ModelDeployerFlavor
from .config import (
    Canary,
    ModelSource,
    Observation,
    PlatformIdentity,
    ServiceConfig,
    ServiceState,
    ServiceStatus,
    Target,
)
from .operation import Operation
from .progress import Progress
from .servers import ModelServers, Services
from .service import Service
from .transforms import BatchTransforms, Transform, TransformConfig, TransformState

if TYPE_CHECKING:
    from ..local.config import LocalServiceConfig
    from ..local.deployer import LocalModelDeployer

__all__ = [
    "BaseModelDeployer",
    "BatchTransforms",
    "Canary",
    "CompletesStart",
    "FindsServers",
    "ForwardsPorts",
    "FoundServer",
    "LocalModelDeployer",
    "LocalServiceConfig",
    "ModelDeployerFlavor",
    "ModelServers",
    "ModelSource",
    "Observation",
    "Operation",
    "PlatformIdentity",
    "Progress",
    "Service",
    "ServiceConfig",
    "ServiceState",
    "ServiceStatus",
    "Services",
    "ShowsManifest",
    "SplitsTraffic",
    "Target",
    "Transform",
    "TransformConfig",
    "TransformState",
    "TransformsBatches",
    "UpdatesInPlace",
]

_SUFFIXES = ("ModelDeployer", "ServiceConfig")


def __getattr__(name: str) -> Any:
    for suffix in _SUFFIXES:
        if name.endswith(suffix) and (flavor := _flavor(name.removesuffix(suffix).lower())):
            found = flavor.implementation_class() if suffix == "ModelDeployer" else flavor.service_config_class
            if found.__name__ == name:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _flavor(name: str) -> ModelDeployerFlavor | None:
    from importlib.metadata import entry_points

    for point in entry_points(group="stackkit.model_deployers", name=name):
        loaded = point.load()()
        return loaded if isinstance(loaded, ModelDeployerFlavor) else None
    return None
