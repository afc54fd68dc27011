"""What an environment is made of, and the name that follows from it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import sysconfig
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from ...errors import ModelError
from .. import runtime
from ..pip_lines import RUN_HERE, archives, local_path, moved, without_credentials
from ..requirements import ModelRequirements


class EnvManager(StrEnum):
    """What makes a model's environment; LOCAL is the one that stackkit runs in, as it is."""

    LOCAL = "local"
    UV = "uv"
    VIRTUALENV = "virtualenv"
    CONDA = "conda"


@dataclass(frozen=True)
class EnvironmentSpec:
    """An environment for all models that ask for the same.

    ``python`` is a version without its patch level. The lines are as in ModelRequirements, and ``folder`` is the one
    that those are in which name a file; ``server_packages`` are what the model server needs beside them. ``conda`` is
    the text of a conda environment's file, ``platform`` what it is built for.
    """

    manager: EnvManager
    python: str
    packages: tuple[str, ...]
    server_packages: tuple[str, ...]
    constraints: tuple[str, ...]
    options: tuple[str, ...]
    build_packages: tuple[str, ...]
    conda: str | None
    platform: str
    runtime: str
    folder: str

    @property
    def name(self) -> str:
        """The same for two that are made of the same, whatever the order of their lines and wherever they lie."""
        made_of = asdict(self)
        folder = Path(made_of.pop("folder"))
        for lines in ("packages", "constraints", "options", "build_packages"):
            made_of[lines] = [_placeless(line, folder) for line in made_of[lines]]
        for lines in ("packages", "constraints", "build_packages"):
            made_of[lines].sort()
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
        packages=requirements.packages,
        server_packages=tuple(runtime.requirements_beside(requirements.packages)),
        constraints=requirements.constraints,
        options=requirements.options,
        build_packages=requirements.build_packages,
        conda=requirements.conda.read_text(encoding="utf-8") if is_conda and requirements.conda else None,
        platform=sysconfig.get_platform(),
        runtime=runtime.digest(),
        folder=str(requirements.source.parent),
    )


def _placeless(line: str, folder: Path) -> str:
    """A line with the contents of what it names in ``folder`` in place of where that lies; any other as it stands.

    What pip is to find in a folder elsewhere is that folder's business, as it is a package index's.
    """
    path = local_path(line)
    if path is None or not path.is_relative_to(folder):
        return without_credentials(line)  # a new password is no new package
    return f"{moved(line, str(path.relative_to(folder)))} {_contents(path)}"


def _contents(path: Path) -> str:
    """The digest of a file, or of the archives in a folder; that of nothing when there are none."""
    found = hashlib.sha256()
    for file in archives(path):
        with file.open("rb") as opened:
            found.update(b"%s\0%s" % (os.fsencode(file.name), hashlib.file_digest(opened, "sha256").digest()))
    return found.hexdigest()
