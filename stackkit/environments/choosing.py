"""Where a model is run: in the environment that stackkit runs in, or in one of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from . import requirements
from .comparison import differences
from .python_environments import building
from .python_environments.building import BuiltEnvironment
from .python_environments.managers import find_manager, has_manager
from .python_environments.specification import EnvironmentSpec, EnvManager, specify


@dataclass(frozen=True)
class ChosenEnvironment:
    """Where a model is to be run, and why. ``spec`` is None for the environment that stackkit runs in.

    ``differences`` are what the model asks for and what is otherwise here, one text each.
    """

    manager: EnvManager
    spec: EnvironmentSpec | None
    differences: tuple[str, ...]

    def build(
        self,
        environments_folder: Path,
        *,
        progress: Callable[[str], None],
        timeout: float | None = None,
        user: str | None = None,
    ) -> BuiltEnvironment | None:
        """The environment itself, built first unless there is one; None for the one that stackkit runs in.

        ``timeout`` is in seconds, None for none; ``user`` as in ``building.ensure``. Raises ModelError and
        DeploymentTimeoutError.
        """
        if self.spec is None:
            return None
        deadline = None if timeout is None else time.monotonic() + timeout
        return building.ensure(self.spec, environments_folder, progress=progress, deadline=deadline, user=user)


def choose(reference: str, format: str, manager: str | None = None) -> ChosenEnvironment:  # noqa: A002
    """Where to run the model of a ResolvedModel's ``reference`` and ``format``.

    ``manager`` is a value of EnvManager. Without one, the model is run here when it asks for nothing that differs
    from what is here; otherwise in an environment made by uv, by venv and pip where there is no uv, or by conda when
    only that can; what is to be run here is, whatever it asks for. Raises ModelError when the model's files cannot be
    read, or no such environment can be made of them.
    """
    try:
        asked = requirements.read(reference, format)
    except ModelError as error:
        if manager != EnvManager.LOCAL:
            raise
        return ChosenEnvironment(EnvManager.LOCAL, None, (error.message.removesuffix("."),))
    found = tuple(differences(asked, reference, format))
    if manager is not None:
        wanted = EnvManager(manager)
    elif not found:
        wanted = EnvManager.LOCAL
    elif asked.conda_packages:
        wanted = EnvManager.CONDA
    else:
        wanted = EnvManager.UV if has_manager(EnvManager.UV) else EnvManager.VIRTUALENV
    if wanted is EnvManager.LOCAL:
        return ChosenEnvironment(wanted, None, found)
    find_manager(wanted)
    try:
        return ChosenEnvironment(wanted, specify(asked, wanted), found)
    except ModelError as error:
        if manager is not None:
            raise
        raise ModelError(f"{error.message} What differs here: {'; '.join(found)}.", error.hint) from error
