"""What a model asks of the Python environment that it runs in, read from the files that it brings along.

An MLflow folder says it in ``python_env.yaml``, ``conda.yaml`` or ``requirements.txt``; any other model in a
``requirements.txt`` in its folder, or beside its file. The files are read as MLflow and pip read them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .pip_lines import PipLines, inside, logical_lines, malformed
from .python_references import PythonReference

REQUIREMENTS_FILE = "requirements.txt"

_PYTHON_VERSION = re.compile(r"\d+\.\d+(\.\d+\S*)?")
_CONDA_NAME = re.compile(r"([\w./-]+::)?(?P<name>[\w.-]+)")  # a channel may stand before it


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


def included(file: Path) -> list[Path]:
    """A requirements file, and the files in its folder that it takes to install from it.

    Of one that cannot be used, those up to where that shows: whoever wants to use it is told why.
    """
    lines = PipLines(file)
    with suppress(ModelError):
        lines.add_file(file)
    return [each for each in lines.files if each.is_file()]


def _read_mlflow(folder: Path) -> ModelRequirements:
    pyfunc = _mapping(_mapping(_yaml(folder / "MLmodel"), "flavors"), "python_function")
    env = pyfunc.get("env")
    names = env if isinstance(env, Mapping) else {"conda": env}
    conda = inside(folder, _text(names, "conda") or "conda.yaml")
    python_env = inside(folder, _text(names, "virtualenv") or "python_env.yaml")
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
    lines = PipLines(file)
    lines.add(_texts(values, "dependencies", file))
    build = _texts(values, "build_dependencies", file)
    python = values.get("python")
    return replace(
        _requirements(lines, file),
        python=_python(str(python), file) if python else None,
        build_packages=tuple(line for line in build if not _is_pip(line)),
    )


def _read_conda(file: Path) -> ModelRequirements:
    entries = _yaml(file).get("dependencies") or []
    if not isinstance(entries, list):
        raise malformed(file, "its dependencies are no list")
    lines = PipLines(file)
    python: str | None = None
    others: list[str] = []
    for entry in entries:
        if isinstance(entry, Mapping):
            lines.add(_texts(entry, "pip", file))
        elif (named := _CONDA_NAME.match(str(entry))) and named["name"] == "python":
            # a range is conda's to choose from: only what is pinned is asked for
            pinned = re.fullmatch(r"(\S+::)?python\s*={1,2}\s*(?P<version>[\d.]+?)(\.?\*)?(=.*)?", str(entry))
            python = _python(pinned["version"], file) if pinned else None
        elif not _is_pip(str(entry)):
            others.append(str(entry))
    return replace(_requirements(lines, file), python=python, conda_packages=tuple(others))


def _read_pip(file: Path) -> ModelRequirements:
    lines = PipLines(file)
    lines.add_file(file)
    return _requirements(lines, file)


def _requirements(lines: PipLines, source: Path) -> ModelRequirements:
    return ModelRequirements(
        packages=lines.packages, constraints=lines.constraints, options=lines.options, source=source
    )


def _yaml(file: Path) -> Mapping[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise malformed(file, error.strerror or str(error)) from error
    except (yaml.YAMLError, ValueError) as error:
        raise malformed(file, "it is no YAML") from error
    if not isinstance(values, Mapping):
        raise malformed(file, "it holds no mapping")
    return values


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(values: Mapping[str, Any], name: str) -> str | None:
    found = values.get(name)
    return found if isinstance(found, str) else None


def _texts(values: Mapping[str, Any], name: str, file: Path) -> list[str]:
    found = values.get(name) or []
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise malformed(file, f"{name} is no list of texts")
    return [line for each in found for line in logical_lines(each)]


def _python(text: str, file: Path) -> str:
    if not _PYTHON_VERSION.fullmatch(text):
        raise malformed(file, f"{text!r} is no version of Python")
    return text


def _is_pip(line: str) -> bool:
    named = _CONDA_NAME.match(line)
    return named is not None and named["name"].lower() == "pip"
