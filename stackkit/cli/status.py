"""``stackkit status``: what is used here, and what is running."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from .. import __version__
from .output import Section, columns_of, output_option, print_details


@click.command("status")
@output_option
def status(output: str) -> None:
    """Show what stackkit uses here, and how many servers are running where."""
    from ..client import Client
    from ..stack import ComponentType

    client = Client()
    active = client.active_stack
    deployer = active.components.get(ComponentType.MODEL_DEPLOYER)
    head: dict[str, Any] = {
        "version": __version__,
        "home": str(client.settings.home),
        "database": client.database.url,
        "schema_revision": client.database.revision(),
        "active_stack": active.name,
        "model_deployer": deployer.name if deployer else None,
    }
    total: Counter[str] = Counter()
    running: Counter[str] = Counter()
    for service in client.servers.find():
        place = service.platform or ""
        total[place] += 1
        running[place] += service.is_running
    servers = [{"platform": place, "running": running[place], "total": count} for place, count in sorted(total.items())]
    print_details(
        {**head, "servers": servers},
        output,
        properties={
            **{field.upper(): value for field, value in head.items()},
            "RUNNING_SERVERS": f"{running.total()} of {total.total()}",
        },
        sections=[Section("Model servers", columns_of("platform", "running", "total"), servers)],
    )
