"""The folder of one server: written before a start, read by every check, removed with the service.

What a supervisor and its owner write there is the contract in ``stackkit.serving.claims``. This side of it adds the
fence: a launch is written under a lock of its own and never over one of a higher epoch, so that whoever slept through
the expiry of a lease cannot start anything.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import DeploymentError, LeaseLostError, PlatformUnavailableError
from ..serving import claims
from ..serving.claims import ClaimError, Launch, ServerState
from ..settings import write_atomically

_STOPPED = "stopped"
_FENCE_FILE = "launch.lock"
_SERVICE_FILE = "service"
_TOKEN_FILE = "token"  # noqa: S105 - the file's name
_FENCE_SECONDS = 10.0
_KILL_AFTER_SECONDS = 15.0  # longer than a supervisor gives its workers to end


class ServerFolder:
    """The folder of one server."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make the folder, for its owner alone. Raises DeploymentError."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise DeploymentError(
                f"The server's folder {self.path} cannot be made: {error.strerror or error}.",
                "Make room or give yourself the right to write there.",
            ) from error

    def write_service(self, service: Mapping[str, Any]) -> None:
        """Keep what tells of a revision of the service beside its server, for the day on which the database does not.

        A file for each revision: an update may be given up, and then the old one serves on. Raises DeploymentError.
        """
        path, serving = self._service_path(service["revision"]), self._serving_revision()
        self._write_file(path, json.dumps(service) + "\n")
        for file in self.path.glob(f"{_SERVICE_FILE}-*.json"):
            if file != path and (serving is None or file != self._service_path(serving)):
                file.unlink(missing_ok=True)

    def read_service(self) -> dict[str, Any] | None:
        """What ``write_service`` kept of the revision that serves, or did last; None where there is nothing of it."""
        revision = self._serving_revision()
        if revision is None:
            return None
        try:
            kept = json.loads(self._service_path(revision).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return kept if isinstance(kept, dict) else None

    def write_token(self, revision: int, token: str) -> Path:
        """Keep the token that a revision's requests must bear, for the server to read; returns where.

        A file for each revision: until an update is through, the old one serves with its own. Raises DeploymentError.
        """
        path = self._token_path(revision)
        self._write_file(path, token + "\n")
        return path

    def read_token(self) -> str | None:
        """The token that the server asks for, None when it asks for none. Raises PlatformUnavailableError."""
        state = self.state()
        if state is None:
            return None
        try:
            return self._token_path(state.revision).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PlatformUnavailableError(f"The server's token cannot be read: {error.strerror or error}.") from error

    def holder(self) -> int | None:
        """The PID of the supervisor that lives, 0 when it cannot be seen from here, None when there is none.

        Raises PlatformUnavailableError when the folder may not be read.
        """
        try:
            return claims.lock_holder(self.path)
        except ClaimError as error:
            raise PlatformUnavailableError(f"The server cannot be asked: {error}.") from error

    def launch(self) -> Launch | None:
        """What is to be served; None when nothing is."""
        try:
            return claims.read_launch(self.path)
        except ClaimError:
            return None

    def is_stopped(self) -> bool:
        """Whether the last thing asked of it was to stop, or nothing ever was."""
        launch = self.launch()
        return launch is None or launch.token.startswith(_STOPPED)

    def state(self) -> ServerState | None:
        """What the supervisor of the present launch wrote last; None before it wrote anything.

        One that lives may still serve an earlier launch, which it is going over from.
        """
        launch, state = self.launch(), claims.read_state(self.path)
        if launch is None or state is None:
            return None
        return state if state.token == launch.token or state.pid == self.holder() else None

    def write_launch(self, launch: Launch) -> str:
        """Write a launch under a new token, and return that.

        Raises LeaseLostError when a later owner has written there, and DeploymentError when it cannot be written.
        """
        return self._write(_with_token(launch))

    def update(self, launch: Launch) -> None:
        """Have the running server go over to ``launch``.

        Raises LeaseLostError when a later owner has written there, and DeploymentError when nothing can be updated.
        """
        try:
            with self._fence():
                self._check_epoch(launch.epoch)
                claims.request_update(self.path, _with_token(launch))
        except (ClaimError, OSError) as error:
            raise DeploymentError(f"The server cannot be updated: {error}.", "Stop it, and start it again.") from error

    def withdraw(self, epoch: int) -> None:
        """Make sure that no start under way can still succeed; a no-op where nothing was launched."""
        launch = self.launch()
        if launch is not None and not launch.token.startswith(_STOPPED):
            self._write(replace(launch, epoch=epoch, token=f"{_STOPPED}-{secrets.token_hex(8)}"))

    def terminate(self, epoch: int) -> None:
        """Ask the supervisor to end, and kill one that was asked long ago; a no-op when none lives.

        Only the process that holds the folder's lock is ever signalled. Raises LeaseLostError when a later owner than
        the one of ``epoch`` has had it started, and DeploymentError when it cannot be signalled.
        """
        pid = self.holder()
        if pid is None:
            return
        if pid == 0:
            raise DeploymentError(
                "The server runs in another PID namespace and cannot be stopped from here.", "Stop it from there."
            )
        overdue = self.is_stopped() and time.time() - self._launch_written() > _KILL_AFTER_SECONDS
        self._signal(pid, signal.SIGKILL if overdue else signal.SIGTERM, epoch)

    def remove(self, epoch: int) -> None:
        """Delete what the server wrote, and the folder unless something foreign lies in it; a no-op when it is gone.

        Raises DeploymentError while the server lives, and LeaseLostError when a later owner than the one of ``epoch``
        starts one there.
        """
        if not self.is_stopped():
            self._check_epoch(epoch)
        # under another name first: a start that was withdrawn and comes this late finds no folder to write to
        doomed = self.path.with_name(f".{self.path.name}.removed")
        if doomed.exists():  # whoever began this was killed
            _empty(doomed)
        if self.path.exists():
            if self.holder() is not None:
                raise DeploymentError(f"The server in {self.path} still runs.")
            if doomed.exists():  # it holds something foreign, and the server was started again since
                _empty(self.path)
                return
            self.path.rename(doomed)
            _empty(doomed)
        if doomed.exists():
            doomed.rename(self.path)

    def _launch_written(self) -> float:
        try:
            return (self.path / claims.LAUNCH_FILE).stat().st_mtime
        except FileNotFoundError:  # somebody has deleted it
            return time.time()

    def _serving_revision(self) -> int | None:
        """The revision that serves, or did last; that which is to be started where none has yet."""
        known = self.state() or self.launch()
        return None if known is None else known.revision

    def _service_path(self, revision: int) -> Path:
        return self.path / f"{_SERVICE_FILE}-{revision}.json"

    def _token_path(self, revision: int) -> Path:
        return self.path / f"{_TOKEN_FILE}-{revision}"

    def _write_file(self, path: Path, text: str) -> None:
        try:
            write_atomically(path, text)
        except OSError as error:
            raise DeploymentError(
                f"The server's folder {self.path} cannot be written: {error.strerror or error}.", "Make room there."
            ) from error

    def _write(self, launch: Launch) -> str:
        try:
            with self._fence():
                self._check_epoch(launch.epoch)
                claims.write_launch(self.path, launch)
        except OSError as error:
            raise DeploymentError(
                f"The server's folder {self.path} cannot be written: {error.strerror or error}.", "Make room there."
            ) from error
        return launch.token

    def _check_epoch(self, epoch: int) -> None:
        current = self.launch()
        if current is not None and current.epoch > epoch:
            raise LeaseLostError(f"Another process has taken over the server in {self.path}.")

    @contextmanager
    def _fence(self) -> Iterator[None]:
        descriptor = os.open(self.path / _FENCE_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            _lock(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _signal(self, pid: int, number: signal.Signals, epoch: int) -> None:
        try:
            if not hasattr(os, "pidfd_open"):
                self._check_epoch(epoch)
                os.kill(pid, number)
                return
            descriptor = os.pidfd_open(pid)
            try:
                # the descriptor is of whoever has the number now: make sure that this is still the lock's holder, and
                # the lock's holder still the server that is to end
                self._check_epoch(epoch)
                if self.holder() == pid:
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)
        except ProcessLookupError:
            pass  # it has ended in between
        except PermissionError as error:
            raise DeploymentError(
                f"The server's process {pid} belongs to another user.", "Stop it as the user who deployed it."
            ) from error


def _empty(folder: Path) -> None:
    """Delete what a server and its owner write in a folder, and the folder when that was all."""
    logs = folder / claims.LOG_FOLDER
    written = (claims.LAUNCH_FILE, claims.STATE_FILE)
    ours = [folder / name for name in (*written, claims.LOCK_FILE, _FENCE_FILE)]
    ours += [*folder.glob(f"{_TOKEN_FILE}-*"), *folder.glob(f"{_SERVICE_FILE}-*")]
    # what a process was writing when it was killed
    patterns = (*(f".{name}.*" for name in written), f".{_TOKEN_FILE}-*", f".{_SERVICE_FILE}-*")
    ours += [file for pattern in patterns for file in folder.glob(pattern)]
    for file in (*logs.glob(f"{claims.LOG_FILE}*"), *ours):
        file.unlink(missing_ok=True)
    for each in (logs, folder):
        if each.is_dir() and not any(each.iterdir()):
            each.rmdir()


def _with_token(launch: Launch) -> Launch:
    return replace(launch, token=f"{launch.epoch}-{secrets.token_hex(8)}")


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + _FENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            # it is held for one small write; whoever holds it longer was suspended, or its disk was
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.01)
