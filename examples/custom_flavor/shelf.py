"""A model deployer for a platform of one's own: a shelf, which is a folder that people share.

It serves predictions that were computed beforehand. The model is a JSON file, a table from key to answer; a server is
a small file on the shelf that says which table is being served; to predict is to look keys up in it. Whoever can read
the folder can do so, also without stackkit. The owner of a shelf puts a file ``shelf.json`` into it that names it:

    {"id": "8f6f…", "name": "recommendations", "max_bytes": 1000000}

A real platform has an API in place of the folder, and the same methods.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from stackkit.errors import (
    DeploymentError,
    ModelError,
    NotSupportedError,
    PlatformUnavailableError,
    PredictionError,
)
from stackkit.model_deployers import (
    BaseModelDeployer,
    ModelDeployerFlavor,
    ModelSource,
    Observation,
    Operation,
    PlatformIdentity,
    Progress,
    Service,
    ServiceConfig,
    ServiceState,
)
from stackkit.stack import ComponentConfig


class ShelfModelDeployerConfig(ComponentConfig):
    """The attributes that ``stackkit model-deployer register … --flavor=shelf`` takes."""

    folder: Annotated[Path, AfterValidator(Path.absolute)] = Field(description="The shelf's folder.")


class ShelfServiceConfig(ServiceConfig):
    """What a service of this flavor can be told, beyond the names that every service has."""

    model_uri: str = Field(min_length=1, description="A JSON file: a table from key to answer.")
    fallback: str | None = Field(default=None, description="The answer to a key that is not in the table.")


class ShelfModelDeployerFlavor(ModelDeployerFlavor):
    """Predictions computed beforehand, on a shelf."""

    NAME = "shelf"
    SUMMARY = "Predictions computed beforehand, in a shared folder."
    implementation = "shelf:ShelfModelDeployer"
    config_class = ShelfModelDeployerConfig
    service_config_class = ShelfServiceConfig
    location_fields = ("folder",)


class Label(BaseModel):
    """The content of ``shelf.json``."""

    id: str
    name: str
    max_bytes: int = 1_000_000


class Server(BaseModel):
    """The content of a server's file: which table is being served, and how."""

    revision: int
    digest: str
    fallback: str | None


class ShelfModelDeployer(BaseModelDeployer):
    """Every file of a service begins with ``stackkit-<uuid>``, so that each method finds what another has made."""

    def do_identify(self) -> PlatformIdentity:
        label = self._label()
        return PlatformIdentity(f"shelf:{label.id}", f"the shelf {label.name}")

    def do_resolve(self, config: ServiceConfig, progress: Progress) -> ModelSource:
        path = Path(config.model_uri).absolute()
        return ModelSource(uri=str(path), digest=_digest(_read_table(path)))

    def do_prepare(self, operation: Operation) -> None:
        """Put the table on the shelf, beside the one that is being served."""
        service = operation.service
        target = self._table(service, service.source.digest)
        if target.exists():
            return
        table = _read_table(Path(service.source.uri))
        if _digest(table) != service.source.digest:
            raise ModelError(f"{service.source.uri} has changed meanwhile.", "Deploy it again.")
        if len(table) > (limit := self._label().max_bytes):
            raise DeploymentError(f"The shelf takes tables of up to {limit} bytes, and this one has {len(table)}.")
        _write(target, table)

    def do_start(self, operation: Operation) -> None:
        service, config = operation.service, operation.config
        if not isinstance(config, ShelfServiceConfig):
            raise DeploymentError(f"A {type(config).__name__} cannot be put on a shelf.")
        server = Server(revision=service.revision, digest=service.source.digest or "", fallback=config.fallback)
        if self._server(service) == server:
            return
        target = self._path(service, "json")
        operation.checkpoint(file=target.name)  # raises LeaseLostError when another process has taken over
        _write(target, server.model_dump_json().encode())
        with self._path(service, "log").open("a", encoding="utf-8") as log:
            log.write(f"serving revision {service.revision}\n")

    def do_check(self, services: Sequence[Service]) -> Mapping[str, Observation]:
        self._label()  # a folder that is not mounted is no empty one
        return {service.id: self._observe(service) for service in services}

    def do_stop(self, operation: Operation) -> None:
        self._path(operation.service, "json").unlink(missing_ok=True)

    def do_delete(self, operation: Operation) -> None:
        for path in self._folder.glob(f"stackkit-{operation.service.id}.*"):
            path.unlink(missing_ok=True)

    def do_logs(self, service: Service, *, follow: bool, tail: int | None) -> Iterator[str]:
        if follow:
            raise NotSupportedError("A shelf's log cannot be followed: nothing runs.", "Read it without --follow.")
        path = self._path(service, "log")
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return iter(lines if tail is None else lines[max(0, len(lines) - tail) :])

    def do_predict(self, service: Service, data: Any, params: Mapping[str, Any] | None) -> Any:
        server = self._server(service)
        if server is None or not (path := self._table(service, server.digest)).exists():
            raise PredictionError(
                f"The service {service.name!r} is not on the shelf.",
                f"Start it: stackkit model-deployer models start {service.id[:8]}.",
            )
        table = json.loads(path.read_bytes())
        return [table.get(key, server.fallback) for key in data]

    @property
    def _folder(self) -> Path:
        return Path(self.config.folder)

    def _path(self, service: Service, ending: str) -> Path:
        return self._folder / f"stackkit-{service.id}.{ending}"

    def _table(self, service: Service, digest: str | None) -> Path:
        return self._path(service, f"{digest}.table")

    def _label(self) -> Label:
        try:
            return Label.model_validate_json((self._folder / "shelf.json").read_bytes())
        except (OSError, ValueError) as error:
            raise PlatformUnavailableError(
                f"There is no shelf at {self._folder}: {type(error).__name__}.",
                "Mount it, or write its shelf.json.",
            ) from error

    def _server(self, service: Service) -> Server | None:
        try:
            return Server.model_validate_json(self._path(service, "json").read_bytes())
        except FileNotFoundError:
            return None

    def _observe(self, service: Service) -> Observation:
        server = self._server(service)
        if server is None:
            return Observation(ServiceState.INACTIVE, "It is not on the shelf.")
        if not self._table(service, server.digest).exists():
            return Observation(ServiceState.ERROR, "Its table is gone from the shelf.", revision=server.revision)
        url = self._path(service, "json").as_uri()
        return Observation(ServiceState.ACTIVE, prediction_url=url, revision=server.revision)


def _read_table(path: Path) -> bytes:
    """The bytes of a table. Raises ModelError when the file is none."""
    try:
        table = path.read_bytes()
        if isinstance(json.loads(table), dict):
            return table
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}.", "Check model_uri.") from error
    raise ModelError(f"{path} holds no table.", "Write a JSON object: {key: answer, …}.")


def _digest(table: bytes) -> str:
    return hashlib.sha256(table).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, so that nobody reads half of it."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    temporary.write_bytes(content)
    temporary.replace(path)
