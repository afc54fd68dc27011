"""Breaking operations on purpose: a process that is killed at a chosen point, and what must be true afterwards.

A module of its own because the processes that are killed import it too.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from stackkit import Client
from stackkit.environments import sweeping
from stackkit.errors import LeaseLostError, StackkitError
from stackkit.local.folders import ServerFolder
from stackkit.model_deployers import BaseModelDeployer, Service, ServiceState
from stackkit.serving import claims
from stackkit.settings import Settings
from stackkit.store import Database

_ACTS = (
    "do_resolve",
    "do_prepare",
    "do_start",
    "do_update",
    "do_split",
    "do_complete",
    "do_stop",
    "do_delete",
    "do_sweep",
)


_EACH = "STACKKIT_TEST_KILL_POINTS"
_STRIDE = 4


def numbers_of_points(operation: str) -> Iterator[int]:
    """The points at which a process on a slow platform is killed, until there are no more of them.

    Every fourth, and others for each operation; with STACKKIT_TEST_KILL_POINTS=each, which takes an hour, each.
    """
    stride = 1 if os.environ.get(_EACH) == "each" else _STRIDE
    return itertools.count(1 + sum(operation.encode()) % stride, stride)


class Points:
    """The points at which an operation can be broken: around each transaction, and around each act of the flavor.

    At the point ``at``, counted from 1, ``strike`` is called. With ``anywhere`` it may happen within a transaction and
    while a file's lock is held; a process that is suspended there holds up everybody else.
    """

    def __init__(self, at: int, strike: Callable[[], None], *, anywhere: bool = True) -> None:
        self.passed = 0
        self._at = at
        self._strike = strike
        self._anywhere = anywhere

    def reach(self) -> None:
        self.passed += 1
        if self.passed == self._at:
            self._strike()

    @contextmanager
    def put_into(self, deployer: BaseModelDeployer) -> Iterator[None]:
        """Have the points in place, in this deployer and for whatever else uses a database, until the end."""
        with ExitStack() as undo:

            def replace(owner: Any, name: str, value: Any) -> None:
                undo.enter_context(mock.patch.object(owner, name, value))

            replace(Database, "write", self._around_transactions(Database.write))
            for name in _ACTS:
                if hasattr(deployer, name):
                    replace(deployer, name, self._around(getattr(deployer, name)))
            if self._anywhere:
                replace(claims, "write_launch", self._around(claims.write_launch))
                replace(sweeping, "note_user", self._around(sweeping.note_user))
            for name in ("terminate", "remove"):
                replace(ServerFolder, name, self._around(getattr(ServerFolder, name)))
            yield

    def _around_transactions(self, write: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def around(database: Database) -> Iterator[Any]:
            self.reach()
            with write(database) as connection:
                yield connection
                if self._anywhere:
                    self.reach()
            self.reach()

        return around

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def around(*arguments: Any, **options: Any) -> Any:
            self.reach()
            result = function(*arguments, **options)
            self.reach()
            return result

        return around


@contextmanager
def running(*processes: BaseProcess) -> Iterator[None]:
    """Start processes. Those that have not ended at the end are killed, whatever became of the test."""
    try:
        for process in processes:
            process.start()
        yield
    finally:
        begun = [process for process in processes if process.pid is not None]
        for process in begun:
            process.kill()
        for process in begun:
            process.join()


def send_self(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def servers_alive(home: Path) -> list[psutil.Process]:
    """The supervisors that live, oldest folder name first. Each may end by itself at any moment."""
    alive = []
    for folder in sorted((home / "services").glob("*")):
        with contextlib.suppress(psutil.NoSuchProcess):
            if pid := ServerFolder(folder).holder():
                alive.append(psutil.Process(pid))
    return alive


def kill_for_good(process: psutil.Process) -> None:
    """Kill it, and return when it is dead: a signal is on its way when it was sent, and until then a server lives and
    says so. A no-op on one that has ended.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.001)


_ON_THE_WAY = (ServiceState.PENDING_STARTUP, ServiceState.PENDING_SHUTDOWN)
_ENDED = (ServiceState.INACTIVE, ServiceState.ERROR)


