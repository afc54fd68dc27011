"""``models manifest``: what a server is made of, for people who keep that in git."""

from __future__ import annotations

import click

from .models import find


@click.command("manifest")
@click.argument("uuid")
def manifest(uuid: str) -> None:
    """Print what a server is made of, in YAML, as the platform's own tool takes it.

    No secret's value is in it. For what a deploy would make: models deploy --dry-run.
    """
    service = find(uuid)
    text = service.deployer.manifest(service)
    click.echo(text, nl=not text.endswith("\n"))
