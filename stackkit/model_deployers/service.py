"""A service: one model server as the database knows it, and the verbs that act on it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy import RowMapping

from ..errors import FlavorError, InvalidConfigError
from ..stack.configs import masked_private, parse
from .abilities import CompletesStart
from .config import Canary, ModelSource, ServiceConfig, ServiceState, ServiceStatus, Target, UntypedServiceConfig

if TYPE_CHECKING:
    from .base import BaseModelDeployer

COMPLETED = "completed_revision"
"""The detail that names the revision whose start was completed, for a flavor that ``CompletesStart``."""


class Service:
    """One model server. ``config`` and ``status`` answer as attributes and by key.

    What it tells is what was known when it was found: ``refresh`` asks the platform again, the verbs bring it up to
    date, and no attribute does I/O.
    """

    def __init__(
        self, row: RowMapping | Mapping[str, Any], deployer: BaseModelDeployer | None, unknown: str | None = None
    ) -> None:
        self._row = dict(row)
        self._deployer = deployer
        self._unknown = unknown

    @property
    def uuid(self) -> uuid.UUID:
        return uuid.UUID(self._row["id"])

    @property
    def id(self) -> str:
        """The UUID as text."""
        return str(self._row["id"])

    @property
    def name(self) -> str:
        return str(self._row["service_name"])

    @property
    def flavor(self) -> str:
        return str(self._row["flavor"])

    @property
    def deployer_name(self) -> str:
        return str(self._row["deployer_name"])

    @property
    def revision(self) -> int:
        """The number of the configuration that serves; a canary's is its own."""
        return int(self._row["revision"])

    @property
    def canary(self) -> Canary | None:
        """The newer revision that was asked to answer a part of the requests beside the one that serves."""
        number = self._row.get("canary_revision")
        return None if number is None else Canary(int(number), int(self._row["canary_percent"]))

    @cached_property
    def config(self) -> ServiceConfig:
        """The configuration. Secret fields hold the reference to their secret, not its value."""
        values = self._row["config"]
        if self._deployer is not None:
            try:
                return parse(self._deployer.service_config_class, values, "the stored configuration")
            except InvalidConfigError:
                pass  # written by another version of the flavor
        return UntypedServiceConfig.model_validate(values)

    @cached_property
    def source(self) -> ModelSource:
        """The bytes that the newest revision serves."""
        return ModelSource(**self._row["source"])

    @property
    def status(self) -> ServiceStatus:
        row = self._row
        known = self._unknown is None and row["unknown_since"] is None
        return ServiceStatus(
            state=ServiceState(row["state"]) if known else ServiceState.UNKNOWN,
            target=Target(row["target"]),
            since=row["state_since"] if known else row["unknown_since"] or row["state_since"],
            message=row["message"] if known else self._unknown or row["unknown_reason"] or "",
            prediction_url=row["prediction_url"],
            details=row["details"],
        )

    @property
    def is_running(self) -> bool:
        """Whether the server was active when last looked at."""
        return self.status.state is ServiceState.ACTIVE

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do for the revision that answers: see ``CompletesStart``."""
        done = self._row["details"].get(COMPLETED) == self.revision
        return done or not isinstance(self._deployer, CompletesStart)

    @property
    def is_being_worked_on(self) -> bool:
        """Whether somebody held its lease when it was last looked at."""
        return bool(self._row["leased"])

    @property
    def epoch(self) -> int:
        """Raised each time somebody takes up work on it: what was decided under a lower one is out of date."""
        return int(self._row["lease_epoch"])

    @property
    def prediction_url(self) -> str | None:
        """Where predictions are asked for; None while it serves none."""
        return self.status.prediction_url

    @property
    def platform(self) -> str | None:
        """The machine, engine, cluster or account it lives on, in words."""
        name: str | None = self._row["platform_name"]
        return name

    @property
    def deployer(self) -> BaseModelDeployer:
        """The deployer that runs it. Raises FlavorError when its flavor cannot be loaded here."""
        if self._deployer is None:
            raise FlavorError(
                f"The flavor {self.flavor!r} of the service {self.name!r} cannot be used here: {self._unknown}",
                f"Install its package: pip install stackkit-{self.flavor}.",
            )
        return self._deployer

    def refresh(self) -> Service:
        """Ask the platform, record what it says, and return this service brought up to date."""
        return self._replace(self.deployer.get_model_server(self.id))

    def start(self, timeout: float | None = None) -> Service:
        """Start the server and wait until it answers; a no-op when it runs. See ``start_model_server``."""
        return self._replace(self.deployer.start_model_server(self, timeout=timeout))

    def stop(self, timeout: float | None = None) -> Service:
        """Stop the server; a no-op when it does not run. See ``stop_model_server``."""
        return self._replace(self.deployer.stop_model_server(self, timeout=timeout))

    def delete(self, timeout: float | None = None) -> None:
        """Remove the server and its row. See ``delete_model_server``."""
        self.deployer.delete_model_server(self, timeout=timeout)

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Ask the server for predictions. See ``BaseModelDeployer.predict``."""
        return self.deployer.predict(self, data, params)

    def logs(self, follow: bool = False, tail: int | None = None) -> Iterator[str]:
        """The server's log, a line at a time. See ``get_model_server_logs``."""
        return self.deployer.get_model_server_logs(self, follow=follow, tail=tail)

    def stored(self) -> dict[str, Any]:
        """The row as the database holds it: references in place of secrets."""
        return dict(self._row)

    def as_dict(self) -> dict[str, Any]:
        """Everything a list or description shows, by field name; secrets are masked."""
        row, status = self._row, self.status
        return {
            "uuid": self.id,
            "service_name": self.name,
            "state": status.state.value,
            "target": status.target.value,
            "message": status.message,
            "since": status.since,
            "prediction_url": status.prediction_url,
            "model_name": row["model_name"],
            "model_version": row["model_version"],
            "model_uri": self.source.uri,
            "model_digest": self.source.digest,
            "pipeline_name": row["pipeline_name"],
            "pipeline_step_name": row["pipeline_step_name"],
            "run_name": row["run_name"],
            "deployer": self.deployer_name,
            "flavor": self.flavor,
            "platform": self.platform,
            "revision": self.revision,
            "canary": None if self.canary is None else asdict(self.canary),
            "created": row["created"],
            "updated": row["updated"],
            "config": masked_private(row["config"]),
            "details": dict(status.details),
        }

    def _replace(self, other: Service) -> Service:
        self._row, self._unknown = other._row, other._unknown
        self.__dict__.pop("config", None)
        self.__dict__.pop("source", None)
        return self

    def __repr__(self) -> str:
        return f"<Service {self.name!r} {self.status.state.value} {self.id}>"
