"""The files a model is made of, and the digest that names them.

The digest covers names and contents alone: neither modification times nor where the model lies count, nor do empty
folders, which object stores do not have either.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from ..serving import model_files
from ..serving.model_files import MODEL_FOLDER, is_ignored


@dataclass(frozen=True)
class ModelFile:
    """One file of a model. ``name`` is its POSIX path where models are kept: ``model.joblib`` for a model that is a
    file, ``model/MLmodel`` for one that is a folder. ``size`` is in bytes.
    """

    name: str
    path: Path
    size: int


def list_files(source: Path) -> list[ModelFile]:
    """Every file of the model at ``source``, a file or a folder, in the order of their names.

    Links are followed as long as they stay inside the folder. Raises ModelError when there is nothing at ``source``
    or nothing in it, when something in it cannot be read, when a link leads out of the folder or nowhere, and when
    something in it is neither a file nor a folder.
    """
    with reading(source):
        root = source.resolve(strict=True)
        if not root.is_dir():
            return [ModelFile(source.name, root, _file_size(root))]
        files = sorted(_walk(root, MODEL_FOLDER, (root,)), key=lambda file: os.fsencode(file.name))
    if not files:
        raise ModelError(
            f"The folder {source} is empty.",
            "Name the folder that your training saved the model to.",
        )
    return files


def digest_files(files: Iterable[ModelFile]) -> str:
    """The SHA-256 of the files' names, sizes and contents, as hexadecimal digits. Reads them all.

    Raises ModelError when one of them cannot be read, or is gone since it was listed.
    """
    return model_files.digest((file.name, file.size, _digest_contents(file.path)) for file in files)


def top_name(name: str) -> str:
    """What is served of the model that a file called ``name`` is part of: the file's own name, or MODEL_FOLDER."""
    return name.partition("/")[0]


def format_size(size: int) -> str:
    """A number of bytes for people: ``980 bytes``, ``1.2 GB``."""
    if size < 1000:
        return f"{size} bytes"
    amount = float(size)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:.1f} TB"


@contextmanager
def reading(source: Path) -> Iterator[None]:
    """Turn what goes wrong while ``source`` is read into a ModelError."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        if source.exists():
            raise changed(source) from error
        raise ModelError(f"There is no model at {source}.", "Check the path; it must exist on this machine.") from error
    except PermissionError as error:
        denied = error.filename or source
        raise ModelError(
            f"The model at {source} cannot be read: permission denied for {denied}.",
            "Give yourself the right to read it: chmod -R u+rX.",
        ) from error
    except OSError as error:
        raise ModelError(
            f"The model at {source} cannot be read: {error.strerror or error}.", "Check the path and its disk."
        ) from error


def changed(source: Path) -> ModelError:
    """The error that says that somebody was writing the model while it was taken."""
    return ModelError(
        f"The model at {source} changed while it was being copied; deploy it again.",
        "Wait until whatever writes it has finished.",
    )


def _digest_contents(path: Path) -> bytes:
    with reading(path):
        try:
            with path.open("rb") as opened:
                return hashlib.file_digest(opened, "sha256").digest()
        except FileNotFoundError as error:
            raise changed(path) from error


def _walk(folder: Path, name: str, above: tuple[Path, ...]) -> Iterator[ModelFile]:
    # ``folder`` and ``above`` have no links in them, so what is not a link in them has none either
    root = above[0]
    for entry in folder.iterdir():
        if is_ignored(entry.name):
            continue
        path = _follow(entry, root) if entry.is_symlink() else entry
        entry_name = f"{name}/{entry.name}"
        if not path.is_dir():
            yield ModelFile(entry_name, path, _file_size(path))
        elif path in above:
            raise ModelError(
                f"The link {entry} leads back to a folder that it lies in.", "Remove the link from the model's folder."
            )
        else:
            yield from _walk(path, entry_name, (*above, path))


def _follow(link: Path, root: Path) -> Path:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # before Python 3.13 a loop is a RuntimeError
        raise ModelError(f"The link {link} leads nowhere.", "Remove it, or save the model again.") from error
    if not target.is_relative_to(root):
        raise ModelError(
            f"The link {link} leads out of the model's folder.",
            f"Deploy a copy that holds the files themselves: cp -RL {root} COPY",
        )
    return target


def _file_size(path: Path) -> int:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(
            f"{path} is neither a file nor a folder.", "Name a model that is made of ordinary files and folders."
        )
    return status.st_size
