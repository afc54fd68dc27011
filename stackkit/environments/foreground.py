"""A program that takes this process's place and runs a model in the environment that it asks for."""

from __future__ import annotations

from dataclasses import dataclass

from .choosing import ChosenEnvironment
from .launch import server_environment
from .python_environments import building
from .python_environments.building import BuiltEnvironment


@dataclass(frozen=True)
class ForegroundCommand:
    """What to execute, with which environment variables, and where the model runs then.

    ``hold`` is a descriptor to be passed on, which keeps the model's environment from being removed meanwhile; None
    when the model runs in the one that stackkit runs in.
    """

    arguments: list[str]
    variables: dict[str, str]
    environment: ChosenEnvironment
    hold: int | None


def foreground(arguments: list[str], chosen: ChosenEnvironment, built: BuiltEnvironment | None) -> ForegroundCommand:
    """A command with what goes along with it. Raises ModelError when the environment was removed meanwhile."""
    variables = server_environment({})
    if built is not None and arguments[0] == built.python:
        # they lead another interpreter to this one's libraries; the server's supervisor takes care of its workers
        variables = {name: value for name, value in variables.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return ForegroundCommand(arguments, variables, chosen, None if built is None else building.hold(built))
