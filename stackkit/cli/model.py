"""``stackkit model``: what can be done with a model before it is served."""

from __future__ import annotations

import click

from .environment import manager_option, told
from .groups import Group
from .interaction import note, waiting

_LAZY = {
    "build-image": ("stackkit.cli.images:build_image", "Build an image that serves a model on port 8080."),
    "generate-dockerfile": (
        "stackkit.cli.images:generate_dockerfile",
        "Write the Dockerfile of a model's image, with all that it copies, to be built elsewhere.",
    ),
}


@click.group("model", cls=Group, lazy=_LAZY)
def model() -> None:
    """Make ready what a model needs to be served."""


@model.command("prepare-env")
@click.argument("model_uri")
@manager_option
def prepare_env(model_uri: str, env_manager: str | None) -> None:
    """Build the environment that a model is run in, and print its interpreter.

    Whatever serves the model afterwards finds it there.
    """
    from ..client import Client

    with waiting("resolving the model") as progress:
        chosen, built = Client().environments.prepare(model_uri, manager=env_manager, progress=progress)
    told(chosen.differences, chosen.manager)
    if built is None:
        note("The model runs in the environment that stackkit runs in: there is nothing to build.")
    else:
        click.echo(built.python)
