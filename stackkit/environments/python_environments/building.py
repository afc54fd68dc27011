"""Building an environment once, however many want it at the same time and whoever is killed meanwhile."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from ...errors import DeploymentTimeoutError, ModelError
from ...settings import write_atomically
from .. import runtime
from ..pip_lines import RUN_HERE, without_credentials
from .installing import install_environment, run
from .managers import commands, interpreter
from .specification import EnvironmentSpec

_LOCK_FILE, _MARKER, _ENVIRONMENT = "lock", "environment.json", "env"
_USER_PREFIX = "used-by-"
_POLL_SECONDS = 0.1
_CHECK = "import stackkit.serving.worker, stackkit.serving.http_server, sysconfig"
_LEAST_ROOM = 1 << 20  # bytes; where less is free, nothing can be installed
_MAKE_ROOM = "A disk is full: make room in {} and {}, or set STACKKIT_HOME and TMPDIR to folders on larger ones."
_WHERE = "import sysconfig; print(sysconfig.get_path('purelib'))"


@dataclass(frozen=True)
class BuiltEnvironment:
    """One that is whole. ``made_of`` is its specification, as plain values."""

    folder: Path
    made_of: Mapping[str, Any]
    created: datetime

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def python(self) -> str:
        """The path of its interpreter."""
        return str(interpreter(self.folder / _ENVIRONMENT))

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The environment in ``folder``; None when there is none, or none that is whole and can still be run."""
        try:
            marker = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
            found = cls(folder, marker["made_of"], datetime.fromisoformat(marker["created"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return found if os.access(found.python, os.X_OK) else None  # the Python it was made with may be gone


def ensure(
    spec: EnvironmentSpec,
    environments_folder: Path,
    *,
    progress: Callable[[str], None],
    deadline: float | None = None,
    user: str | None = None,
) -> BuiltEnvironment:
    """The environment that ``spec`` says, built first unless there is one; of several callers one builds, the others
    wait for it. What fails leaves nothing.

    ``deadline`` is by time.monotonic(), None for none. ``user`` is a database's URL or whatever else tells who will
    go on needing it, and is noted beside it. Raises ModelError with the installer's own reason, and
    DeploymentTimeoutError.
    """
    folder = environments_folder / spec.name
    with _saving(environments_folder):
        with _locked(folder, fcntl.LOCK_SH, progress, deadline):
            if found := BuiltEnvironment.read(folder):
                _note(folder, user)
                return found
        with _locked(folder, fcntl.LOCK_EX, progress, deadline) as lock:
            found = BuiltEnvironment.read(folder) or _build(spec, folder, lock, progress, deadline)
            _note(folder, user)
            return found


def hold(environment: BuiltEnvironment) -> int:
    """A descriptor that keeps the environment from being removed while it is open, in this process or in the program
    that takes its place. Raises ModelError when it has been removed.
    """
    try:
        descriptor = os.open(environment.folder / _LOCK_FILE, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        os.set_inheritable(descriptor, True)
        if BuiltEnvironment.read(environment.folder) is not None:
            return descriptor
        os.close(descriptor)
    except FileNotFoundError:
        pass
    raise ModelError("The model's environment was removed just now.", "Run the command again.")


def find_all(environments_folder: Path) -> list[BuiltEnvironment]:
    """Every environment that is whole, the newest first."""
    found = [built for folder in environments_folder.glob("*") if (built := BuiltEnvironment.read(folder))]
    return sorted(found, key=lambda built: built.created, reverse=True)


def size(environment: BuiltEnvironment) -> int:
    """The bytes of its files; what is a link, or shared with uv's cache by hard links, does not count."""
    total = 0
    for folder, _, names in os.walk(environment.folder):
        for name in names:
            with suppress(FileNotFoundError):  # somebody is removing it
                status = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - there are tens of thousands
                total += status.st_size if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 else 0
    return total


def remove_unused(environments_folder: Path, user: str, is_needed: Callable[[str], bool]) -> list[str]:
    """Remove every environment, and every remains of one, that nobody holds and no other user has noted, and of whose
    name ``is_needed`` says no: that speaks for ``user``, and is asked while nobody can begin to use it.

    Returns the names of those that were removed.
    """
    removed = []
    for folder in sorted(lock.parent for lock in environments_folder.glob(f"*/{_LOCK_FILE}")):
        try:
            with _locked(folder, fcntl.LOCK_EX, lambda _: None, time.monotonic()):
                if is_needed(folder.name):
                    continue
                _user_file(folder, user).unlink(missing_ok=True)
                if not any(folder.glob(f"{_USER_PREFIX}*")):
                    _clear(folder)
                    shutil.rmtree(folder)
                    removed.append(folder.name)
        except DeploymentTimeoutError:
            continue  # somebody uses it, or is building it
    return removed


def _build(
    spec: EnvironmentSpec, folder: Path, lock: int, progress: Callable[[str], None], deadline: float | None
) -> BuiltEnvironment:
    environment = folder / _ENVIRONMENT
    _clear(folder)
    try:
        progress(f"building the model's environment with {spec.manager}")
        for command in commands(spec, folder, environment):
            run(command, folder=folder, lock=lock, progress=progress, deadline=deadline)
        progress("adding the model server")
        runtime.copy_into(Path(_ask(environment, _WHERE)))
        _ask(environment, _CHECK)
        marker = {"made_of": _shown(spec), "created": datetime.now(UTC).isoformat()}
        write_atomically(folder / _MARKER, json.dumps(marker, indent=1) + "\n")
    except BaseException as error:
        full = _is_full(folder, error)
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, ModelError) and error.hint is None:
            hint = f"Mend the model's requirements or the way to the package index, or {RUN_HERE}."
            raise ModelError(
                f"The model's environment could not be built with {spec.manager}: {error.message}",
                _MAKE_ROOM.format(folder.parent, tempfile.gettempdir()) if full else hint,
            ) from error
        raise
    built = BuiltEnvironment.read(folder)
    if built is None:
        raise ModelError(f"The model's environment in {folder} has no interpreter.")
    return built


def _shown(spec: EnvironmentSpec) -> dict[str, Any]:
    """The specification as it is told: without passwords of indexes, and with all that it installs in one list."""
    values = asdict(spec)
    lines = {
        name: [without_credentials(line) for line in values[name]] for name in ("packages", "options", "constraints")
    }
    return {**values, **lines, "packages": [*lines["packages"], *values["server_packages"]]}


def _is_full(folder: Path, error: BaseException) -> bool:
    """Whether a disk has become full, which not every installer says: venv leaves out what the program said it ran."""
    return "No space left on device" in str(error) or shutil.disk_usage(folder.parent).free < _LEAST_ROOM


def _ask(environment: Path, question: str) -> str:
    """What the environment's interpreter prints. Raises ModelError with its last line when it fails."""
    answer = subprocess.run(
        [str(interpreter(environment)), "-P", "-c", question],
        env=install_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        said = answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"]
        raise ModelError(f"the model server cannot be run in it: {said[-1]}")
    return answer.stdout.strip()


def _note(folder: Path, user: str | None) -> None:
    if user is not None:
        _user_file(folder, user).write_text(f"{user}\n", encoding="utf-8")


def _user_file(folder: Path, user: str) -> Path:
    return folder / f"{_USER_PREFIX}{hashlib.sha256(user.encode()).hexdigest()[:16]}"


def _clear(folder: Path) -> None:
    """Remove all but the lock and the users' notes; the marker first, since what is half removed is not whole."""
    (folder / _MARKER).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _LOCK_FILE and not path.name.startswith(_USER_PREFIX):
            path.unlink()


@contextmanager
def _locked(folder: Path, kind: int, progress: Callable[[str], None], deadline: float | None) -> Iterator[int]:
    """Hold the folder's lock, which is made if need be. Raises DeploymentTimeoutError, OSError."""
    descriptor = -1
    try:
        while descriptor < 0:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                descriptor = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                continue  # removed in between
            _lock(descriptor, kind, progress, deadline)
            if not _is_at(descriptor, folder / _LOCK_FILE):
                os.close(descriptor)
                descriptor = -1
        yield descriptor
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _lock(descriptor: int, kind: int, progress: Callable[[str], None], deadline: float | None) -> None:
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if deadline is not None and time.monotonic() >= deadline:
                raise DeploymentTimeoutError(
                    "The model's environment is being built by another process, which takes too long.",
                    "Give it more time with --timeout (timeout=…).",
                ) from None
        progress("waiting for another process that builds the model's environment")
        time.sleep(_POLL_SECONDS)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _saving(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"The model's environment cannot be kept in {folder}: {error.strerror or error}.",
            "Make room there, or set STACKKIT_HOME to a folder that you can write.",
        ) from error