def settled(client: Client, seconds: float = 60) -> dict[str, Service]:
    """What the table says of each service by its UUID, once nothing is on its way up or down.

    What a killed process had begun may be so for a while. Raises AssertionError after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        services = {service.id: service for service in client.servers.find()}
        if not any(service.status.state in _ON_THE_WAY for service in services.values()):
            return services
        assert time.monotonic() < deadline, f"still on the way: {services}"
        time.sleep(0.05)


def _alive_for_good(home: Path, expected: set[str], seconds: float = 20) -> set[str]:
    """The names of the folders whose supervisors live, once only ``expected`` ones do, or after ``seconds``.

    One whose start is wanted no more holds its lock for the moment in which it finds that out.
    """
    deadline = time.monotonic() + seconds
    while True:
        folders = {path.name: ServerFolder(path) for path in (home / "services").glob("*")}
        alive = {name for name, folder in folders.items() if folder.holder() is not None}
        if alive <= expected or time.monotonic() >= deadline:
            return alive
        time.sleep(0.05)


def truth(client: Client, home: Path) -> None:
    """Compare what the table says after one look, and one sweep, with what is on this machine.

    Raises AssertionError for a server or a kept model that no row names, and for a row that says other than what is.
    """
    services = settled(client)
    ended = {name for name, service in services.items() if service.status.state in _ENDED}
    alive = _alive_for_good(home, set(services) - ended)
    assert alive <= set(services), f"servers that no row names: {alive - set(services)}"
    client.servers.sweep()
    kept = {f"sha256:{path.name}" for path in (home / "models").glob("[!.]*")}
    named = {each["model_digest"] for name in services for each in client.servers.revisions(name)}
    assert kept == named, f"kept for nobody: {kept - named}; gone: {named - kept}"
    for service in services.values():
        state = service.status.state
        if state is ServiceState.ACTIVE:
            assert service.id in alive, f"{service} says active, and nothing of it lives"
            assert service.predict([[0]]) in ([1], [2])
        elif state in _ENDED:
            assert service.id not in alive, f"{service} says {state.value}, and it lives: {service.status}"
        else:
            raise AssertionError(f"{service} cannot be asked: {service.status.message}")


MODEL = "def predict(data):\n    return [{answer} for row in data]\n"


def models_in(folder: Path) -> dict[str, str]:
    """Write two models there; returns their URIs by name."""
    for name, answer in (("one", 1), ("two", 2)):
        (folder / f"{name}.py").write_text(MODEL.format(answer=answer), encoding="utf-8")
    return {name: f"{folder}/{name}.py:predict" for name in ("one", "two")}


Operation = Callable[[BaseModelDeployer, dict[str, str]], Any]
NAMES = {"model_name": "iris", "pipeline_name": "training"}
TIMEOUT_SECONDS = 60.0
CROWD_SECONDS = 240.0
"""How long each of many processes has, which take turns on a machine that may be busy with others: no crowd comes near
it.
"""


def deploy(deployer: BaseModelDeployer, models: dict[str, str]) -> None:
    deployer.deploy_model(**NAMES, model_uri=models["one"], timeout=TIMEOUT_SECONDS)


def start(deployer: BaseModelDeployer, models: dict[str, str]) -> None:
    deployer.start_model_server("training/iris", timeout=TIMEOUT_SECONDS)


def stop(deployer: BaseModelDeployer, models: dict[str, str]) -> None:
    deployer.stop_model_server("training/iris", timeout=TIMEOUT_SECONDS)


def update(deployer: BaseModelDeployer, models: dict[str, str]) -> None:
    deployer.deploy_model(**NAMES, model_uri=models["two"], timeout=TIMEOUT_SECONDS, replace=True)


def delete(deployer: BaseModelDeployer, models: dict[str, str]) -> None:
    for service in deployer.find_model_server(refresh=False):
        deployer.delete_model_server(service, timeout=TIMEOUT_SECONDS)


# what is done before, what is broken, and what is so once it was asked for again
OPERATIONS: dict[str, tuple[list[Operation], Operation, ServiceState | None]] = {
    "deploy": ([], deploy, ServiceState.ACTIVE),
    "start": ([deploy, stop], start, ServiceState.ACTIVE),
    "stop": ([deploy], stop, ServiceState.INACTIVE),
    "update": ([deploy], update, ServiceState.ACTIVE),
    "delete": ([deploy], delete, None),
}


def deployer_of(home: Path) -> BaseModelDeployer:
    """The local deployer of a home. The environment is that of the first test that asked for a process."""
    return Client(Settings(home, f"sqlite:///{home / 'stackkit.db'}")).model_deployer("local")


def run(home: Path, operation: str, models: dict[str, str], kill_at: int) -> None:
    """What the killed process does. It ends by itself when ``kill_at`` lies beyond the last point."""
    deployer = deployer_of(home)
    with Points(kill_at, lambda: send_self(signal.SIGKILL)).put_into(deployer):
        OPERATIONS[operation][1](deployer, models)


def fall_asleep(settings: Settings, name: str, models: dict[str, str], at: int) -> None:
    """What the sleeping process does: it stops itself at a point, and exits with 3 when it was fenced afterwards."""
    deployer = Client(settings).model_deployer("local")
    points = Points(at, lambda: send_self(signal.SIGSTOP), anywhere=False)
    try:
        with points.put_into(deployer):
            OPERATIONS[name][1](deployer, models)
    except LeaseLostError:
        os._exit(3)


def deploy_and_tell(settings: Settings, model: str, together: Barrier, answers: SimpleQueue[str]) -> None:
    """What each of many does that deploy the same: together with the others, and it tells the UUID that it got."""
    deployer = Client(settings).model_deployer("local")
    together.wait(CROWD_SECONDS)
    answers.put(deployer.deploy_model(model_name="m", model_uri=model, timeout=CROWD_SECONDS).id)


def start_or_stop(settings: Settings, verb: str, together: Barrier) -> None:
    """What each of several does that start and stop one server, together with the others."""
    deployer = Client(settings).model_deployer("local")
    together.wait(CROWD_SECONDS)
    getattr(deployer, verb)("m", timeout=CROWD_SECONDS)


def operate_at_random(home: Path, models: dict[str, str], seed: int) -> None:
    """Deploy, replace, start, stop and delete a few services for ever. What is refused or overtaken is part of it."""
    chance = random.Random(seed)
    deployer = deployer_of(home)
    while True:
        name = chance.choice(["red", "green", "blue"])
        verb = chance.choice(["deploy", "deploy", "replace", "start", "stop", "delete", "list"])
        with contextlib.suppress(StackkitError):
            if verb in ("deploy", "replace"):
                model = models[chance.choice(sorted(models))]
                deployer.deploy_model(model_name=name, model_uri=model, replace=verb == "replace", timeout=30)
            elif verb == "start":
                deployer.start_model_server(name, timeout=30)
            elif verb == "stop":
                deployer.stop_model_server(name, timeout=30)
            elif verb == "delete":
                deployer.delete_model_server(name, timeout=30)
            else:
                list(deployer.find_model_server())
