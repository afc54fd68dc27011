"""Batch transforms: a model run over data in a platform's storage, as a job of the platform and not as a server.

The platform keeps its jobs, and no row names them. So a job's name is derived from all that was asked for: whoever was
interrupted, or is another process, finds the job that is there by asking for the same again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..errors import DeploymentError, DeploymentTimeoutError, NotFoundError, PlatformUnavailableError
from ..stack import configs
from ..stack.configs import Config, parse
from .convergence import Convergence
from .lifecycle import Lifecycle
from .progress import Progress, silent

if TYPE_CHECKING:
    from .abilities import TransformsBatches
    from .base import BaseModelDeployer
    from .config import ModelSource

PREFIX = "stackkit-transform-"
"""How the name of every job begins."""

_POLL_SECONDS = (0.05, 5.0)


class TransformConfig(Config):
    """What every flavor's batch transform is told. A flavor's own derives from it."""

    model_uri: str = Field(min_length=1, description="Where the model is: a path or a URI.")
    input_uri: str = Field(min_length=1, description="Where the data is that it answers for.")
    output_uri: str = Field(min_length=1, description="Where the answers go.")


class TransformState(StrEnum):
    """What a batch transform is; ``pending`` while what it needs is being made, and when that was interrupted."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


_UNDER_WAY = (TransformState.RUNNING, TransformState.STOPPING)


@dataclass(frozen=True)
class Transform:
    """One batch transform as the platform has it. ``message`` holds the platform's own words on a failure."""

    name: str
    state: TransformState
    model_uri: str
    input_uri: str
    output_uri: str
    created: datetime
    ended: datetime | None = None
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_under_way(self) -> bool:
        return self.state in _UNDER_WAY


class BatchTransforms:
    """The batch transforms of one deployer."""

    def __init__(self, deployer: BaseModelDeployer, platform: TransformsBatches) -> None:
        self._deployer = deployer
        self._platform = platform

    @property
    def config_class(self) -> type[TransformConfig]:
        """The type of configuration that this flavor's batch transforms have."""
        return self._platform.transform_config_class

    def run(
        self,
        *,
        again: bool = False,
        wait: bool = True,
        timeout: float | None = None,
        progress: Progress = silent,
        **fields: Any,
    ) -> Transform:
        """Run a model over data, and wait for the end. ``fields`` are those of ``config_class``.

        Asking for the same, the model's bytes included, finds the job that runs or has completed; ``again`` starts
        another unless it still runs. One that failed or was stopped is tried again, and one that is pending goes on.
        ``timeout`` limits the wait, in seconds, and not the job. Raises InvalidConfigError, ModelError, and as ``wait``
        does.
        """
        config = parse(self.config_class, fields, f"a {self._deployer.record.flavor} batch transform")
        revealed = Convergence(self._deployer, progress).reveal(config)
        service_class = self._deployer.service_config_class
        model = {"model_name": "transform", "model_uri": config.model_uri}
        if "image" in type(config).model_fields and "image" in service_class.model_fields:
            model["image"] = config["image"]  # a model in an image of one's own need not say what it requires
        service_config = parse(service_class, model, "the model")
        with Lifecycle(self._deployer, progress).borrowed(service_config) as source:
            found = self._begin(revealed, source, again, progress)
        return self.wait(found.name, timeout=timeout, progress=progress) if wait else found

    def list(self) -> Sequence[Transform]:
        """All batch transforms of the deployer's platform, newest first. Raises PlatformUnavailableError."""
        return self._platform.do_find_transforms(PREFIX)

    def get(self, name: str) -> Transform:
        """Raises NotFoundError and PlatformUnavailableError."""
        for found in self._platform.do_find_transforms(name):
            if found.name == name:
                return found
        raise NotFoundError(
            f"There is no batch transform {name!r}.",
            "See what there is: stackkit model-deployer models transforms list.",
        )

    def wait(self, name: str, *, timeout: float | None = None, progress: Progress = silent) -> Transform:
        """Wait until a job has ended, and remove what was made for it, except for its output.

        Raises DeploymentError with the platform's words when it failed or was stopped, and when it has not begun,
        DeploymentTimeoutError when it takes longer, and NotFoundError.
        """
        found = self._await_end(name, timeout, progress)
        if found.state is TransformState.PENDING:
            raise DeploymentError(
                f"The batch transform {name} has not begun. {found.message}".rstrip(),
                "Ask for the same to have it go on, or remove what was made for it: "
                f"stackkit model-deployer models transforms stop {name}.",
            )
        self._platform.do_end_transform(name)
        if found.state is not TransformState.COMPLETED:
            ended = "failed" if found.state is TransformState.FAILED else "was stopped"
            said = found.message or "the platform does not say why"
            raise DeploymentError(f"The batch transform {name} {ended}: {said}", "Ask for the same to try again.")
        return self.get(name)

    def stop(self, name: str, *, timeout: float | None = None, progress: Progress = silent) -> Transform:
        """Stop a job and remove what was made for it, except for its output; one that has ended stays as it ended.

        Raises NotFoundError, and DeploymentTimeoutError when the platform does not stop it in time.
        """
        found = self.get(name)
        self._platform.do_end_transform(name)
        if found.state is TransformState.PENDING:
            return replace(found, state=TransformState.STOPPED, message="")
        seconds = self._deployer.start_seconds if timeout is None else timeout
        self._await_end(name, seconds, progress)
        self._platform.do_end_transform(name)  # what a job has in use can only go after it
        return self.get(name)

    def _begin(self, config: TransformConfig, source: ModelSource, again: bool, progress: Progress) -> Transform:
        prefix = f"{PREFIX}{_digest(self._deployer.id, config, source)}-"
        attempts = {_attempt(found.name, prefix): found for found in self._platform.do_find_transforms(prefix)}
        last = max(attempts, default=0)
        newest = attempts.get(last)
        if newest is not None and (newest.is_under_way or (newest.state is TransformState.COMPLETED and not again)):
            return newest
        is_pending = newest is not None and newest.state is TransformState.PENDING
        name = f"{prefix}{last if is_pending else last + 1}"
        progress(f"starting {name}")
        self._platform.do_transform(name, config, source, progress)
        with suppress(NotFoundError):  # a platform may take a moment to list what it has just made
            return self.get(name)
        uris = (config.model_uri, config.input_uri, config.output_uri)
        return Transform(name, TransformState.RUNNING, *uris, created=datetime.now(UTC))

    def _await_end(self, name: str, timeout: float | None, progress: Progress) -> Transform:
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        pause, longest = _POLL_SECONDS
        while True:
            said = "it cannot be asked"
            try:
                found = self.get(name)
                if not found.is_under_way:
                    return found
                said = found.message or found.state.value
            except PlatformUnavailableError as error:
                if time.monotonic() >= deadline:
                    raise
                said = error.message
            if time.monotonic() >= deadline:
                raise DeploymentTimeoutError(
                    f"The batch transform {name} has not ended in time: {said}.",
                    f"It goes on; wait for it: stackkit model-deployer models transforms wait {name}.",
                )
            progress(f"waiting for {name}: {said}")
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 1.5, longest)


def _digest(deployer_id: str, config: TransformConfig, source: ModelSource) -> str:
    asked = [deployer_id, configs.clear(config), source.uri, source.digest]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def _attempt(name: str, prefix: str) -> int:
    number = name.removeprefix(prefix)
    return int(number) if number.isdecimal() else 0
