"""The two files: of which format they are, whether they can be used, and the output that is there whole or not at all.

Standard library only: the command line looks at the files before a model is fetched.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, cast

from .errors import BatchError


class FileFormat(StrEnum):
    CSV = "CSV"
    JSON = "JSON"
    JSON_LINES = "JSON Lines"
    PARQUET = "Parquet"


_SUFFIXES = {
    ".csv": FileFormat.CSV,
    ".json": FileFormat.JSON,
    ".jsonl": FileFormat.JSON_LINES,
    ".ndjson": FileFormat.JSON_LINES,
    ".parquet": FileFormat.PARQUET,
}
_GZIP = ".gz"
_LEVEL = 6
"""Of gzip: Python's default of 9 takes several times as long for a hundredth of the size."""


def file_format(path: Path) -> FileFormat:
    """The format that the suffix names, behind which ``.gz`` may follow for text. Raises BatchError for any other."""
    suffix = _uncompressed(path).suffix.lower()
    found = _SUFFIXES.get(suffix)
    if found is None or (found is FileFormat.PARQUET and _is_gzip(path)):
        raise BatchError(
            f"{path} has no suffix that names its format.",
            f"Name a file that ends in {', '.join(_SUFFIXES)}; all but Parquet may be followed by {_GZIP}.",
        )
    return found


def check(source: Path, target: Path) -> None:
    """Raises BatchError when ``source`` cannot be read, or no file can be put at ``target``. Changes nothing."""
    file_format(source)
    file_format(target)
    try:
        if stat.S_ISDIR(source.stat().st_mode):
            raise BatchError(f"{source} is a folder.", "Name one file in it.")
        if not os.access(source, os.R_OK):
            raise BatchError(f"{source} cannot be read.", "Check its permissions.")
        if target.exists():
            if source.samefile(target):
                raise BatchError(f"{target} is both input and output.", "Name another file for the predictions.")
            if not target.is_file():
                raise BatchError(f"{target} is there and is no file.", "Name a file for the predictions.")
        folder = target.resolve().parent
        if not folder.is_dir():
            raise BatchError(f"There is no folder {folder}.", "Make it, or name another file for the predictions.")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise BatchError(f"Nothing can be written in {folder}.", "Name another file for the predictions.")
    except FileNotFoundError:
        raise BatchError(f"There is no file {source}.", "Check the path of the input.") from None
    except OSError as error:
        raise BatchError(f"{error.filename or source} cannot be used: {error.strerror or error}.") from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The file's content, decompressed, and the file itself, whose position tells how much of it has been read."""
    with path.open("rb") as file:
        if not _is_gzip(path):
            yield file, file
            return
        with gzip.GzipFile(fileobj=file, mode="rb") as content:
            yield cast(IO[bytes], content), file


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, compressed if it is called so, that takes the place of ``path`` at the end of the block.

    It lies beside ``path`` until it is whole and on the disk; when the block raises, it is removed, and what was at
    ``path`` stays. The place of a link is that of the file it leads to. Raises OSError.
    """
    path = path.resolve()
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            if path.exists():
                shutil.copymode(path, partial)
            if _is_gzip(path):
                # neither the file's temporary name nor the time: the same predictions are the same bytes
                with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=_LEVEL, mtime=0) as compressed:
                    yield cast(IO[bytes], compressed)
            else:
                yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_gzip(path: Path) -> bool:
    return path.suffix.lower() == _GZIP


def _uncompressed(path: Path) -> Path:
    return path.with_suffix("") if _is_gzip(path) else path
