"""``stackkit model-deployer``: the deployers themselves; their flavors and servers are groups of their own."""

from __future__ import annotations

import click

from . import components
from .groups import Group

_LAZY = {
    "flavor": ("stackkit.cli.flavors:flavor", "See and add flavors: what a deployer can deploy to."),
    "models": ("stackkit.cli.models:models", "Deploy models and manage their servers."),
    "watch": (
        "stackkit.cli.upkeep:watch",
        "Keep every server at its target, in the foreground, until Ctrl-C or SIGTERM.",
    ),
}


@click.group("model-deployer", cls=Group, lazy=_LAZY)
@click.pass_context
def model_deployer(ctx: click.Context) -> None:
    """Deploy models, and manage their servers.

    A model deployer is a flavor (what runs the servers) with attributes, registered under a name. The first one
    registered joins the default stack.
    """
    ctx.obj = "model_deployer"


for _command in components.COMMANDS:
    model_deployer.add_command(_command)
