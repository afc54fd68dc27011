"""Removing kept models that nobody needs any more.

The folder of a kept model holds a small file for each database whose rows name it, or will in a moment: several may
share a home, and none may remove what another needs. That file is written before the row is, so that a deploy which
is killed in between leaves bytes that the next sweep of the same database finds. What a deploy that lives has kept
and not yet written down is protected by a lock, which it shares with others and which a sweeper needs alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ModelError
from .keeping import discard, saving

_DIGEST = re.compile(r"[0-9a-f]{64}")
_USER_PREFIX = ".used-by-"
_LOCK_SECONDS = 30.0


@contextmanager
def holding(models_folder: Path) -> Iterator[None]:
    """Have nothing swept meanwhile. Raises ModelError when the folder beside which the lock lies cannot be written."""
    with saving(models_folder):
        descriptor = _open_lock(models_folder)
    try:
        _share(descriptor, models_folder)
        yield
    finally:
        os.close(descriptor)


def note_user(digest: str, models_folder: Path, user: str) -> None:
    """Write down that ``user`` needs the kept model of a digest (``sha256:<hex>``); a no-op when none is kept.

    To be called while it is held. ``user`` is a database's URL, or whatever else tells a person who it is.
    Raises ModelError.
    """
    kept = models_folder / digest.removeprefix("sha256:")
    if kept.is_dir():
        with saving(models_folder):
            _user_file(kept, user).write_text(f"{user}\n", encoding="utf-8")


def sweep(models_folder: Path, user: str, named: Callable[[Collection[str]], Collection[str]]) -> list[str]:
    """Remove the kept models that ``user`` does not need, and nobody else does; returns their digests.

    ``named`` picks out of some digests those that ``user`` needs. A no-op while a deploy holds the folder, and where
    it cannot be written: what is left is found by the next sweep.
    """
    if not models_folder.is_dir():
        return []
    with suppress(OSError), _alone(models_folder):
        return _sweep(models_folder, user, named)
    return []


def _sweep(models_folder: Path, user: str, named: Callable[[Collection[str]], Collection[str]]) -> list[str]:
    kept = {f"sha256:{path.name}": path for path in models_folder.iterdir() if _DIGEST.fullmatch(path.name)}
    needed = named(kept.keys())
    swept = []
    for digest, folder in kept.items():
        if digest in needed:
            _user_file(folder, user).touch()  # what an older stackkit has kept bears no such file
            continue
        _user_file(folder, user).unlink(missing_ok=True)
        if not any(folder.glob(f"{_USER_PREFIX}*")):
            discard(digest, models_folder)
            swept.append(digest)
    return swept


def _user_file(kept: Path, user: str) -> Path:
    return kept / f"{_USER_PREFIX}{hashlib.sha256(user.encode()).hexdigest()[:16]}"


@contextmanager
def _alone(models_folder: Path) -> Iterator[None]:
    """Have nobody hold the folder meanwhile. Raises BlockingIOError when somebody does."""
    descriptor = _open_lock(models_folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _open_lock(models_folder: Path) -> int:
    models_folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = models_folder.with_name(f"{models_folder.name}.lock")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _share(descriptor: int, models_folder: Path) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            # a sweep takes no longer than it takes to delete the files; who sweeps longer was suspended, or its disk
            if time.monotonic() >= deadline:
                raise ModelError(
                    f"Another process has been removing models from {models_folder} for long.", "Try again."
                ) from error
        time.sleep(0.01)
