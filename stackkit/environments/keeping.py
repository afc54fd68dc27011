"""Where models are kept: one folder for each digest, whole or not there at all.

``<models folder>/<hex>/`` holds ``model/`` for a model that is a folder, and the file itself for one that is a file.
It is put together in a folder beside it and renamed into place, so an interrupted copy is never taken for a model, and
of two processes that keep the same model at once the second finds the first one's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import ModelError
from ..serving import formats
from ..serving.errors import ModelFormatError
from .files import ModelFile, changed, digest_files, format_size, list_files, top_name

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_WORKSPACE_PREFIX = ".partial-"
_FICLONE = 0x40049409


@dataclass(frozen=True)
class KeptModel:
    """``digest`` is hexadecimal; ``path`` is the file or folder that is served."""

    digest: str
    path: Path


def model_format(path: Path, named: str) -> str:
    """The format of the model at ``path``, which people know as ``named``. Raises ModelError when it is no model."""
    try:
        return formats.detect(path)
    except ModelFormatError as error:
        raise ModelError(
            str(error).replace(str(path), named),
            "Name the model itself: an MLflow folder, a file that holds a model, or ./file.py:attribute.",
        ) from error


def keep_copy(source: Path, files: list[ModelFile], models_folder: Path, progress: Callable[[str], None]) -> KeptModel:
    """Keep a copy of the model at ``source``, which is made of ``files``; a no-op when it is kept already.

    Raises ModelError when it cannot be read, when it changes meanwhile, and when the disk is full.
    """
    digest = digest_files(files)
    kept = models_folder / digest
    if not is_kept(kept, files):
        size = sum(file.size for file in files)
        progress(f"copying {format_size(size)}")
        with saving(models_folder, size), workspace(models_folder) as folder:
            content = folder / "content"
            copies = _copy(source, files, content)
            # what is kept must be what its name says, and a source that is being written may be half old, half new
            if digest_files(copies) != digest:
                raise changed(source)
            _put_into_place(content, kept, copies)
    return KeptModel(digest, kept / top_name(files[0].name))


def keep_download(downloaded: Path, models_folder: Path, named: str) -> KeptModel:
    """Keep a model that was downloaded to ``content/model`` or ``content/<file name>`` in a workspace, by moving it.

    ``named`` is what messages call it. Raises ModelError when it is no model and when the disk is full.
    """
    files = list_files(downloaded)
    model_format(downloaded, named)  # what is no model is refused, not kept
    digest = digest_files(files)
    kept = models_folder / digest
    with saving(models_folder, sum(file.size for file in files)):
        _put_into_place(downloaded.parent, kept, files)
    return KeptModel(digest, kept / downloaded.name)


def discard(digest: str, models_folder: Path) -> None:
    """Remove the kept copy of a model by its digest (``sha256:<hex>``); a no-op when there is none."""
    kept = models_folder / digest.removeprefix("sha256:")
    with suppress(FileNotFoundError), workspace(models_folder) as folder:
        kept.rename(folder / "discarded")  # out of sight at once: a folder half removed must not be taken for a model


def is_kept(kept: Path, files: Iterable[ModelFile]) -> bool:
    """Whether ``kept`` holds all of ``files`` in their sizes. Files that a model has since written beside them do not
    count; contents are not read, since they are kept read-only.
    """
    try:
        return all((kept / file.name).stat().st_size == file.size for file in files)
    except OSError:
        return False


@contextmanager
def workspace(models_folder: Path) -> Iterator[Path]:
    """A folder of one's own in the models folder, on one disk with what is kept there; it is removed at the end.

    What a process that was killed has left behind is removed by the next one that asks for a workspace. Makes the
    models folder. Raises OSError.
    """
    models_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_abandoned(models_folder)
    folder, lock = _make_locked_folder(models_folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextmanager
def saving(models_folder: Path, size: int | None = None) -> Iterator[None]:
    """Turn what goes wrong while a model of ``size`` bytes (None: unknown) is saved into a ModelError."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise ModelError(
                f"The model cannot be kept in {models_folder}: {error.strerror or error}.",
                "Set STACKKIT_HOME to a folder that you can write.",
            ) from error
        needed = "more than is free" if size is None else format_size(size)
        raise ModelError(
            f"The disk that holds {models_folder} is full: the model needs {needed}.",
            "Free some space there, or set STACKKIT_HOME to a folder on a larger disk.",
        ) from error


def _copy(source: Path, files: Iterable[ModelFile], content: Path) -> list[ModelFile]:
    copies = []
    for file in files:
        target = content / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            reader = file.path.open("rb")
        except FileNotFoundError as error:
            raise changed(source) from error
        # A hard link would be cheaper, but it shares the inode: a training that truncates and rewrites its file,
        # as joblib.dump does, would rewrite the kept bytes with it. A reflink shares the blocks only until a write.
        with reader, target.open("xb") as writer:
            if not _reflink(reader, writer):
                shutil.copyfileobj(reader, writer, 1 << 20)
            os.fchmod(writer.fileno(), os.fstat(reader.fileno()).st_mode & 0o777)
        copies.append(ModelFile(file.name, target, target.stat().st_size))
    return copies


def _reflink(reader: BinaryIO, writer: BinaryIO) -> bool:
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
    except OSError:  # another disk, or a file system that cannot
        return False
    return True


def _put_into_place(content: Path, kept: Path, files: list[ModelFile]) -> None:
    if is_kept(kept, files):
        return
    for file in files:
        with file.path.open("rb") as opened:
            # writing rights go so that nobody changes the kept bytes by accident
            os.fchmod(opened.fileno(), (os.fstat(opened.fileno()).st_mode & 0o555) | 0o400)
            # without this a power cut could leave the name in place and the file empty
            os.fsync(opened.fileno())
    try:
        content.rename(kept)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        # another process was first, and what it has put there has the same digest; or what is there is damaged
        if not is_kept(kept, files):
            kept.rename(content.parent / "damaged")
            content.rename(kept)


def _make_locked_folder(models_folder: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_WORKSPACE_PREFIX, dir=models_folder))
        # somebody who sweeps may get hold of the folder before it is locked: then there is another one to make
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove_abandoned(models_folder: Path) -> None:
    for folder in models_folder.glob(f"{_WORKSPACE_PREFIX}*"):
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held for as long as its process lives
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
