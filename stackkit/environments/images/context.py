"""A build context: the files that an image is made of, by their names in it."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...errors import ImageError
from ..files import changed, format_size, reading
from ..keeping import DISK_FULL

SOURCE_DATE = 315532800
"""1980-01-01, the modification time of every file: the oldest that zip archives can hold too."""

_BLOCK = 512
_CHUNK = 1 << 20
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755  # whatever user the container runs as has to read them


@dataclass(frozen=True)
class ContextFile:
    """``name`` is a POSIX path in the context, ``size`` in bytes, ``content`` the bytes or where they lie."""

    name: str
    size: int
    content: bytes | Path

    @classmethod
    def of_text(cls, name: str, text: str) -> ContextFile:
        content = text.encode()
        return cls(name, len(content), content)

    @classmethod
    def of_path(cls, name: str, path: Path) -> ContextFile:
        """Raises ModelError when there is no file at ``path``."""
        with reading(path):
            return cls(name, path.stat().st_size, path)

    def chunks(self) -> Iterator[bytes]:
        """The bytes, ``size`` of them. Raises ModelError when they cannot be read or have changed since."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        left = self.size
        with reading(self.content), self.content.open("rb") as file:
            while chunk := file.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    break
                yield chunk
        if left:
            raise changed(self.content)


@dataclass(frozen=True)
class BuildContext:
    """The same files, in the same order, give the same bytes: an engine's build cache goes by them.

    ``base_image`` is the one that the Dockerfile among them names.
    """

    base_image: str
    files: tuple[ContextFile, ...]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(file.size for file in self.files)

    def tar(self) -> Iterator[bytes]:
        """The context as a tar archive, in pieces: a model need not fit into memory, nor on the disk once more.

        Raises ModelError when a file cannot be read or changes meanwhile.
        """
        for folder in self._folders():
            yield _header(folder, tarfile.DIRTYPE, _FOLDER_MODE)
        for file in self.files:
            yield _header(file.name, tarfile.REGTYPE, _FILE_MODE, file.size)
            yield from file.chunks()
            yield bytes(-file.size % _BLOCK)
        yield bytes(2 * _BLOCK)

    def write(self, folder: Path) -> None:
        """Write the files into ``folder``, which must be empty or not be there: all of them or none.

        Raises ImageError when the folder holds something, cannot be written or the disk is full, ModelError when a
        file cannot be read or changes meanwhile.
        """
        try:
            if folder.exists() and any(folder.iterdir()):
                raise ImageError(
                    f"The folder {folder} is not empty.",
                    "Name one that is not there yet, or empty it.",
                )
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
                content = Path(temporary) / "content"
                content.mkdir()
                for file in self.files:
                    _write(file, content / file.name)
                for inside in reversed(self._folders()):
                    _finish(content / inside, _FOLDER_MODE)
                content.rename(folder)  # also in place of an empty one
        except OSError as error:
            if error.errno in DISK_FULL:
                raise ImageError(
                    f"The disk that holds {folder} is full: the build context needs {format_size(self.size)}.",
                    "Free some space there, or name a folder on a larger disk.",
                ) from error
            raise ImageError(
                f"The folder {folder} cannot be written: {error.strerror or error}.", "Name one that you can write."
            ) from error

    def _folders(self) -> list[str]:
        """Every folder that a file lies in, each after the one that it lies in itself."""
        found = {str(parent) for file in self.files for parent in PurePosixPath(file.name).parents}
        return sorted(found - {"."})


def _header(name: str, kind: bytes, mode: int, size: int = 0) -> bytes:
    header = tarfile.TarInfo(name)
    header.type, header.mode, header.size, header.mtime = kind, mode, size, SOURCE_DATE
    return header.tobuf(tarfile.PAX_FORMAT)


def _write(file: ContextFile, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as writer:
        for chunk in file.chunks():
            writer.write(chunk)
    _finish(target, _FILE_MODE)


def _finish(path: Path, mode: int) -> None:
    path.chmod(mode)
    os.utime(path, (SOURCE_DATE, SOURCE_DATE))
