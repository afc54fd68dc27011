"""Models that are Python code: ``path/to/file.py:attribute`` and ``module:attribute``."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError

_FIND_TIMEOUT = 60.0  # seconds; an interpreter starts in a fraction of one


@dataclass(frozen=True)
class PythonReference:
    """``target`` is a path that ends in ``.py``, or the dotted name of a module."""

    target: str
    attribute: str

    @classmethod
    def parse(cls, text: str) -> PythonReference | None:
        """Read a reference; None for what is none."""
        target, _, attribute = text.rpartition(":")
        if not _is_dotted_name(attribute):
            return None
        if target.endswith(".py") or _is_dotted_name(target):
            return cls(target, attribute)
        return None

    @property
    def is_file(self) -> bool:
        return self.target.endswith(".py")

    def __str__(self) -> str:
        return f"{self.target}:{self.attribute}"


def find_source(reference: PythonReference) -> Path:
    """The file of the module that ``reference`` names, or the folder of the outermost package that it is part of.

    Starts an interpreter for a moment, and imports neither the module nor its packages. Raises ModelError when this
    interpreter, with the working directory not on its path, has no such module, or none that is made of files.
    """
    command = [sys.executable, "-P", "-m", "stackkit.environments.find_module", reference.target]
    try:
        answer = subprocess.run(command, capture_output=True, check=True, timeout=_FIND_TIMEOUT).stdout
        found = json.loads(answer)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ModelError(
            f"The module {reference.target} could not be looked for: {error}.",
            f"See what it says: {' '.join(command)}",
        ) from error
    if not found["found"]:
        raise ModelError(
            f"There is no module {reference.target} for the model {reference}.",
            f"For a file write ./{reference.target.replace('.', '/')}.py:{reference.attribute}",
        )
    if found["source"] is None:
        raise ModelError(
            f"The module {reference.target} is not made of files, so its contents cannot be told apart.",
            "Put the model into a module or a file of your own: ./model.py:attribute",
        )
    return Path(found["source"])


def _is_dotted_name(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))
