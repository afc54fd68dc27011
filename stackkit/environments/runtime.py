"""The serving runtime: what enters a model's own environment, so that the model can be served there.

It is a copy of ``stackkit.serving`` and the few libraries that this imports; none of stackkit's other dependencies
come along, so that a model may pin whatever it was trained with.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from .. import serving

REQUIRES_PYTHON = (3, 11)
"""The oldest version of Python that the runtime can be run by."""

RUNTIME_REQUIREMENTS = (
    "httptools>=0.6.4",
    "numpy>=1.23.2",
    "orjson>=3.9",
    "pandas>=1.5.1",
    "pyyaml>=6.0",
    "uvloop>=0.19",
)
"""What the runtime imports, from the oldest version on that has wheels for the oldest Python.

PyYAML reads an MLflow folder's description where MLflow, which would bring it, is not among its requirements."""

_PACKAGE = Path(serving.__file__).parents[1]
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def copy_into(folder: Path) -> None:
    """Put the runtime into ``folder``, which is or becomes a ``site-packages``, as the package ``stackkit`` there.

    What lies there of a ``stackkit.serving`` already is replaced. Raises OSError.
    """
    target = folder / "stackkit"
    shutil.rmtree(target / "serving", ignore_errors=True)
    for name in _names():
        copy = target / name
        if name.startswith("serving/") or not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_PACKAGE / name, copy)


def files() -> dict[str, Path]:
    """The runtime's files by the POSIX path that each has in a ``site-packages``."""
    return {f"stackkit/{name}": _PACKAGE / name for name in _names()}


@cache
def digest() -> str:
    """The SHA-256 of the runtime's files and requirements, as hexadecimal digits."""
    found = hashlib.sha256("\n".join(RUNTIME_REQUIREMENTS).encode())
    for name in _names():
        found.update(b"%s\0%s" % (name.encode(), hashlib.sha256((_PACKAGE / name).read_bytes()).digest()))
    return found.hexdigest()


def requirements_beside(packages: Iterable[str]) -> list[str]:
    """What the runtime needs beside a model's own requirements: of a library that those name, the model's pin wins."""
    named = {normalized(line) for line in packages}
    return [line for line in RUNTIME_REQUIREMENTS if normalized(line) not in named]


def normalized(line: str) -> str:
    """The name of the package that a requirement's line is about, as package indexes compare names."""
    found = _NAME.match(line)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else line


def _names() -> list[str]:
    found = [path for path in (_PACKAGE / "serving").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted(path.relative_to(_PACKAGE).as_posix() for path in (_PACKAGE / "__init__.py", *found))
