"""Models in object stores and on servers, fetched through fsspec: ``s3://``, ``gs://``, ``https://`` and the like.

A listing that carries marks of change (an ETag, a version, a time) is remembered with the digest of what it named, so
a model that has not changed is not downloaded again. Without such marks it is downloaded every time.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec

from ..errors import ModelError
from ..serving.model_files import MODEL_FOLDER, is_ignored
from ..settings import write_atomically
from .files import ModelFile, format_size, top_name
from .keeping import DISK_FULL, KeptModel, is_kept, keep_download, saving, workspace

# what the file systems call it: s3fs and HTTP, adlfs, gcsfs, the Hugging Face hub, SFTP and others
_MARKS = (
    "ETag", "etag", "VersionId", "version_id", "generation", "md5Hash", "Content-MD5", "blob_id",
    "LastModified", "last_modified", "Last-Modified", "updated", "mtime",
)  # fmt: skip

# what follows a question mark in an address may be a signature: it is not for messages and logs
_QUERY = re.compile(r"(?<=\S)\?[^\s'\")]+")

PACKAGES = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "http": "aiohttp requests",
    "https": "aiohttp requests",
    "hf": "huggingface_hub",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "oci": "ocifs",
    "oss": "ossfs",
    "smb": "smbprotocol",
    "webdav": "webdav4",
    "hdfs": "pyarrow",
}
"""What fsspec needs beside itself, by protocol."""


@dataclass(frozen=True)
class _RemoteFile:
    """``name`` is as in ModelFile; ``size`` and ``mark`` are None where the file system does not tell."""

    name: str
    address: str
    size: int | None
    mark: str | None


def fetch(uri: str, models_folder: Path, progress: Callable[[str], None]) -> KeptModel:
    """Download the file or folder that ``uri`` names and keep it; a no-op when its listing says that it is kept.

    Raises ModelError when the protocol is unknown or its package missing, when there is nothing or no model there,
    when it cannot be fetched, when it changes meanwhile, and when the disk is full.
    """
    shown = _QUERY.sub("", uri)
    file_system, path = _open_file_system(uri, shown)
    listing = _list(file_system, path, shown)
    remembered = _Index(models_folder, uri)
    if kept := remembered.find(listing):
        return kept

    size = None if any(file.size is None for file in listing) else sum(file.size or 0 for file in listing)
    progress(f"fetching {shown}" if size is None else f"fetching {shown} ({format_size(size)})")
    with saving(models_folder, size), workspace(models_folder) as folder:
        content = folder / "content"
        targets = [content / file.name for file in listing]
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
        with _remote_errors(shown):
            file_system.get([file.address for file in listing], [str(target) for target in targets])
        if _list(file_system, path, shown) != listing:
            raise ModelError(
                f"The model at {shown} changed while it was being fetched; deploy it again.",
                "Wait until whatever writes it has finished.",
            )
        kept = keep_download(content / top_name(listing[0].name), models_folder, shown)
        remembered.write(listing, kept.digest)
    return kept


class _Index:
    """The file that remembers which digest one URI's listing had. The URI itself may be signed: only its hash shows."""

    def __init__(self, models_folder: Path, uri: str) -> None:
        self._models_folder = models_folder
        self._path = models_folder / "index" / f"{hashlib.sha256(uri.encode()).hexdigest()}.json"

    def find(self, listing: list[_RemoteFile]) -> KeptModel | None:
        """The kept model that ``listing`` named the last time; None when it is new, has no marks or is not kept."""
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            digest = stored["digest"]
            if stored["files"] != _marks(listing):
                return None
        except (OSError, ValueError, TypeError, KeyError):
            return None
        kept = self._models_folder / digest
        if not is_kept(kept, [ModelFile(file.name, kept / file.name, file.size or 0) for file in listing]):
            return None
        return KeptModel(digest, kept / top_name(listing[0].name))

    def write(self, listing: list[_RemoteFile], digest: str) -> None:
        """Remember the listing; a no-op when it has no marks. Raises OSError."""
        if (marks := _marks(listing)) is not None:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            write_atomically(self._path, json.dumps({"files": marks, "digest": digest}) + "\n")


