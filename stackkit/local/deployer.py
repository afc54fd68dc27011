"""The local model deployer."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ..environments import launch as commands
from ..environments import models, sweeping
from ..errors import DeploymentError, ModelError
from ..model_deployers import (
    BaseModelDeployer,
    FindsServers,
    FoundServer,
    ModelSource,
    Observation,
    Operation,
    PlatformIdentity,
    Progress,
    Service,
    ServiceConfig,
    ServiceState,
    UpdatesInPlace,
)
from ..model_deployers.predictions import request_prediction
from ..processes import machine_id, machine_name
from ..serving.claims import Launch, Phase, ServerState, WorkerPhase
from . import environments
from .config import LocalServiceConfig
from .folders import ServerFolder
from .logs import read_log
from .probes import answers, base_url, who_listens

_MOST_PROBES = 32
_STOPPING = Observation(ServiceState.PENDING_SHUTDOWN, "finishing the requests it has begun")


class LocalModelDeployer(BaseModelDeployer, UpdatesInPlace, FindsServers):
    """Serves each model by a supervisor process with its workers, in a folder named by the service's UUID.

    The lock in that folder being held is the server being alive; see ``stackkit.serving.claims``.
    """

    def do_identify(self) -> PlatformIdentity:
        return PlatformIdentity(f"machine:{machine_id()}", machine_name())

    def do_resolve(self, config: ServiceConfig, progress: Progress) -> ModelSource:
        folder = self.database.settings.models_folder
        in_place = _local(config).in_place
        resolved = models.resolve(config.model_uri, models_folder=folder, in_place=in_place, progress=progress)
        sweeping.note_user(resolved.digest, folder, self._user)
        return ModelSource(resolved.uri, resolved.digest, resolved.reference, resolved.format)

    def do_prepare(self, operation: Operation) -> None:
        if missing := models.find_missing(operation.service.source.reference or ""):
            raise ModelError(
                f"The model of {operation.service.name!r} is gone: {missing} does not exist.",
                "Deploy it again from where it came from: stackkit model-deployer models deploy.",
            )
        config = _local(operation.config)
        commands.check_gpus(config.gpus, {**os.environ, **_variables(config)})
        environments.prepare(operation, config.env_manager, self.database)

    def do_start(self, operation: Operation) -> None:
        service, config = operation.service, _local(operation.config)
        folder = self._folder(service)
        folder.prepare()
        operation.checkpoint(folder=str(folder.path))
        launch = folder.launch()
        if folder.holder() is not None and launch is not None and not folder.is_stopped():
            if launch.revision == service.revision:
                return
            raise DeploymentError(f"Revision {launch.revision} of {service.name!r} still runs.", "Stop it first.")
        folder.write_service(_kept(service))
        token = folder.write_launch(self._launch(operation))
        reader, writer = os.pipe()
        try:
            started = subprocess.run(
                commands.claim_command(folder.path, token, reader),
                env=commands.server_environment(_variables(config)),
                cwd=folder.path,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(reader,),
                start_new_session=True,  # a Ctrl-C in the caller's terminal is the caller's
                text=True,
                check=False,
            )
        finally:
            os.close(reader)
            os.close(writer)
        if started.returncode != 0:
            raise DeploymentError(
                f"The supervisor of {service.name!r} did not start: {started.stderr.strip() or started.returncode}."
            )

    def can_update(self, before: ServiceConfig, after: ServiceConfig) -> bool:
        fixed = ("host", "port", "workers", "gpus", "env")  # what the supervisor was started with
        return all(before[name] == after[name] for name in fixed)

    def do_update(self, operation: Operation) -> None:
        folder = self._folder(operation.service)
        if _gave_up_for(folder, operation.service.revision):
            return
        folder.write_service(_kept(operation.service))
        folder.update(self._launch(operation))

    def do_predict(self, service: Service, data: Any, params: Mapping[str, Any] | None) -> Any:
        return request_prediction(service, data, params, token=self._folder(service).read_token())

    def do_find(self) -> Sequence[FoundServer]:
        return [found for folder in self._folders() if folder.holder() is not None and (found := _found(folder))]

    def do_check(self, services: Sequence[Service]) -> Mapping[str, Observation]:
        if len(services) == 1:
            return {services[0].id: self._observe(services[0])}
        if not services:
            return {}
        with ThreadPoolExecutor(min(_MOST_PROBES, len(services))) as pool:
            return dict(zip([service.id for service in services], pool.map(self._observe, services), strict=True))

    def do_stop(self, operation: Operation) -> None:
        folder = self._folder(operation.service)
        if folder.path.exists():
            folder.withdraw(operation.epoch)
            folder.terminate(operation.epoch)

    def do_delete(self, operation: Operation) -> None:
        self._folder(operation.service).remove(operation.epoch)

    def do_logs(self, service: Service, *, follow: bool, tail: int | None) -> Iterator[str]:
        folder = self._folder(service)
        return read_log(folder.path, follow=follow, tail=tail, alive=lambda: folder.holder() is not None)

    def do_hold(self) -> AbstractContextManager[None]:
        return sweeping.holding(self.database.settings.models_folder)

    def do_sweep(self, named: Callable[[Collection[str]], Collection[str]]) -> Sequence[str]:
        def needed(digests: Collection[str]) -> Collection[str]:
            # a server that lost its row may be running, and waits to be adopted
            return {*named(digests), *(digest for folder in self._folders() if (digest := _served_digest(folder)))}

        return sweeping.sweep(self.database.settings.models_folder, self._user, needed)

    def do_info(self, service: Service) -> Mapping[str, str]:
        folder = self._folder(service)
        state = folder.state()
        rows = {"FOLDER": str(folder.path), "LOG_FILE": str(folder.path / "logs" / "server.log")}
        if state is not None and folder.holder():
            rows["PID"] = str(state.pid)
            rows["WORKER_PIDS"] = ", ".join(str(worker.pid) for worker in state.workers if worker.pid)
        return {**rows, **environments.describe(service)}

    def _folder(self, service: Service) -> ServerFolder:
        known = service.status.details.get("folder")
        if known is not None:
            return ServerFolder(Path(known))
        return ServerFolder(self._services_folder() / service.id)

    @property
    def _user(self) -> str:
        # other flavors of this database know nothing of the servers here that lost their rows
        return f"{self.database.url} ({self.record.flavor})"

    def _folders(self) -> list[ServerFolder]:
        return [ServerFolder(path) for path in sorted(self._services_folder().glob("*")) if path.is_dir()]

    def _services_folder(self) -> Path:
        configured = self.config.folder
        folder = Path(configured) if configured else self.database.settings.services_folder
        return folder.absolute()

    def _launch(self, operation: Operation) -> Launch:
        service, config = operation.service, _local(operation.config)
        token = config.token
        token_file = token and self._folder(service).write_token(service.revision, token.get_secret_value())
        return Launch(
            token="",
            epoch=operation.epoch,
            revision=service.revision,
            model=service.source.reference or "",
            format=service.source.format,
            model_name=config.model_name,
            host=config.host,
            port=config.port or service.status.details.get("port") or 0,
            preferred_port=next(commands.ports(service.uuid)),
            workers=len(config.gpus) or config.workers,
            request_timeout=config.request_timeout,
            batching=config.batching,
            max_batch_size=config.max_batch_size,
            casting=config.casting,
            python=environments.interpreter(service, self.database),
            gpus=",".join(config.gpus) or None,
            token_file=None if token_file is None else str(token_file),
        )

    def _observe(self, service: Service) -> Observation:
        folder = self._folder(service)
        alive = folder.holder() is not None
        state = folder.state()
        if not alive:
            return Observation(ServiceState.INACTIVE) if folder.is_stopped() else _ended(folder, state)
        if state is None and folder.is_stopped():
            return _STOPPING  # a start that was withdrawn ends by itself
        if state is None or state.phase in (Phase.STARTING, Phase.LOADING):
            waiting = "starting the server" if state is None or state.phase is Phase.STARTING else "loading the model"
            return Observation(ServiceState.PENDING_STARTUP, waiting, revision=_revision(folder, state))
        if state.phase in (Phase.STOPPING, Phase.STOPPED):
            return _STOPPING
        if state.phase is Phase.FAILED:
            return _failed(folder, state)
        return _serving(folder, state)


def _kept(service: Service) -> dict[str, object]:
    stored = service.stored()
    return {**{name: stored[name] for name in ("id", "config", "source", "revision")}, **environments.kept(service)}


def _found(folder: ServerFolder) -> FoundServer | None:
    kept, launch = folder.read_service(), folder.launch()
    try:
        if kept is None or launch is None:
            return None
        source = ModelSource(**kept["source"])
        details = {"folder": str(folder.path), **environments.restored(kept)}
        service_id, revision = str(uuid.UUID(kept["id"])), int(kept["revision"])
        return FoundServer(service_id, kept["config"], source, revision, details, launch.epoch)
    except (KeyError, TypeError, ValueError):
        return None  # somebody else's file


def _served_digest(folder: ServerFolder) -> str | None:
    source = (folder.read_service() or {}).get("source")
    digest = source.get("digest") if isinstance(source, dict) else None
    return digest if isinstance(digest, str) else None


def _gave_up_for(folder: ServerFolder, revision: int) -> bool:
    """Whether the server went back to this revision by itself when the newest launch failed."""
    state, launch = folder.state(), folder.launch()
    if state is None or state.failed_update is None or launch is None:
        return False
    return state.failed_update.token == launch.token and state.revision == revision


def _serving(folder: ServerFolder, state: ServerState) -> Observation:
    launch, failed = folder.launch(), state.failed_update
    given_up = launch is not None and failed is not None and failed.token == launch.token
    url = base_url(state.host, state.port or 0)
    found = answers(url)
    if found.ready:
        return Observation(
            ServiceState.ACTIVE,
            prediction_url=f"{url}/invocations",
            details={"port": state.port},
            revision=state.revision,
            update_error=failed.error if given_up and failed is not None else None,
        )
    latest = folder.state() or state  # what it was doing when it did not answer
    if latest.phase in (Phase.STOPPING, Phase.STOPPED):
        return _STOPPING
    # a worker that died of the question, or before it, is replaced by now
    replaced = latest.workers != state.workers or any(worker.phase is not WorkerPhase.READY for worker in state.workers)
    kind = ServiceState.PENDING_STARTUP if found.loading or replaced else ServiceState.ERROR
    return Observation(kind, f"{url}/ping: {found.message}", revision=state.revision)


def _ended(folder: ServerFolder, state: ServerState | None) -> Observation:
    """What to say of a server that should run and whose supervisor does not live."""
    if state is not None and state.phase is Phase.FAILED:
        return _failed(folder, state)
    if state is not None and state.phase in (Phase.STOPPING, Phase.STOPPED):
        return Observation(ServiceState.INACTIVE, "Somebody ended its process.")
    return Observation(ServiceState.INACTIVE, "Its process was killed, or this machine was started anew.")


def _failed(folder: ServerFolder, state: ServerState) -> Observation:
    error = state.error or "it failed"
    launch = folder.launch()
    if error.endswith("is taken") and launch is not None and (who := who_listens(launch.port)):
        error = f"{error} by {who}: choose another with port=…, or stop that"
    return Observation(ServiceState.ERROR, error, revision=state.revision)


def _revision(folder: ServerFolder, state: ServerState | None) -> int | None:
    if state is not None:
        return state.revision
    launch = folder.launch()
    return None if launch is None else launch.revision


def _variables(config: LocalServiceConfig) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in config.env.items()}


def _local(config: ServiceConfig) -> LocalServiceConfig:
    if not isinstance(config, LocalServiceConfig):
        raise DeploymentError(f"A {type(config).__name__} cannot be served by the local model deployer.")
    return config
