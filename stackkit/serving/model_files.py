"""What tells one model from another: a digest of its files' names, sizes and contents. Standard library only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

MODEL_FOLDER = "model"
"""What the folder of a model that is a folder is called, wherever models are kept or fetched to."""

_IGNORED = frozenset({"__pycache__", ".DS_Store"})


def digest(files: Iterable[tuple[str, int, bytes]]) -> str:
    """The SHA-256 of files in the order of their names, each as its name, size and the SHA-256 of its contents, as
    hexadecimal digits. A name is a POSIX path that begins with MODEL_FOLDER for a model that is a folder.
    """
    found = hashlib.sha256()
    for name, size, contents in files:
        # a name holds no NUL and a content digest has a fixed length: no two models give the same bytes here
        found.update(b"%s\0%d\0%s" % (os.fsencode(name), size, contents))
    return found.hexdigest()


def is_ignored(name: str) -> bool:
    """Whether a POSIX path is no part of a model: bytecode and what file managers leave behind."""
    return not _IGNORED.isdisjoint(name.split("/"))