def _marks(listing: list[_RemoteFile]) -> list[list[Any]] | None:
    """What tells this listing from a later one; None when one of the files could change unseen."""
    if any(file.mark is None or file.size is None for file in listing):
        return None
    return [[file.name, file.size, file.mark] for file in listing]


def _open_file_system(uri: str, shown: str) -> tuple[Any, str]:
    protocol = uri.partition("://")[0].rpartition("::")[2]
    try:
        file_system, path = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        package = PACKAGES.get(protocol)
        raise ModelError(
            f"{shown} cannot be fetched: the package that reads {protocol}:// is not installed here.",
            f"Install it: pip install {package}" if package else str(error),
        ) from error
    except ValueError as error:
        if protocol in fsspec.available_protocols():
            raise _not_fetched(shown, error) from error
        raise ModelError(
            f"{shown} is no model URI: the protocol {protocol}:// is unknown.",
            "Write a path, models:/name/version, runs:/run/path, s3://…, gs://… or https://…",
        ) from error
    except Exception as error:  # every file system reads its own addresses
        raise _not_fetched(shown, error) from error
    return file_system, path


def _list(file_system: Any, path: str, shown: str) -> list[_RemoteFile]:
    with _remote_errors(shown):
        # a listing from the cache of this process would hide what has changed since
        file_system.invalidate_cache()
        info = file_system.info(path)
        if info["type"] != "directory":
            return [_remote_file(file_system, _file_name(path, shown), {**info, "name": path})]
        found = file_system.find(path, detail=True)
        files = [
            _remote_file(file_system, _name_inside(path, address, shown), info)
            for address, info in found.items()
            if info["type"] == "file" and not address.endswith("/") and not is_ignored(address)
        ]
    if not files:
        raise ModelError(f"The folder {shown} is empty.", "Name the folder that your training saved the model to.")
    return sorted(files, key=lambda file: file.name)


def _remote_file(file_system: Any, name: str, info: dict[str, Any]) -> _RemoteFile:
    marks = {key: str(info[key]) for key in _MARKS if info.get(key)}
    if not marks:
        try:
            marks = {"modified": str(file_system.modified(info["name"]))}
        except NotImplementedError:
            marks = {}
    return _RemoteFile(name, info["name"], info.get("size"), json.dumps(marks, sort_keys=True) if marks else None)


def _file_name(path: str, shown: str) -> str:
    name = PurePosixPath(unquote(urlsplit(path).path) if path.startswith(("http://", "https://")) else path).name
    if name in {"", ".."}:
        raise ModelError(f"{shown} names no file.", "End the address with the name of the model's file.")
    return name


def _name_inside(folder: str, address: str, shown: str) -> str:
    root = folder.rstrip("/") + "/"
    name = PurePosixPath(address.removeprefix(root))
    # the names come from the other side: none of them may lead out of the folder they are written to
    if not address.startswith(root) or name.is_absolute() or ".." in name.parts:
        raise ModelError(f"The folder {shown} lists a file outside itself: {address}.", "Do not use this model.")
    return f"{MODEL_FOLDER}/{name}"


@contextmanager
def _remote_errors(shown: str) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except FileNotFoundError as error:
        if _hides_another(error):
            raise _not_fetched(shown, error.__cause__ or error) from error
        raise ModelError(
            f"There is no model at {shown}.", "Check the address, and that your credentials may see it."
        ) from error
    except PermissionError as error:
        raise ModelError(
            f"The model at {shown} cannot be read: permission denied.",
            "Check the credentials that this machine has for it.",
        ) from error
    except Exception as error:  # every storage library has errors of its own
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        raise _not_fetched(shown, error) from error


def _hides_another(error: FileNotFoundError) -> bool:
    """Whether this is no missing file: to fsspec's HTTP, a host that is silent or refuses is one too."""
    cause = error.__cause__
    return not (cause is None or isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) == 404)


def _not_fetched(shown: str, error: BaseException) -> ModelError:
    reason = _QUERY.sub("", (str(error).strip() or type(error).__name__).splitlines()[0])
    return ModelError(
        f"{shown} could not be fetched: {reason}", "Check the address, the network and this machine's credentials."
    )
