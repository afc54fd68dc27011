"""A model's files as a gzipped tar archive, the form in which SageMaker takes them.

The same files give the same bytes, on any machine and at any time, and the archive is never whole in memory or on disk.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from stackkit.environments.files import ModelFile, changed
from stackkit.serving.model_files import MODEL_FOLDER

_CHUNK = 1 << 20
_LEVEL = 1  # weights hardly shrink at any level, and this one is several times as fast as the usual 6
_GZIP = 16 + zlib.MAX_WBITS  # a gzip header, which zlib writes without a time


class ArchiveReader(io.RawIOBase):
    """The archive of ``files``, to be read once from beginning to end.

    A model that is a folder lies in it without that folder, one that is a file under its name. Raises ModelError
    while being read when a file is gone or has another size than was listed. ``taken`` is told how many bytes of the
    files have been read, each time that some were.
    """

    def __init__(self, files: Iterable[ModelFile], taken: Callable[[int], None]) -> None:
        self._chunks = _compressed(_tar(files, taken))
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        taken = min(len(buffer), len(self._rest))
        buffer[:taken] = self._rest[:taken]
        self._rest = self._rest[taken:]
        return taken


def archive(files: Iterable[ModelFile], taken: Callable[[int], None] = lambda size: None) -> io.BufferedReader:
    """A readable binary file that is the archive of ``files``; see ArchiveReader."""
    return io.BufferedReader(ArchiveReader(files, taken), _CHUNK)


def _compressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    for chunk in chunks:
        if compressed := compressor.compress(chunk):
            yield compressed
    yield compressor.flush()


def _tar(files: Iterable[ModelFile], taken: Callable[[int], None]) -> Iterator[bytes]:
    for file in files:
        info = tarfile.TarInfo(file.name.removeprefix(f"{MODEL_FOLDER}/"))
        info.size = file.size
        info.mode = 0o644  # owner and times stay zero: they would make two archives of one model differ
        yield info.tobuf(tarfile.PAX_FORMAT)
        for chunk in _contents(file.path, file.size):
            taken(len(chunk))
            yield chunk
        yield bytes(-file.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _contents(path: Path, size: int) -> Iterator[bytes]:
    left = size
    try:
        with path.open("rb") as opened:
            while chunk := opened.read(min(_CHUNK, left)):
                left -= len(chunk)
                yield chunk
            if left or opened.read(1):
                raise changed(path)
    except FileNotFoundError as error:
        raise changed(path) from error
