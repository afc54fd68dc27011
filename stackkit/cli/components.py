"""The commands that every type of component has (``COMMANDS``), and the groups that need no more than these.

The commands are the same objects in each group; the group says which type they are about (``ctx.obj``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidConfigError
from .attributes import AttributeCommand, typed
from .fields import describe_fields
from .groups import Group
from .interaction import confirm_deletion, note, yes_option
from .output import Column, Section, as_text, columns_of, output_option, print_details, print_list, without_blanks

if TYPE_CHECKING:
    from ..client import Client
    from ..stack import ComponentConfig, ComponentRecord, ComponentType

_FIELDS = ("name", "active", "id", "flavor", "config", "created", "updated")
_COLUMNS = [
    Column("active", text=lambda active: "➜" if active else ""),
    *columns_of("name", "id", "flavor"),
    Column("config", text=lambda config: as_text(without_blanks(config))),
]


class RegisterCommand(AttributeCommand):
    """Its help goes on with the attributes of the flavor that is named before ``--help``."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        flavor = ctx.params.get("flavor")
        if flavor is None:
            return
        client, component_type = _open(ctx.obj)
        fields = describe_fields(client.flavors.get(component_type, flavor).config_class)
        with formatter.section(f"Attributes of {flavor}"):
            formatter.write_dl([(f"--{field['name'].replace('_', '-')}", _told(field)) for field in fields])


@click.command("register", cls=RegisterCommand)
@click.argument("name")
@click.option("-f", "--flavor", required=True, is_eager=True, help="The flavor that implements it.")
@click.pass_obj
def register(kind: str, name: str, flavor: str, attributes: dict[str, str | None]) -> None:
    """Register one under a name.

    Each further option is an attribute of the flavor; --flavor FLAVOR --help lists them. A secret one is kept
    encrypted; to keep it out of the shell's history as well, refer to a stored secret: --token={{name.key}}.
    """
    client, component_type = _open(kind)
    config_class = _config_class(client, component_type, flavor, attributes)
    record = client.register_component(component_type, name, flavor, typed(config_class, attributes))
    note(f"Registered the {component_type.label} {record.name!r}.")


@click.command("list")
@output_option
@click.pass_obj
def list_components(kind: str, output: str) -> None:
    """List those that are registered; ➜ marks the active stack's."""
    client, component_type = _open(kind)
    active = client.active_stack.components.get(component_type)
    rows = [_as_dict(record, active) for record in client.components.list(component_type)]
    register_one = f"stackkit {component_type.command} register NAME --flavor=local"
    empty = f"There is no {component_type.label} yet. Register one: {register_one}"
    print_list(rows, output, columns=_COLUMNS, fields=_FIELDS, empty=empty)


@click.command("describe")
@click.argument("name", required=False)
@output_option
@click.pass_obj
def describe(kind: str, name: str | None, output: str) -> None:
    """Show a component and its attributes; without a NAME the active stack's."""
    client, component_type = _open(kind)
    record = client.get_component(component_type, name)
    values = _as_dict(record, client.active_stack.components.get(component_type))
    attributes = [{"attribute": name, "value": value} for name, value in record.shown_config.items()]
    print_details(
        values,
        output,
        properties={field.upper(): values[field] for field in _FIELDS if field != "config"},
        sections=[Section("Attributes", columns_of("attribute", "value"), attributes)],
    )


@click.command("get")
@click.pass_obj
def get(kind: str) -> None:
    """Print the name of the active stack's."""
    client, component_type = _open(kind)
    click.echo(client.get_component(component_type).name)


@click.command("update", cls=AttributeCommand)
@click.argument("name")
@click.pass_obj
def update(kind: str, name: str, attributes: dict[str, str | None]) -> None:
    """Change attributes of a component: --key=value.

    An empty value (--key=) puts an attribute back to its default.
    """
    if not attributes:
        raise click.UsageError("There is nothing to change: give attributes as --key=value.")
    client, component_type = _open(kind)
    record = client.get_component(component_type, name)
    config_class = _config_class(client, component_type, record.flavor, attributes)
    given = {field: text for field, text in attributes.items() if text != "" or "." in field}
    changes: dict[str, Any] = {field: None for field in attributes if field not in given}
    client.update_component(component_type, name, {**changes, **typed(config_class, given, record.config)})
    note(f"Updated the {component_type.label} {record.name!r}.")


@click.command("rename")
@click.argument("name")
@click.argument("new_name")
@click.pass_obj
def rename(kind: str, name: str, new_name: str) -> None:
    """Give a component another name."""
    client, component_type = _open(kind)
    client.components.rename(component_type, name, new_name)
    note(f"Renamed the {component_type.label} {name!r} to {new_name!r}.")


@click.command("copy")
@click.argument("name")
@click.argument("new_name")
@click.pass_obj
def copy(kind: str, name: str, new_name: str) -> None:
    """Register NEW_NAME with the flavor and attributes of NAME."""
    client, component_type = _open(kind)
    client.copy_component(component_type, name, new_name)
    note(f"Copied the {component_type.label} {name!r} to {new_name!r}.")


@click.command("delete")
@click.argument("name")
@yes_option
@click.pass_obj
def delete(kind: str, name: str, yes: bool) -> None:
    """Delete a component that no stack and no model server needs."""
    client, component_type = _open(kind)
    record = client.get_component(component_type, name)
    confirm_deletion(f"the {component_type.label} {record.name!r}", yes)
    client.components.delete(component_type, name)
    note(f"Deleted the {component_type.label} {record.name!r}.")


COMMANDS = (register, list_components, describe, get, update, rename, copy, delete)


@click.group("artifact-store", cls=Group)
@click.pass_context
def artifact_store(ctx: click.Context) -> None:
    """Say where pipelines keep their artifacts."""
    ctx.obj = "artifact_store"


@click.group("orchestrator", cls=Group)
@click.pass_context
def orchestrator(ctx: click.Context) -> None:
    """Say what runs pipelines."""
    ctx.obj = "orchestrator"


for _group in (artifact_store, orchestrator):
    for _command in COMMANDS:
        _group.add_command(_command)


def _open(kind: str) -> tuple[Client, ComponentType]:
    from ..client import Client
    from ..stack import ComponentType

    return Client(), ComponentType(kind)


def _config_class(
    client: Client, component_type: ComponentType, flavor: str, attributes: Mapping[str, str | None]
) -> type[ComponentConfig]:
    """What the flavor's components are configured by.

    Raises InvalidConfigError for an attribute that is none of theirs and a field of their servers.
    """
    from ..model_deployers import ModelDeployerFlavor

    found = client.flavors.get(component_type, flavor)
    if isinstance(found, ModelDeployerFlavor):
        for field in (name.partition(".")[0] for name in attributes):
            if field not in found.config_class.model_fields and field in found.service_config_class.model_fields:
                raise InvalidConfigError(
                    f"{field!r} is no attribute of a {flavor} model deployer, but a field of each of its servers.",
                    f"Give it to a server: stackkit model-deployer models deploy … -c {field}=….",
                )
    return found.config_class


def _told(field: dict[str, Any]) -> str:
    default = "required" if field["required"] else f"default: {as_text(field['default'])}"
    return f"{field['description']} ({field['type']})  [{default}]".strip()


def _as_dict(record: ComponentRecord, active: ComponentRecord | None) -> dict[str, Any]:
    return {
        "name": record.name,
        "active": active is not None and active.id == record.id,
        "id": record.id,
        "flavor": record.flavor,
        "config": record.shown_config,
        "created": record.created,
        "updated": record.updated,
    }
