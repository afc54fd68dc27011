"""What names, configures and describes one model server: the typed values, without behaviour."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import ConfigDict, Field, field_validator

from ..stack.configs import Config

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class ServiceState(StrEnum):
    """What a model server is."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    PENDING_STARTUP = "pending_startup"
    PENDING_SHUTDOWN = "pending_shutdown"
    SCALED_TO_ZERO = "scaled_to_zero"
    ERROR = "error"
    UNKNOWN = "unknown"


SERVING = (ServiceState.ACTIVE, ServiceState.SCALED_TO_ZERO)
"""The states of a server that answers what it is asked, if need be after it was woken."""


class Target(StrEnum):
    """What was asked for."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    DELETED = "deleted"


class ServiceConfig(Config):
    """What every flavor's service configuration has. A flavor's own derives from it.

    ``pipeline_name``, ``pipeline_step_name`` and ``model_name``, or an explicit ``service_name`` in their place,
    name one service of a deployer. ``run_name`` is a label: a new value alone makes no new revision.
    """

    model_config = ConfigDict(str_strip_whitespace=True)  # MySQL takes "iris " for "iris"

    model_name: str = Field(min_length=1, max_length=255, description="The model's name.")
    model_uri: str = Field(default="", description="Where the model is: a path or a URI.")
    model_version: str | None = Field(default=None, max_length=255, description="The model's version.")
    service_name: str | None = Field(default=None, min_length=1, max_length=255, description="Names the service.")
    pipeline_name: str | None = Field(default=None, max_length=255, description="The pipeline that deploys it.")
    pipeline_step_name: str | None = Field(default=None, max_length=255, description="The step that deploys it.")
    run_name: str | None = Field(default=None, max_length=255, description="The pipeline run that deployed it.")

    @field_validator("model_name", "model_version", "service_name", "pipeline_name", "pipeline_step_name", "run_name")
    @classmethod
    def _check_characters(cls, value: str | None) -> str | None:
        if value is not None and _CONTROL.search(value):
            raise ValueError("it holds a control character, such as a line's end")
        return value

    @property
    def display_name(self) -> str:
        """The service's name: the one given, else pipeline, step and model."""
        parts = (self.pipeline_name, self.pipeline_step_name, self.model_name)
        return self.service_name or "/".join(part for part in parts if part)[-255:]

    def identity(self, deployer_id: str) -> str:
        """A hash that two configurations share when they name the same service."""
        named = (
            [self.service_name] if self.service_name else [self.pipeline_name, self.pipeline_step_name, self.model_name]
        )
        return hashlib.sha256(json.dumps([deployer_id, *named]).encode()).hexdigest()


class UntypedServiceConfig(ServiceConfig):
    """The configuration of a service whose flavor is not installed here, or has other fields by now."""

    model_config = ConfigDict(extra="allow")

    def __getitem__(self, name: str) -> Any:
        return self.model_dump()[name]


@dataclass(frozen=True)
class ModelSource:
    """The bytes that a revision serves.

    ``uri`` has aliases resolved; ``digest`` is None where the bytes cannot be read from here; ``reference`` and
    ``format`` are what the flavor that resolved it needs to serve it.
    """

    uri: str
    digest: str | None = None
    reference: str | None = None
    format: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        return asdict(self)


@dataclass(frozen=True)
class PlatformIdentity:
    """Which machine, engine, cluster or account a service lives on. ``name`` is for people."""

    id: str
    name: str


@dataclass(frozen=True)
class Observation:
    """What a platform says about one service.

    ``state`` is INACTIVE when nothing of it runs. ``message`` holds the platform's own words, one line where it can;
    ``details`` are merged into the service's; ``revision`` is the one that runs, where the platform can tell;
    ``update_error`` is why it has given up going over to a newer one; ``canary`` is the revision that answers a part
    of the requests beside it. ``is_mendable`` says of an ERROR that the pieces of what runs are not as ``do_start``
    makes them, and that it makes them so again without ending what runs.
    """

    state: ServiceState
    message: str = ""
    prediction_url: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    revision: int | None = None
    update_error: str | None = None
    canary: int | None = None
    is_mendable: bool = False


PROMOTED, ABORTED = 100, 0
"""The shares of a canary that is on its way to serve alone, and of one that is on its way out."""


@dataclass(frozen=True)
class Canary:
    """A newer revision that answers about ``percent`` of the requests, until it is ``PROMOTED`` or ``ABORTED``."""

    revision: int
    percent: int


@dataclass(frozen=True)
class ServiceStatus:
    """What is known of a service. Answers as attributes and by key."""

    state: ServiceState
    target: Target
    since: datetime
    message: str
    prediction_url: str | None
    details: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        if name not in self.__dataclass_fields__:
            raise KeyError(name)
        return getattr(self, name)
