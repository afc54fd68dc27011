"""From a model URI to the digest of its bytes, the place it is served from, and its format."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..errors import ModelError
from . import mlflow_models
from .files import ModelFile, digest_files, list_files, reading
from .keeping import KeptModel, keep_copy, model_format
from .python_references import PythonReference, find_source
from .requirements import beside, included

# control characters, and what stands for bytes that are no UTF-8: neither can be stored and shown
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class ResolvedModel:
    """A model that is there, readable, and of a known format.

    ``uri``: what was asked for, pinned down: an alias or stage replaced by its version, a path made absolute.
    ``digest``: ``sha256:<hex>`` of the names and bytes of the model's files, a requirements.txt beside it among them.
    ``reference``: what the model server is given: an absolute path, ``/…/file.py:attribute`` or ``module:attribute``.
    ``format``: the name that ``stackkit.serving.formats.detect`` gives.
    """

    uri: str
    digest: str
    reference: str
    format: str


def resolve(
    uri: str,
    *,
    models_folder: Path,
    in_place: bool = False,
    progress: Callable[[str], None] | None = None,
) -> ResolvedModel:
    """Find the model that ``uri`` names, and keep its files by digest under ``models_folder``.

    A URI is a path (absolute, relative or with ``~``), ``file://``, ``path/to/file.py:attribute``,
    ``module:attribute``, ``models:/…`` and ``runs:/…`` (MLflow), or a protocol that fsspec knows, such as ``s3://``.
    A path that exists is a path, whatever it looks like. A module is served from where it is installed.

    With ``in_place`` a local model is served from where it lies and not copied: whoever writes there changes what is
    served. ``progress`` is called with short texts, from this thread. Reads every byte of a local model, and may
    download; safe to call from several threads and processes at once.

    Raises ModelError when there is no model, when it is none, cannot be read, fetched or kept, or changes meanwhile.
    """
    _refuse_malformed(uri)
    models_folder = models_folder.absolute()
    report = progress or _report_to_nobody
    if mlflow_models.is_mlflow_uri(uri):
        _refuse_in_place(uri, in_place)
        pinned = mlflow_models.pin_version(uri)
        return _resolve_download(pinned, mlflow_models.fetch(pinned, models_folder, report))
    if "://" in uri and not uri.startswith("file:/"):
        from . import remote  # fsspec takes a tenth of a second to import, and a local model needs none of it

        _refuse_in_place(uri, in_place)
        return _resolve_download(uri, remote.fetch(uri, models_folder, report))

    named = _path_of_file_uri(uri) if uri.startswith("file:/") else uri
    path = _absolute(named)
    with reading(path):
        reference = None if path.exists() else PythonReference.parse(named)
    if reference is None:
        return _resolve_local(path, None, models_folder, in_place, report)
    if reference.is_file:
        return _resolve_local(_absolute(reference.target), reference.attribute, models_folder, in_place, report)
    return _resolve_module(reference)


def find_missing(reference: str) -> Path | None:
    """The path that a ResolvedModel's reference names where nothing lies there any more; None when there is no such
    path, as of a module.
    """
    path = Path(reference if Path(reference).exists() else reference.rpartition(":")[0] or reference)
    return path if path.is_absolute() and not path.exists() else None


def _resolve_local(
    path: Path, attribute: str | None, models_folder: Path, in_place: bool, progress: Callable[[str], None]
) -> ResolvedModel:
    suffix = "" if attribute is None else f":{attribute}"
    files = [*list_files(path), *_requirements_beside(path)]
    name = model_format(Path(f"{path}{suffix}"), f"{path}{suffix}")
    if in_place:
        digest, served = digest_files(files), path
    else:
        kept = keep_copy(path, files, models_folder, progress)
        digest, served = kept.digest, kept.path
    return ResolvedModel(f"{path}{suffix}", f"sha256:{digest}", f"{served}{suffix}", name)


def _requirements_beside(path: Path) -> list[ModelFile]:
    """The requirements beside a model's file and what they include: files of the model as well, since they say what it
    is run with.
    """
    found = None if path.is_dir() else beside(path)
    files = [] if found is None else included(found)
    return [replace(list_files(file)[0], name=file.relative_to(path.parent).as_posix()) for file in files]


def _resolve_module(reference: PythonReference) -> ResolvedModel:
    named = str(reference)
    digest = digest_files(list_files(find_source(reference)))
    return ResolvedModel(named, f"sha256:{digest}", named, model_format(Path(named), named))


def _resolve_download(uri: str, kept: KeptModel) -> ResolvedModel:
    return ResolvedModel(uri, f"sha256:{kept.digest}", str(kept.path), model_format(kept.path, uri))


def _absolute(named: str) -> Path:
    try:
        path = Path(named).expanduser()
    except RuntimeError as error:
        raise ModelError(f"There is no model at {named}: {error}", "Check the user's name after the ~.") from error
    # ".." after a link means the parent of where the link leads: only the file system knows
    return path.resolve() if ".." in path.parts else path.absolute()


def _path_of_file_uri(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.netloc not in {"", "localhost"}:
        raise ModelError(
            f"{uri} names a file on another machine ({parts.netloc}).", "For a file on this one write file:///path."
        )
    return unquote(parts.path)


def _refuse_malformed(uri: str) -> None:
    if not uri.strip():
        raise ModelError("The model URI is empty.", "Name a model: a path, models:/name/version, s3://…")
    if _UNPRINTABLE.search(uri):
        raise ModelError(f"{uri!a} is no model URI: it cannot be printed.", "Rename the model in plain characters.")
    try:
        parts = urlsplit(uri if "://" in uri else "")
        # over HTTP a user without a password is a token; SSH and others have to be told whom to ask as
        secret = parts.password or (parts.scheme in ("http", "https") and parts.username)
    except ValueError as error:
        raise ModelError(f"{uri} is no model URI: {error}.", "Check the host in it.") from error
    if secret:
        # the URI is shown in tables and kept in the history: it is no place for a secret, nor is this message
        raise ModelError(
            "The model URI holds a password or a token, and URIs are kept and shown.",
            "Leave it out; give the credentials the way the storage's own tools read them (environment or file).",
        )


def _refuse_in_place(uri: str, in_place: bool) -> None:
    if in_place:
        raise ModelError(f"{uri} cannot be served in place: it is not on this machine.", "Leave out in_place.")


def _report_to_nobody(text: str) -> None:
    pass
