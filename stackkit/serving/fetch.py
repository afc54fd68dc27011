"""Fetching a model when its server starts: ``https://`` with the standard library, what else fsspec knows with fsspec.

It runs in a process of its own, ``python -P -m stackkit.serving.fetch``, so that the libraries that storages need do
not stay in the supervisor's memory; or in a container of its own, which Kubernetes runs before the server's.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import OpenerDirector, ProxyHandler, build_opener

from .container import FETCH, PREFIX
from .listening import is_loopback
from .model_files import MODEL_FOLDER, digest, is_ignored

_TIMEOUT = 60.0  # seconds without a byte
_QUERY = re.compile(r"(?<=\S)\?[^\s'\")]+")  # it may be a signature: not for logs


class FetchError(Exception):
    """The model cannot be fetched, or is not the one that was asked for."""


@contextmanager
def fetched(uri: str, expected: str | None) -> Iterator[Path]:
    """The file or folder that ``uri`` names, in a temporary folder for the length of the ``with``.

    ``expected`` is the digest that it must have (``sha256:<hex>``, as ``stackkit.serving.model_files`` has it), None
    for any. To be used in the main thread of a program: SIGTERM ends it with exit code 0 meanwhile, SIGINT with 130.
    Raises FetchError, which the log has explained already.
    """
    handled = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, _exit) for number in handled}
    try:
        with tempfile.TemporaryDirectory(prefix="stackkit-model-") as folder:
            command = [sys.executable, "-P", "-m", f"{__package__}.fetch", uri, folder, expected or ""]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0:
                raise FetchError(f"{_shown(uri)} could not be fetched")
            yield Path(folder, done.stdout.removesuffix("\n"))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fetch(uri: str, folder: Path, expected: str | None = None) -> str:
    """Download what ``uri`` names into ``folder``, which is empty; returns its name there. Raises FetchError."""
    try:
        names = _fetch_http(uri, folder) if uri.startswith(("http://", "https://")) else _fetch_fsspec(uri, folder)
        found = f"sha256:{_digest(folder, names)}"
    except FetchError:
        raise
    except ImportError as error:
        raise FetchError(
            f"{_shown(uri)} cannot be fetched: {error}; the model's environment lacks the package that reads it"
        ) from error
    except Exception as error:  # every storage library has errors of its own
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise FetchError(f"{_shown(uri)} could not be fetched: {_shown(reason)}") from error
    if expected and found != expected:
        raise FetchError(f"the model at {_shown(uri)} has changed: it is {found}, and {expected} was asked for")
    return names[0].partition("/")[0]


def place(uri: str, target: Path, expected: str | None = None) -> None:
    """Have the files of the model that ``uri`` names in the folder ``target``, of a model that is one file that one.

    A no-op when the folder is there: it appears once all of it is. Raises FetchError.
    """
    if target.exists():
        return
    folder = target.with_name(f".{target.name}.part")
    shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
    folder.mkdir(parents=True)
    fetched = folder / fetch(uri, folder, expected)
    (fetched if fetched.is_dir() else folder).rename(target)
    shutil.rmtree(folder, ignore_errors=True)


def _fetch_http(uri: str, folder: Path) -> list[str]:
    name = PurePosixPath(unquote(urlsplit(uri).path)).name
    if name in {"", ".."}:
        raise FetchError(f"{_shown(uri)} names no file")
    try:
        with _opener(uri).open(uri, timeout=_TIMEOUT) as response, (folder / name).open("xb") as file:
            shutil.copyfileobj(response, file, 1 << 20)
    except URLError as error:
        if isinstance(error, HTTPError):
            error.close()  # it is the response as well
        raise FetchError(f"{_shown(uri)} could not be fetched: {error.reason}") from error
    return [name]


def _opener(uri: str) -> OpenerDirector:
    """No proxy is asked for what is on this machine."""
    host = urlsplit(uri).hostname or ""
    return build_opener(ProxyHandler({})) if host == "localhost" or is_loopback(host) else build_opener()


def _fetch_fsspec(uri: str, folder: Path) -> list[str]:
    import fsspec

    file_system, path = fsspec.core.url_to_fs(uri)
    if not file_system.isdir(path):
        name = PurePosixPath(path).name
        file_system.get_file(path, str(folder / name))
        return [name]
    addresses = _addresses(file_system, path)
    if not addresses:
        raise FetchError(f"there is nothing at {_shown(uri)}")
    for name, address in addresses.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        file_system.get_file(address, str(target))
    return sorted(addresses, key=os.fsencode)


def _addresses(file_system: Any, path: str) -> dict[str, str]:
    """The files below a folder, by the name that each gets."""
    root = path.rstrip("/") + "/"
    found = {}
    for address in file_system.find(path):
        inside = PurePosixPath(address.removeprefix(root))
        if address.endswith("/") or is_ignored(address):
            continue
        # the names come from the other side: none of them may lead out of the folder they are written to
        if not address.startswith(root) or inside.is_absolute() or ".." in inside.parts:
            raise FetchError(f"the folder lists a file outside itself: {address}")
        found[f"{MODEL_FOLDER}/{inside}"] = address
    return found


def _digest(folder: Path, names: Sequence[str]) -> str:
    def read() -> Iterator[tuple[str, int, bytes]]:
        for name in names:
            with (folder / name).open("rb") as file:
                yield name, os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").digest()

    return digest(read())


def _shown(text: str) -> str:
    return _QUERY.sub("", text)


def _exit(number: int, _: object) -> None:
    sys.exit(0 if number == signal.SIGTERM else 128 + number)


def main(arguments: Sequence[str]) -> int:
    """``URI FOLDER DIGEST``: print the name of what was fetched; 1 when it cannot be, and the last line says why."""
    uri, folder, expected = arguments
    return _told(uri, lambda: sys.stdout.write(f"{fetch(uri, Path(folder), expected)}\n"))


def main_in_container(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """``FOLDER``: ``place`` there what the variables say that the server would fetch; 1 when it cannot be, 2 without
    any.
    """
    uri = environment.get(f"{PREFIX}MODEL", "")
    if len(arguments) != 1 or "://" not in uri:
        sys.stderr.write(f"usage: {FETCH} FOLDER, with the model's URI in {PREFIX}MODEL\n")
        return 2
    # the first process of a container is deaf to what it does not handle
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    return _told(uri, lambda: place(uri, Path(arguments[0]), environment.get(f"{PREFIX}MODEL_DIGEST")))


def _told(uri: str, work: Callable[[], object]) -> int:
    sys.stderr.write(f"fetching {_shown(uri)}\n")
    try:
        work()
    except FetchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
