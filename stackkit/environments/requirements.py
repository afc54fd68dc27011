"""What a model asks of the Python environment that it runs in, read from the files that it brings along.

An MLflow folder says it in ``python_env.yaml``, ``conda.yaml`` or ``requirements.txt``; any other model in a
``requirements.txt`` in its folder, or beside its file. The files are read as MLflow and pip read them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .python_references import PythonReference

REQUIREMENTS_FILE = "requirements.txt"

RUN_HERE = "run the model in the environment that you are in: --env-manager local (env_manager=local)"
"""The way out of every error that is about another environment."""

_PYTHON_VERSION = re.compile(r"\d+\.\d+(\.\d+)?")
_CONDA_NAME = re.compile(r"[\w.-]+")
_COMMENT = re.compile(r"(^|\s+)#.*$")
_OPTION = re.compile(r"(?P<name>--?[\w-]+?)(?:[=\s]\s*(?P<value>.+))?")
_FILE_OPTIONS = {"-r": "-r", "--requirement": "-r", "-c": "-c", "--constraint": "-c"}
_EDITABLE = ("-e", "--editable")
_FIND_LINKS = ("-f", "--find-links")


@dataclass(frozen=True)
class ModelRequirements:
    """What a model asks for; nothing at all by default.

    ``python``: a version, with or without its patch level. ``packages`` and ``constraints``: lines as pip reads them,
    paths in them absolute. ``options``: pip's, one a line, such as ``--extra-index-url …``. ``build_packages``: what
    older packages need to be built, and sometimes to run. ``conda``: the conda environment's file, ``conda_packages``
    what only conda can install of it. ``source``: the file that says all this, None for a model that says nothing.
    """

    python: str | None = None
    packages: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    build_packages: tuple[str, ...] = ()
    conda: Path | None = None
    conda_packages: tuple[str, ...] = ()
    source: Path | None = None

    @property
    def python_minor(self) -> str | None:
        """The version without its patch level, which makes no difference to a model: ``3.11``."""
        return None if self.python is None else ".".join(self.python.split(".")[:2])


def read(reference: str, format: str) -> ModelRequirements:  # noqa: A002 - as in ResolvedModel
    """What the model asks for, by ``reference`` and ``format`` of its ResolvedModel.

    A module asks for nothing: it is part of the environment that it is installed in. Raises ModelError when one of
    the files cannot be read or says what cannot be done.
    """
    path = Path(reference)
    if not path.exists():
        named = PythonReference.parse(reference)
        if named is None or not named.is_file:
            return ModelRequirements()
        path = Path(named.target)
    if format == "mlflow":
        return _read_mlflow(path)
    file = beside(path)
    return ModelRequirements() if file is None else _read_pip(file)


def beside(path: Path) -> Path | None:
    """The requirements of a model that is not MLflow's: in its folder, or beside its file; None when there are none."""
    file = (path if path.is_dir() else path.parent) / REQUIREMENTS_FILE
    return file if file.is_file() else None


def _read_mlflow(folder: Path) -> ModelRequirements:
    pyfunc = _mapping(_mapping(_yaml(folder / "MLmodel"), "flavors"), "python_function")
    env = pyfunc.get("env")
    conda_name, python_env_name = (env, None) if isinstance(env, str) else (None, None)
    if isinstance(env, Mapping):
        conda_name, python_env_name = env.get("conda"), env.get("virtualenv")
    conda = _inside(folder, conda_name or "conda.yaml")
    python_env = _inside(folder, python_env_name or "python_env.yaml")
    if python_env.is_file():
        found = _read_python_env(python_env)
    elif conda.is_file():
        found = _read_conda(conda)
    elif (folder / REQUIREMENTS_FILE).is_file():
        found = _read_pip(folder / REQUIREMENTS_FILE)
    else:
        return ModelRequirements()
    recorded = pyfunc.get("python_version")
    return replace(
        found,
        python=found.python or (_python(str(recorded), folder / "MLmodel") if recorded else None),
        conda=conda if conda.is_file() else None,
    )


def _read_python_env(file: Path) -> ModelRequirements:
    values = _yaml(file)
    lines = _Lines(file)
    lines.add(_texts(values, "dependencies", file))
    build = _texts(values, "build_dependencies", file)
    python = values.get("python")
    return replace(
        lines.requirements(),
        python=_python(str(python), file) if python else None,
        build_packages=tuple(line for line in build if not _is_pip(line)),
    )


