"""The lines of pip's requirements files, read as pip reads them: packages, constraints and options.

What they name on this machine has to lie in the model's folder, and is named by its absolute path afterwards.
"""

from __future__ import annotations

import codecs
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import ModelError

RUN_HERE = "run the model in the environment that you are in: --env-manager local (env_manager=local)"
"""The way out of every error that is about another environment."""

ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tar.xz", ".txz", ".tar")
"""How the names of the files end that pip installs."""

FIND_LINKS = "--find-links "
"""How an option begins that names a folder of archives, or where to find a page of them."""

_COMMENT = re.compile(r"(^|\s+)#.*$")
_ARCHIVE = rf"({'|'.join(map(re.escape, ARCHIVES))})(?=$|[ ;\[])"
_FILE = re.compile(rf"[./].*?{_ARCHIVE}|[./]\S*|[^\s:]+?{_ARCHIVE}")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_OPTION = re.compile(r"(?P<name>--[\w-]+|-\w)=?(?P<value>.*)", re.DOTALL)
_LONG = {
    "-c": "--constraint",
    "-e": "--editable",
    "-f": "--find-links",
    "-i": "--index-url",
    "-r": "--requirement",
}
_HASH, _REQUIRE_HASHES = " --hash", "--require-hashes"
_FLAGS = frozenset({"--no-index", "--no-require-hashes", "--pre", "--prefer-binary", _REQUIRE_HASHES})
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins as that of UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),  # as PowerShell writes what pip freeze says
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class PipLines:
    """Gathers the lines of ``source``, which lies in the model's folder, and of what it includes."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._folder = source.parent
        self._options: list[str] = []
        self._found: dict[str, list[str]] = {"--requirement": [], "--constraint": []}
        self._included: dict[tuple[Path, str], Path] = {}

    @property
    def packages(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._found["--requirement"]))

    @property
    def constraints(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._found["--constraint"]))

    @property
    def options(self) -> tuple[str, ...]:
        """One a line, under their long names."""
        return tuple(dict.fromkeys(self._options))

    @property
    def files(self) -> list[Path]:
        """The files in the model's folder that were read, and those that pip is to install from."""
        named = filter(None, map(local_path, (*self.packages, *self.constraints, *self.options)))
        found = [*self._included.values(), *(file for path in named for file in archives(path))]
        plain = dict.fromkeys(Path(os.path.normpath(file)) for file in found)
        return [file for file in plain if file.is_relative_to(self._folder)]

    def add_file(self, file: Path, kind: str = "--requirement") -> None:
        """Add the lines of a file and of those that it includes. Raises ModelError."""
        if (file.resolve(), kind) in self._included:
            return
        self._included[file.resolve(), kind] = file
        try:
            text = _decode(file.read_bytes())
        except (OSError, UnicodeDecodeError) as error:
            reason = str(error.strerror) if isinstance(error, OSError) else "it is no UTF-8 text"
            raise malformed(file, reason) from error
        self._add(logical_lines(text), kind, file.parent)

    def add(self, lines: Iterable[str]) -> None:
        """Add lines that stand in the source itself. Raises ModelError."""
        self._add(lines, "--requirement", self._folder)

    def _add(self, lines: Iterable[str], kind: str, folder: Path) -> None:
        for line in lines:
            if line.startswith("-"):
                for name, value in self._split(line):
                    self._add_option(name, value, folder)
            else:
                self._found[kind].append(self._located(line))

    def _split(self, line: str) -> Iterator[tuple[str, str]]:
        """The options of a line by their long names, each with its value, which is empty for one that takes none."""
        try:
            words = iter(shlex.split(line))
        except ValueError as error:
            raise malformed(self._source, f"{line}: {error}") from error
        for word in words:
            option = _OPTION.fullmatch(word)
            if option is None:
                raise malformed(self._source, f"{line} cannot be understood")
            name = _LONG.get(option["name"], option["name"])
            yield name, "" if name in _FLAGS else option["value"] or next(words, "")

    def _add_option(self, name: str, value: str, folder: Path) -> None:
        if name == "--editable":
            raise malformed(self._source, f"{name} {value}: what is installed for editing is no part of the model")
        if name in self._found:
            if "://" in value:
                raise malformed(self._source, f"what {value} says may change: put a copy into the model's folder")
            self.add_file(inside(self._folder, value, start=folder), name)
        elif name == FIND_LINKS.strip() and (folder / value).exists():
            self._options.append(f"{FIND_LINKS}{shlex.quote(str(folder / value))}")
        else:
            self._options.append(f"{name} {value}".rstrip())

    def _located(self, line: str) -> str:
        """A requirement that is a file of the model's own, by its absolute path; any other as it stands."""
        found = _FILE.match(line)
        if found is None:
            return line
        path, rest = found[0], line[found.end() :]
        file = inside(self._folder, path)  # pip looks where it is run, whatever file the line is in
        if not file.is_file():
            raise malformed(self._source, f"{path} is no file of the model's")
        return f"{file}{rest}"


