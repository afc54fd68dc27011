"""The requirements of a model as pip reads them inside a build, and whatever of this machine they name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ...errors import ImageError
from .. import runtime
from ..pip_lines import archives, installs, local_path, moved
from ..requirements import ModelRequirements
from .context import ContextFile
from .dockerfile import BUILD_FOLDER

_FOLDER = "requirements"
_NAMES = ("requirements.txt", "server-requirements.txt")
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")  # pip puts its value there


def requirements_files(asked: ModelRequirements, further: Iterable[str]) -> tuple[list[str], list[ContextFile]]:
    """The files that pip installs from, one after the other, by their names in ``requirements/``, and the files in
    there: those, and the ones that they name.

    They hold what the model asks for, what the serving runtime needs beside that, and ``further`` lines; see
    ``pip_lines.installs``. What its packages are built with is not among them: pip fetches that for the build, and
    removes it. Raises ModelError when a file cannot be read, ImageError for what a build cannot know.
    """
    _refuse_variables([*asked.options, *asked.packages, *asked.constraints])
    local = _LocalFiles()
    options = [local.moved(line) for line in asked.options]
    options += ["--constraint constraints.txt"] if asked.constraints else []
    packages = [local.moved(line) for line in asked.packages]
    beside = [*runtime.requirements_beside(asked.packages), *further]
    installed = dict(zip(_NAMES, installs(packages, beside, options), strict=False))
    files = [_text_file(name, lines) for name, lines in installed.items()]
    files += [_text_file("constraints.txt", asked.constraints)] if asked.constraints else []
    return list(installed), [*files, *local.files()]


def _refuse_variables(lines: Iterable[str]) -> None:
    if found := next((variable for line in lines if (variable := _VARIABLE.search(line))), None):
        raise ImageError(
            f"The model's requirements name the variable {found[0]}, which no build gets: it would be kept with it.",
            "Leave the index out of them, and name it in PIP_INDEX_URL or PIP_EXTRA_INDEX_URL, which is passed on.",
        )


class _LocalFiles:
    """Files of this machine that requirements name by absolute paths: each gets a place in the context."""

    def __init__(self) -> None:
        self._names: dict[Path, str] = {}

    def moved(self, line: str) -> str:
        """A line with the place in the build of what it names; any other as it stands."""
        path = local_path(line)
        return line if path is None else moved(line, self._place(path))

    def files(self) -> list[ContextFile]:
        found = []
        for path, name in self._names.items():
            # nothing but archives, which is all that pip looks for: whatever else lies there is no part of the model
            for file in archives(path):
                inside = f"{name}/{file.name}" if path.is_dir() else name
                found.append(ContextFile.of_path(f"{_FOLDER}/{inside}", file))
        return found

    def _place(self, path: Path) -> str:
        # a wheel's name says what is in it, so that it has to stay; two folders may hold files of one name
        name = self._names.setdefault(path, f"local/{len(self._names)}/{path.name}")
        return f"{BUILD_FOLDER}/{name}"


def _text_file(name: str, lines: Iterable[str]) -> ContextFile:
    return ContextFile.of_text(f"{_FOLDER}/{name}", "".join(f"{line}\n" for line in lines))
