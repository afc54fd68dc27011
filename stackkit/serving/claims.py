"""The contract of a server's folder: what its owner writes, what the supervisor writes, and who is alive.

    launch.json   written by the owner before a start: what to serve (Launch)
    lock          locked by the supervisor for its whole life: the lock being held *is* being alive
    state.json    written by the supervisor on each change: what became of it (ServerState)
    logs/         server.log and its older pieces server.log.1, …

Standard library only. Whatever else lies in the folder is left alone, and nothing here deletes anything.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, Self, TypeVar, get_args, get_type_hints

from .batching import DEFAULT_MAX_BATCH_SIZE, Batching
from .logs import LogFormat
from .signature import Casting

PhaseKind = TypeVar("PhaseKind", bound=StrEnum)

LOCK_FILE = "lock"
LAUNCH_FILE = "launch.json"
STATE_FILE = "state.json"
LOG_FOLDER = "logs"
LOG_FILE = "server.log"

DEFAULT_MAX_BODY = 100 * 1024 * 1024
DEFAULT_REQUEST_TIMEOUT = 60.0
DEFAULT_LOG_MAX_BYTES = 10 * 1024 * 1024
DEFAULT_LOG_BACKUPS = 5

_RANGES = {
    "port": (0, 65535),
    "workers": (1, 1024),
    "request_timeout": (0.001, 1_000_000),
    "max_body": (1, 2**40),
    "max_batch_size": (1, 1_000_000),
    "log_max_bytes": (1, 2**40),
    "log_backups": (0, 1000),
}

_WORDS: dict[str, type[StrEnum]] = {"batching": Batching, "casting": Casting, "log_format": LogFormat}


class ClaimError(Exception):
    """A file of the folder is missing, torn, or not one of ours."""


class AlreadyRunningError(ClaimError):
    """Another process holds the lock. ``pid`` is 0 when it lives in a PID namespace that cannot be seen from here."""

    def __init__(self, folder: Path, pid: int) -> None:
        super().__init__(f"the server of {folder} is already running (pid {pid or 'in another PID namespace'})")
        self.pid = pid


class Phase(StrEnum):
    """How far a server has come. READY: every worker has loaded the model at least once."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


