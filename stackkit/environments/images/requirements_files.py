"""The requirements of a model as pip reads them inside a build: one file, and whatever of this machine it names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .. import runtime
from ..requirements import ModelRequirements
from .context import ContextFile
from .dockerfile import BUILD_FOLDER

_FOLDER = "requirements"
_FIND_LINKS = "--find-links "


def requirements_files(asked: ModelRequirements, further: Iterable[str]) -> list[ContextFile]:
    """``requirements/requirements.txt`` and the files that it names.

    It holds what the model asks for, what the serving runtime needs beside that, and ``further`` lines: pip resolves
    them together, so that what the model pins binds the others too. What its packages are built with is not among
    them: pip fetches that for the build, and removes it. Raises ModelError when a file cannot be read.
    """
    local = _LocalFiles()
    lines = [local.moved_option(line) for line in asked.options]
    lines += ["--constraint constraints.txt"] if asked.constraints else []
    lines += [local.moved(line) for line in asked.packages]
    lines += [*runtime.requirements_beside(asked.packages), *further]
    files = [_text_file("requirements.txt", lines)]
    files += [_text_file("constraints.txt", asked.constraints)] if asked.constraints else []
    return [*files, *local.files()]


class _LocalFiles:
    """Files of this machine that requirements name by absolute paths: each gets a place in the context."""

    def __init__(self) -> None:
        self._names: dict[Path, str] = {}

    def moved(self, line: str) -> str:
        """A requirement with the place in the build of the file that it names; any other as it stands."""
        path, separator, rest = line.partition(" ")
        return f"{self._place(Path(path))}{separator}{rest}" if path.startswith("/") else line

    def moved_option(self, line: str) -> str:
        path = Path(line.removeprefix(_FIND_LINKS))
        is_local = line.startswith(_FIND_LINKS) and path.is_absolute()
        return f"{_FIND_LINKS}{self._place(path)}" if is_local else line

    def files(self) -> list[ContextFile]:
        found = []
        for path, name in self._names.items():
            # pip looks for archives in such a folder itself, not below it
            inside = sorted(each for each in path.iterdir() if each.is_file()) if path.is_dir() else []
            found += [ContextFile.of_path(f"{_FOLDER}/{name}/{each.name}", each) for each in inside]
            found += [] if path.is_dir() else [ContextFile.of_path(f"{_FOLDER}/{name}", path)]
        return found

    def _place(self, path: Path) -> str:
        # a wheel's name says what is in it, so that it has to stay; two folders may hold files of one name
        name = self._names.setdefault(path, f"local/{len(self._names)}/{path.name}")
        return f"{BUILD_FOLDER}/{name}"


def _text_file(name: str, lines: Iterable[str]) -> ContextFile:
    return ContextFile.of_text(f"{_FOLDER}/{name}", "".join(f"{line}\n" for line in lines))
