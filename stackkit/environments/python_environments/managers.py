"""The commands with which uv, the standard library's venv and conda make an environment.

conda is not at hand where stackkit is tested: its commands are compared with recorded ones, and nothing more.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from ...errors import ModelError
from ..interpreters import find_python
from ..pip_lines import installs
from .specification import EnvironmentSpec, EnvManager

_REQUIREMENTS = ("requirements.txt", "server-requirements.txt")
_BUILD_REQUIREMENTS, _CONSTRAINTS = "build-requirements.txt", "constraints.txt"
_PIP_OPTIONS = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off")


def find_manager(manager: EnvManager) -> list[str]:
    """The command that starts ``manager``. Raises ModelError, which says how to install it, when it is not here."""
    if manager is EnvManager.UV:
        if find_spec("uv") is not None:
            return [sys.executable, "-P", "-m", "uv"]
        if uv := shutil.which("uv"):
            return [uv]
        raise ModelError("uv is not installed here.", "Install it: pip install 'stackkit[uv]'")
    if manager is EnvManager.CONDA:
        if conda := shutil.which("conda"):
            return [conda]
        raise ModelError("There is no conda on the PATH.", "Install it, or choose another: --env-manager uv.")
    return [sys.executable]


def has_manager(manager: EnvManager) -> bool:
    try:
        find_manager(manager)
    except ModelError:
        return False
    return True


def interpreter(environment: Path) -> Path:
    return environment / "bin" / "python"


def commands(spec: EnvironmentSpec, folder: Path, environment: Path) -> list[list[str]]:
    """What makes ``environment``, one command after the other; writes into ``folder`` what they read.

    Raises ModelError when the manager or an interpreter of that version is not here, OSError.
    """
    tool = find_manager(spec.manager)
    wanted = dict(zip(_REQUIREMENTS, installs(spec.packages, spec.server_packages, spec.options), strict=False))
    if spec.build_packages and spec.manager is not EnvManager.CONDA:
        wanted = {_BUILD_REQUIREMENTS: installs((), spec.build_packages, spec.options)[-1], **wanted}
    for name, lines in wanted.items():
        _write(folder / name, lines)
    _write(folder / _CONSTRAINTS, spec.constraints)
    if spec.manager is EnvManager.CONDA:
        file = folder / "conda.yaml"
        file.write_text(spec.conda or _conda_file(spec), encoding="utf-8")
        create = [*tool, "env", "create", "--quiet", "--prefix", str(environment), "--file", str(file)]
    elif spec.manager is EnvManager.UV:
        # uv does not look where pyenv keeps its interpreters; what is nowhere on this machine it may download
        python = find_python(spec.python) or spec.python
        quiet = ["--color", "never", "--no-progress"]
        create = [*tool, "venv", *quiet, "--no-project", "--python", python, str(environment)]
        install = [*tool, "pip", "install", *quiet, "--python", str(interpreter(environment))]
        install += ["--constraints", str(folder / _CONSTRAINTS), "--requirements"]
        return [create, *([*install, str(folder / name)] for name in wanted)]
    else:
        found = find_python(spec.python)
        if found is None:
            raise ModelError(
                f"There is no Python {spec.python} on this machine, which the model asks for.",
                f"Install it (python{spec.python} on the PATH, or with pyenv), or let uv fetch it: --env-manager uv.",
            )
        create = [found, "-m", "venv", str(environment)]
    return [create, *(_pip(environment, folder / name, folder) for name in wanted)]


def _pip(environment: Path, requirements: Path, folder: Path) -> list[str]:
    command = [str(interpreter(environment)), "-m", "pip", "install", *_PIP_OPTIONS]
    return [*command, "--constraint", str(folder / _CONSTRAINTS), "--requirement", str(requirements)]


def _write(file: Path, lines: Iterable[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _conda_file(spec: EnvironmentSpec) -> str:
    """An environment that has the interpreter alone from conda; JSON is YAML."""
    dependencies: Sequence[str] = [f"python={spec.python}", "pip"]
    return json.dumps({"channels": ["conda-forge"], "dependencies": dependencies}) + "\n"