def logical_lines(text: str) -> Iterator[str]:
    """Lines as pip reads them: joined where one ends with a backslash, without comments and what is empty."""
    begun = ""
    for line in [*text.splitlines(), ""]:
        is_comment = _COMMENT.match(line) is not None
        if line.endswith("\\") and not is_comment:
            begun += line.strip("\\")
            continue
        joined, begun = begun + (f" {line}" if is_comment else line), ""
        if stripped := _COMMENT.sub("", joined).strip():
            yield stripped


def installs(packages: Sequence[str], further: Sequence[str], options: Sequence[str]) -> list[list[str]]:
    """The lines of each file that pip installs from, one after the other, for a model's ``packages`` and ``further``
    ones beside them.

    It is one file, so that pip resolves them together. Only where pip wants a hash of all that it installs, the model's
    own come first, and then the others, which have none, beside the versions that are there by then.
    """
    together = [*options, *packages, *further]
    if not any(line == _REQUIRE_HASHES or _HASH in line for line in together):
        return [together]
    own = [line.partition(_HASH)[0].rstrip() for line in packages if "://" not in line]
    others = [line for line in options if line != _REQUIRE_HASHES]
    return [[*options, *packages], [*others, *own, *further]]


def local_path(line: str) -> Path | None:
    """The file or folder of this machine that a line names; None for a line that names none."""
    if line.startswith(FIND_LINKS):
        path = Path(shlex.split(line)[1])
        return path if path.is_absolute() else None
    found = _FILE.match(line) if line.startswith("/") else None
    return Path(found[0]) if found else None


def moved(line: str, place: str) -> str:
    """A line that names a file or folder of this machine, with ``place`` in its stead."""
    if line.startswith(FIND_LINKS):
        return f"{FIND_LINKS}{shlex.quote(place)}"
    return line.replace(str(local_path(line)), place, 1)


def archives(path: Path) -> list[Path]:
    """What pip finds at a ``path``: the archive itself, or those that lie in a folder, in the order of their names."""
    found = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in found if file.name.endswith(ARCHIVES) and file.is_file()]


def without_credentials(line: str) -> str:
    """A line that may be shown: a user and a password in a URL are left out."""
    return _CREDENTIALS.sub("", line)


def inside(folder: Path, name: str, *, start: Path | None = None) -> Path:
    """What is called ``name`` in ``start`` (None: in ``folder``), which may not lead out of the model's ``folder``.

    Raises ModelError.
    """
    file = (start or folder) / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ModelError(
            f"The model's requirements lead out of its folder: {name}.",
            "Put what they name into the model's folder, or write it into requirements.txt itself.",
        )
    return file


def malformed(file: Path, reason: str) -> ModelError:
    """The error that says why a file of the model's that tells what it needs cannot be used."""
    return ModelError(
        f"The model's {file.name} cannot be used: {without_credentials(reason)}.",
        f"Mend it, or {RUN_HERE}.",
    )


def _decode(content: bytes) -> str:
    for mark, encoding in _ENCODINGS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding)
    return content.decode()