def _read_conda(file: Path) -> ModelRequirements:
    entries = _yaml(file).get("dependencies") or []
    if not isinstance(entries, list):
        raise _malformed(file, "its dependencies are no list")
    lines = _Lines(file)
    python: str | None = None
    others: list[str] = []
    for entry in entries:
        if isinstance(entry, Mapping):
            lines.add(_texts(entry, "pip", file))
        elif (named := _CONDA_NAME.match(str(entry))) and named[0] == "python":
            # a range is conda's to choose from: only what is pinned is asked for
            pinned = re.fullmatch(r"python\s*={1,2}\s*([\d.]+?)(\.?\*)?(=.*)?", str(entry))
            python = _python(pinned[1], file) if pinned else None
        elif not _is_pip(str(entry)):
            others.append(str(entry))
    return replace(lines.requirements(), python=python, conda_packages=tuple(others))


def _read_pip(file: Path) -> ModelRequirements:
    lines = _Lines(file)
    lines.add_file(file)
    return lines.requirements()


class _Lines:
    """Gathers pip's lines from a file and from those that it includes."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._folder = source.parent
        self._found: dict[str, list[str]] = {"-r": [], "-c": [], "options": []}
        self._included: set[Path] = set()

    def requirements(self) -> ModelRequirements:
        found = {kind: tuple(dict.fromkeys(lines)) for kind, lines in self._found.items()}
        return ModelRequirements(
            packages=found["-r"], constraints=found["-c"], options=found["options"], source=self._source
        )

    def add_file(self, file: Path, kind: str = "-r") -> None:
        if file in self._included:
            return
        self._included.add(file)
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = str(error.strerror) if isinstance(error, OSError) else "it is no UTF-8 text"
            raise _malformed(file, reason) from error
        self.add(_logical_lines(text), kind)

    def add(self, lines: Iterable[str], kind: str = "-r") -> None:
        for line in lines:
            if not line.startswith("-"):
                self._found[kind].append(self._located(line))
                continue
            option = _OPTION.fullmatch(line)
            name, value = (option["name"], option["value"]) if option else (line, None)
            if name in _EDITABLE:
                raise _malformed(self._source, f"{line}: what is installed for editing is no part of the model")
            if name in _FILE_OPTIONS and value:
                self.add_file(_inside(self._folder, value), _FILE_OPTIONS[name])
            elif name in _FIND_LINKS and value and (self._folder / value).exists():
                self._found["options"].append(f"--find-links {self._folder / value}")
            else:
                self._found["options"].append(line)

    def _located(self, line: str) -> str:
        """A requirement that is a file of the model's own, by its absolute path; any other as it stands."""
        path, _, rest = line.partition(" ")
        file = self._folder / path
        is_path = path.startswith(".") or path.endswith((".whl", ".tar.gz", ".zip"))
        if not is_path or "://" in path or Path(path).is_absolute():
            return line
        if not _inside(self._folder, path).is_file():
            raise _malformed(self._source, f"{path} is no file of the model's")
        return f"{file} {rest}".rstrip()


def _logical_lines(text: str) -> Iterator[str]:
    """Lines as pip reads them: joined where one ends with a backslash, without comments and what is empty."""
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        if stripped := _COMMENT.sub("", line).strip():
            yield stripped


def _inside(folder: Path, name: str) -> Path:
    file = folder / name
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ModelError(
            f"The model's requirements lead out of its folder: {name}.",
            "Put what they name into the model's folder, or write it into requirements.txt itself.",
        )
    return file


def _yaml(file: Path) -> Mapping[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise _malformed(file, error.strerror or str(error)) from error
    except (yaml.YAMLError, ValueError) as error:
        raise _malformed(file, "it is no YAML") from error
    if not isinstance(values, Mapping):
        raise _malformed(file, "it holds no mapping")
    return values


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _texts(values: Mapping[str, Any], name: str, file: Path) -> list[str]:
    found = values.get(name) or []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise _malformed(file, f"{name} is no list of texts")
    return [line for each in found for line in _logical_lines(each)]


def _python(text: str, file: Path) -> str:
    if not _PYTHON_VERSION.fullmatch(text):
        raise _malformed(file, f"{text!r} is no version of Python")
    return text


def _is_pip(line: str) -> bool:
    named = _CONDA_NAME.match(line)
    return named is not None and named[0].lower() == "pip"


def _malformed(file: Path, reason: str) -> ModelError:
    return ModelError(
        f"The model's {file.name} cannot be used: {reason}.",
        f"Mend it, or {RUN_HERE}.",
    )
