"""What an environment is made of, and the name that follows from it."""

from __future__ import annotations

import hashlib
import json
import sys
import sysconfig
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from ...errors import ModelError
from .. import runtime
from ..requirements import RUN_HERE, ModelRequirements


class EnvManager(StrEnum):
    """What makes a model's environment; LOCAL is the one that stackkit runs in, as it is."""

    LOCAL = "local"
    UV = "uv"
    VIRTUALENV = "virtualenv"
    CONDA = "conda"


@dataclass(frozen=True)
class EnvironmentSpec:
    """An environment for all models that ask for the same.

    ``python`` is a version without its patch level. The lines are as in ModelRequirements; ``packages`` has the
    runtime's own among them. ``conda`` is the text of a conda environment's file, ``platform`` what it is built for.
    """

    manager: EnvManager
    python: str
    packages: tuple[str, ...]
    constraints: tuple[str, ...]
    options: tuple[str, ...]
    build_packages: tuple[str, ...]
    conda: str | None
    platform: str
    runtime: str

    @property
    def name(self) -> str:
        """The same for two that are made of the same, whatever the order of their lines."""
        made_of = asdict(self)
        for lines in ("packages", "constraints", "build_packages"):
            made_of[lines] = sorted(f"{line} {_contents(line)}".rstrip() for line in made_of[lines])
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:20]


def specify(requirements: ModelRequirements, manager: EnvManager) -> EnvironmentSpec:
    """The environment that ``manager`` makes of what a model asks for; without a version, of this Python.

    Raises ModelError when the model says nothing of what it needs, when the runtime cannot be run by the Python that
    it asks for, and when it asks for what only conda can install.
    """
    if requirements.source is None:
        raise ModelError(
            "The model says nothing of what it needs, so no environment can be made for it.",
            f"Put a requirements.txt beside it, or {RUN_HERE}.",
        )
    if requirements.conda_packages and manager is not EnvManager.CONDA:
        raise ModelError(
            f"The model asks for what only conda installs: {', '.join(requirements.conda_packages)}.",
            f"Use --env-manager conda, or {RUN_HERE}.",
        )
    minor = requirements.python_minor or f"{sys.version_info.major}.{sys.version_info.minor}"
    if tuple(map(int, minor.split("."))) < runtime.REQUIRES_PYTHON:
        needed = ".".join(map(str, runtime.REQUIRES_PYTHON))
        raise ModelError(
            f"The model asks for Python {minor}, and the model server needs {needed} or later.",
            f"Save the model again with Python {needed}, or {RUN_HERE}.",
        )
    is_conda = manager is EnvManager.CONDA
    return EnvironmentSpec(
        manager=manager,
        python=minor,
        packages=(*requirements.packages, *runtime.requirements_beside(requirements.packages)),
        constraints=requirements.constraints,
        options=requirements.options,
        build_packages=requirements.build_packages,
        conda=requirements.conda.read_text(encoding="utf-8") if is_conda and requirements.conda else None,
        platform=sysconfig.get_platform(),
        runtime=runtime.digest(),
    )


def _contents(line: str) -> str:
    """The digest of the file that a line names by its absolute path; empty for what comes from an index."""
    path = Path(line.partition(" ")[0])
    if not path.is_absolute() or not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