class WorkerPhase(StrEnum):
    """How far one worker has come. ENDED: it is waiting to be replaced, or the server is stopping."""

    LOADING = "loading"
    READY = "ready"
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What to serve and how. ``token`` names this one start: a supervisor started with another one ends at once.

    ``model`` is an absolute path or a Python reference. ``port`` 0 lets the supervisor choose: ``preferred_port`` and
    the 200 after it first, then any free one. ``request_timeout`` is in seconds, ``max_body`` and ``log_max_bytes``
    in bytes, ``max_batch_size`` in rows; ``batching`` is a value of Batching, ``casting`` one of Casting,
    ``log_format`` one of LogFormat.
    ``model_name`` is what clients call the model, None for the name of its file. ``format`` is one that
    ``formats.detect`` returns, None to detect it. ``token_file`` holds the bearer token that requests must bear,
    ``certfile`` and ``keyfile`` are for TLS; None for without. ``python`` is the workers' interpreter, None for this
    one. ``gpus`` names a device for each worker, as CUDA_VISIBLE_DEVICES does; None leaves that variable as it is.
    """

    token: str
    model: str
    epoch: int = 0
    revision: int = 0
    format: str | None = None
    host: str = "127.0.0.1"
    port: int = 0
    preferred_port: int | None = None
    workers: int = 1
    request_timeout: float = DEFAULT_REQUEST_TIMEOUT
    max_body: int = DEFAULT_MAX_BODY
    batching: str = Batching.AUTO
    max_batch_size: int = DEFAULT_MAX_BATCH_SIZE
    casting: str = Casting.EXACT
    model_name: str | None = None
    python: str | None = None
    gpus: str | None = None
    token_file: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    log_format: str = LogFormat.TEXT
    log_max_bytes: int = DEFAULT_LOG_MAX_BYTES
    log_backups: int = DEFAULT_LOG_BACKUPS

    def __post_init__(self) -> None:
        """Raises ClaimError naming the field that is out of its range."""
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ClaimError(f"{name} is not between {low} and {high}")
        for name, kind in _WORDS.items():
            if getattr(self, name) not in set(kind):
                raise ClaimError(f"{name} is none of {', '.join(kind)}")
        if self.gpus is not None and len(self.gpus.split(",")) != self.workers:
            raise ClaimError(f"gpus names {len(self.gpus.split(','))} devices, and there are {self.workers} workers")

    @classmethod
    def from_json(cls, values: object) -> Self:
        """Check and take over what JSON held; unknown fields are ignored. Raises ClaimError naming the field."""
        return cls(**_checked(cls, values))


@dataclass(frozen=True, kw_only=True)
class WorkerState:
    """One worker. ``pid`` is None between two lives, ``restarts`` counts the lives after the first."""

    slot: int
    pid: int | None
    phase: WorkerPhase
    restarts: int = 0

    @classmethod
    def from_json(cls, values: object) -> Self:
        checked = _checked(cls, values)
        return cls(**{**checked, "phase": _phase(WorkerPhase, checked["phase"])})


@dataclass(frozen=True, kw_only=True)
class FailedUpdate:
    """Why the update named ``token`` was given up; what was served before is served still."""

    token: str
    revision: int
    error: str

    @classmethod
    def from_json(cls, values: object) -> Self:
        return cls(**_checked(cls, values))


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """What became of the start or update named ``token``. ``pid`` is the supervisor's, ``since`` is when the phase
    began, in epoch seconds. ``port`` is None until it is bound. ``error`` is the reason in phase FAILED.
    ``failed_update`` is of the latest update, None when it went well or goes on.
    """

    token: str
    revision: int
    phase: Phase
    pid: int
    host: str
    port: int | None
    error: str | None
    since: float
    workers: tuple[WorkerState, ...] = field(default=())
    failed_update: FailedUpdate | None = None

    @classmethod
    def from_json(cls, values: object) -> Self:
        """Check and take over what JSON held; unknown fields are ignored. Raises ClaimError naming the field."""
        checked = _checked(cls, values, skip=("workers", "failed_update"))
        failed = values.get("failed_update") if isinstance(values, Mapping) else None
        workers = values.get("workers", []) if isinstance(values, Mapping) else []
        if not isinstance(workers, list):
            raise ClaimError("workers is not a list")
        return cls(
            **{**checked, "phase": _phase(Phase, checked["phase"])},
            workers=tuple(map(WorkerState.from_json, workers)),
            failed_update=None if failed is None else FailedUpdate.from_json(failed),
        )


def write_launch(folder: Path, launch: Launch) -> None:
    """Write launch.json, whole or not at all. Raises OSError."""
    _write(folder / LAUNCH_FILE, asdict(launch))


def read_launch(folder: Path) -> Launch:
    """Read launch.json. Raises ClaimError when it is missing, torn or not ours."""
    path = folder / LAUNCH_FILE
    try:
        return Launch.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, ClaimError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ClaimError(f"{path} cannot be used: {reason}") from error


def write_state(folder: Path, state: ServerState) -> None:
    """Write state.json, whole or not at all. Raises OSError."""
    _write(folder / STATE_FILE, asdict(state))


def request_update(folder: Path, launch: Launch) -> None:
    """Have the running server of the folder go over to ``launch``, which must bear a token of its own, without a
    request being lost. Host, port and number of workers stay.

    Returns at once: it is done when the state's token is the launch's, and given up when that of ``failed_update`` is.
    Raises ClaimError when there is no server that could be updated, OSError.
    """
    state = read_state(folder)
    pid = lock_holder(folder)
    if not pid or state is None or state.phase is not Phase.READY or state.pid != pid:
        raise ClaimError(f"no server of {folder} is ready to be updated")
    write_launch(folder, launch)
    os.kill(pid, signal.SIGUSR1)


def read_state(folder: Path) -> ServerState | None:
    """Read state.json; None when it is missing, torn or not ours. It may be of an earlier start: see its token."""
    try:
        return ServerState.from_json(json.loads((folder / STATE_FILE).read_bytes()))
    except (OSError, ValueError, ClaimError):
        return None


def log_path(folder: Path) -> Path:
    return folder / LOG_FOLDER / LOG_FILE


# POSIX record locks, not flock: they are not inherited by the workers, and the kernel names their holder. The price:
# a process that closes any descriptor of the file gives its lock up, so the holder itself must never open it again.


def hold_lock(folder: Path) -> int:
    """Lock the folder for as long as the returned descriptor stays open. Raises AlreadyRunningError, OSError."""
    path = folder / LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        still_there = path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())
    except BlockingIOError:
        pid = _holder(descriptor)
        os.close(descriptor)
        raise AlreadyRunningError(folder, pid or 0) from None
    except BaseException:
        os.close(descriptor)
        raise
    if not still_there:
        os.close(descriptor)
        raise ClaimError(f"{path} was removed while it was being locked")
    return descriptor


def lock_holder(folder: Path) -> int | None:
    """The PID of the process that holds the folder's lock; None when nobody does, 0 when the holder cannot be seen
    from this PID namespace. Not to be called by the holder itself, which would lose the lock by it.

    Raises ClaimError when the lock file is there and cannot be asked.
    """
    path = folder / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ClaimError(f"{path} cannot be asked for its holder: {error.strerror}") from error
    try:
        return _holder(descriptor)
    finally:
        os.close(descriptor)


_FLOCK_LAYOUTS = {
    "linux": ("hhqqi4x", ("type", "whence", "start", "length", "pid")),
    "darwin": ("qqihh", ("start", "length", "pid", "type", "whence")),
}


def _holder(descriptor: int) -> int | None:
    layout, names = _FLOCK_LAYOUTS[sys.platform]
    question = {"type": fcntl.F_WRLCK, "whence": os.SEEK_SET, "start": 0, "length": 0, "pid": 0}
    packed = struct.pack(layout, *(question[name] for name in names))
    answer = dict(zip(names, struct.unpack(layout, fcntl.fcntl(descriptor, fcntl.F_GETLK, packed)), strict=True))
    # a lock held through an open file description belongs to no process: the kernel says -1
    return None if answer["type"] == fcntl.F_UNLCK else max(answer["pid"], 0)


def _write(path: Path, values: Mapping[str, Any]) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(values, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _checked(kind: type[Any], values: object, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of dataclass ``kind`` found in ``values``, each of its declared type."""
    if not isinstance(values, Mapping):
        raise ClaimError("it does not hold a JSON object")
    hints = get_type_hints(kind)
    checked = {}
    for entry in fields(kind):
        if entry.name in skip:
            continue
        if entry.name not in values:
            if entry.default is MISSING:
                raise ClaimError(f"{entry.name} is missing")
            continue
        value = values[entry.name]
        if not _is_of(value, hints[entry.name]):
            raise ClaimError(f"{entry.name} is ill-typed")
        checked[entry.name] = value
    return checked


def _is_of(value: object, hint: Any) -> bool:
    if isinstance(hint, UnionType):
        return any(_is_of(value, part) for part in get_args(hint))
    if isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, int | float)
    return isinstance(value, str if issubclass(hint, StrEnum) else hint)


def _phase(kind: type[PhaseKind], text: str) -> PhaseKind:
    try:
        return kind(text)
    except ValueError:
        raise ClaimError(f"phase {text!r} is unknown") from None
