"""``stackkit model-deployer flavor``: what a model deployer can be made of."""

from __future__ import annotations

from dataclasses import asdict

import click

from .fields import describe_fields
from .groups import Group
from .interaction import confirm_deletion, note, yes_option
from .output import Column, Section, columns_of, output_option, print_details, print_list

_FIELDS = ("name", "distribution", "source", "folder")
_FIELD_COLUMNS = [Column("name", "FIELD"), *columns_of("type", "required", "default", "description")]


@click.group("flavor", cls=Group)
def flavor() -> None:
    """See and add flavors: what a deployer can deploy to."""


@flavor.command("list")
@output_option
def list_flavors(output: str) -> None:
    """List the flavors that are installed or registered."""
    from ..client import Client
    from ..stack import ComponentType

    entries = Client().flavors.list(ComponentType.MODEL_DEPLOYER)
    rows = [{field: value for field, value in asdict(entry).items() if field in _FIELDS} for entry in entries]
    empty = "There is none. Install a package that brings one: pip install stackkit-NAME"
    print_list(rows, output, columns=columns_of(*_FIELDS), fields=_FIELDS, empty=empty)


@flavor.command("describe")
@click.argument("name", metavar="FLAVOR")
@output_option
def describe(name: str, output: str) -> None:
    """Show the attributes of a flavor's deployers, and the fields of its services."""
    from ..client import Client
    from ..model_deployers import ModelDeployerFlavor
    from ..stack import ComponentType

    loaded = Client().flavors.get(ComponentType.MODEL_DEPLOYER, name)
    attributes = describe_fields(loaded.config_class)
    service_fields = describe_fields(loaded.service_config_class) if isinstance(loaded, ModelDeployerFlavor) else []
    head = {"name": loaded.name, "summary": loaded.SUMMARY, "implementation": loaded.implementation}
    print_details(
        {**head, "attributes": attributes, "service_fields": service_fields},
        output,
        properties={field.upper(): value for field, value in head.items()},
        sections=[
            Section("Attributes of the deployer (register … --field=value)", _FIELD_COLUMNS, attributes),
            Section("Fields of a service (models deploy … -c field=value)", _FIELD_COLUMNS, service_fields),
        ],
    )


@flavor.command("register")
@click.argument("source", metavar="PATH.TO.FLAVOR")
def register(source: str) -> None:
    """Register a flavor of your own, given as its class: package.module.ClassName.

    The module is imported from where it is installed, or from the file below the working directory, whose folder is
    kept with it.
    """
    from ..client import Client
    from ..stack import ComponentType

    entry = Client().flavors.register(ComponentType.MODEL_DEPLOYER, source)
    where = f" from {entry.folder}" if entry.folder else ""
    note(f"Registered the flavor {entry.name!r}{where}.")


@flavor.command("delete")
@click.argument("name", metavar="FLAVOR")
@yes_option
def delete(name: str, yes: bool) -> None:
    """Forget a registered flavor that no deployer has."""
    from ..client import Client
    from ..stack import ComponentType

    confirm_deletion(f"the flavor {name!r}", yes)
    Client().flavors.delete(ComponentType.MODEL_DEPLOYER, name)
    note(f"Deleted the flavor {name!r}.")
