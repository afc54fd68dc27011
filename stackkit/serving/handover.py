"""Handing another model over to a server that runs in a container, through a folder that it shares.

The new model's image runs ``hand-over`` in a container of its own, which copies the model into the folder and writes
down what is asked for; SIGUSR1 then tells the server, which goes over to it without losing a request.

    request.json   what was asked for last (Handover)
    served.json    the request that is served, by the server; not there while it serves what its own image holds
    state.json     what became of it (stackkit.serving.claims.ServerState), by the server
    models/<hex>/  the models themselves, by digest

A server that is started again serves what it served before. The folder never holds more than three models: the one
that is served, and the last two that were asked for. Standard library only.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from . import claims, container
from .claims import ClaimError, FailedUpdate, Launch, ServerState

REQUEST_FILE = "request.json"
SERVED_FILE = "served.json"

SUPERSEDED = 3
"""The exit code of ``hand-over`` when one of a higher epoch has come before it."""

_LOCK_FILE = "lock"
_MODELS_FOLDER = "models"


@dataclass(frozen=True, kw_only=True)
class Handover:
    """What a server is asked to serve from now on.

    ``token`` names this one request, ``epoch`` is its owner's (a lower one never replaces a higher one), ``revision``
    its number, ``digest`` the model's (``sha256:<hex>``), ``model`` where that is in the folder, as Launch has it, and
    ``kept`` a text that is kept with it for its owner.
    """

    token: str
    epoch: int
    revision: int
    digest: str
    kept: str
    model: str = ""

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Raises ClaimError when the text is torn or not ours."""
        try:
            values = json.loads(text)
            return cls(
                token=str(values["token"]),
                epoch=int(values["epoch"]),
                revision=int(values["revision"]),
                digest=str(values["digest"]),
                kept=str(values["kept"]),
                model=str(values["model"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ClaimError(f"it is no handover: {error}") from error

    def as_json(self) -> str:
        return json.dumps(asdict(self))


class Receiver:
    """The server's side. ``own`` is what its image and its command line have it serve."""

    def __init__(self, folder: Path, own: Launch) -> None:
        self._folder = folder
        self._own = own
        self._served = _read(folder / SERVED_FILE)
        self._asked: Handover | None = None

    def launch(self) -> Launch:
        """What to begin with: what was served last."""
        return self._own if self._served is None else _launch(self._own, self._served)

    def dropped(self) -> FailedUpdate | None:
        """The request that a former process of the server has not gone over to; None when there is none."""
        asked = _read(self._folder / REQUEST_FILE)
        if asked is None or (self._served is not None and asked.token == self._served.token):
            return None
        error = "the server was started again before it had gone over"
        return FailedUpdate(token=asked.token, revision=asked.revision, error=error)

    def reread(self) -> Launch:
        """What was asked for last. Raises ClaimError when nothing was."""
        self._asked = _read(self._folder / REQUEST_FILE)
        if self._asked is None:
            raise ClaimError(f"{self._folder / REQUEST_FILE} is not there")
        return _launch(self._own, self._asked)

    def report(self, state: ServerState) -> None:
        """Write down what is served, for the next process, and then how it is, for whoever asks. Raises OSError."""
        if self._asked is not None and self._asked.token == state.token and self._asked != self._served:
            _write(self._folder / SERVED_FILE, asdict(self._asked))
            self._served = self._asked
        claims.write_state(self._folder, state)


def hand_over(folder: Path, model: str, asked: Handover) -> int:
    """Copy the folder that ``model`` lies in, and ask the server for it; returns the exit code.

    Done again it copies nothing. Whenever it is killed, the server goes on with what it serves. Raises OSError.
    """
    models = folder / _MODELS_FOLDER
    models.mkdir(exist_ok=True)
    with _locked(folder):
        before = _read(folder / REQUEST_FILE)
        if before is not None and before.epoch > asked.epoch:
            return SUPERSEDED
        served = _read(folder / SERVED_FILE)
        target = models / _name(asked)
        needed = {target.name} | {_name(each) for each in (before, served) if each is not None}
        for path in models.iterdir():
            if path.name not in needed:
                shutil.rmtree(path)
        if not target.exists():
            _copy(Path(model).parent, target)
        named = replace(asked, model=str(target / Path(model).name))
        _write(folder / REQUEST_FILE, asdict(named))
    return 0


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """``hand-over REQUEST``, in a container of the new image; the exit code is 0 when the server can be told.

    ``environment`` names the folder as it does for the server; when the model cannot be copied, stderr says why.
    """
    options = container.defaults(environment)
    try:
        return hand_over(Path(options["handover"]), options["model"], Handover.from_json(arguments[0]))
    except ClaimError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        # a tree that cannot be copied says so of each of its files
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror or error
        sys.stderr.write(f"the model cannot be copied: {reason}\n")
        return 1


def _launch(own: Launch, handover: Handover) -> Launch:
    return replace(own, token=handover.token, epoch=handover.epoch, revision=handover.revision, model=handover.model)


def _name(handover: Handover) -> str:
    return handover.digest.rpartition(":")[2]


def _copy(source: Path, target: Path) -> None:
    """Copy a folder, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as temporary:
        copy = Path(temporary, target.name)
        shutil.copytree(source, copy)
        for path in copy.rglob("*"):
            if path.is_file():
                _flush(path)
        copy.rename(target)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> Handover | None:
    """None when it is not there. Raises ClaimError when it cannot be read."""
    try:
        return Handover.from_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ClaimError(f"{path} cannot be read: {error.strerror}") from error


def _write(path: Path, values: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}")  # of two writers of one file there is only ever one
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(values, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / _LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
