"""Stack components: a name, a flavor and a configuration, kept in the database."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import Connection, RowMapping, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..errors import AlreadyExistsError, InUseError, InvalidConfigError, NotFoundError
from ..store import Database
from ..store import services as service_rows
from ..store.clock import now
from ..store.tables import components, stack_components, stacks
from . import configs
from .configs import Config
from .secrets import SecretStore

DEFAULT_STACK = "default"

if TYPE_CHECKING:
    from .flavors import Flavor


class ComponentType(StrEnum):
    """The kinds of component that a stack is made of."""

    ARTIFACT_STORE = "artifact_store"
    MODEL_DEPLOYER = "model_deployer"
    ORCHESTRATOR = "orchestrator"

    @property
    def label(self) -> str:
        """As it is written in a sentence."""
        return self.value.replace("_", " ")

    @property
    def with_article(self) -> str:
        """As it is written where any one will do."""
        return f"{'an' if self.value[0] in 'aeiou' else 'a'} {self.label}"

    @property
    def command(self) -> str:
        """As it is written on the command line."""
        return self.value.replace("_", "-")


class ComponentConfig(Config):
    """The attributes of a component, as a flavor declares them. A field typed ``SecretStr`` is kept encrypted."""


@dataclass(frozen=True)
class ComponentRecord:
    """A component as the database holds it. ``config`` holds references in place of secrets."""

    id: str
    type: ComponentType
    name: str
    flavor: str
    config: dict[str, Any]
    created: datetime
    updated: datetime

    @classmethod
    def from_row(cls, row: RowMapping | Mapping[str, Any]) -> ComponentRecord:
        return cls(**{**row, "type": ComponentType(row["type"])})

    @property
    def shown_config(self) -> dict[str, Any]:
        """The attributes as they may be shown: private secrets are masked."""
        return dict(configs.masked_private(self.config))


class StackComponent:
    """The base of every component. A flavor's implementation class derives from it."""

    TYPE: ClassVar[ComponentType]

    def __init__(self, record: ComponentRecord, flavor: Flavor, database: Database) -> None:
        self.record = record
        self.flavor = flavor
        self.database = database

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def name(self) -> str:
        return self.record.name

    @cached_property
    def config(self) -> Any:
        """The typed configuration, its secrets in place. Reads the database once when it refers to secrets.

        Raises SecretError when one of them is missing, and InvalidConfigError when the stored configuration no
        longer fits the flavor.
        """
        values = self.record.config
        if configs.references(values):
            with self.database.read() as connection:
                values = SecretStore(self.database).reveal(connection, values)
        return configs.parse(self.flavor.config_class, values, describe(self.TYPE, self.record.flavor))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.id}>"


def describe(component_type: ComponentType, flavor: str) -> str:
    return f"the {flavor} {component_type.label}"


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")


def check_name(name: str, what: str) -> None:
    """Raises InvalidConfigError for a name that a command line or a URL could not hold."""
    if not _NAME.fullmatch(name):
        raise InvalidConfigError(
            f"{name!r} cannot name {what}.",
            "Use letters, digits, '.', '-' and '_', beginning with a letter or digit.",
        )


class ComponentStore:
    """The components of one database, as records."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._secrets = SecretStore(database)

    def register(
        self, component_type: ComponentType, name: str, flavor: Flavor, attributes: Mapping[str, Any]
    ) -> ComponentRecord:
        """Keep a component. Raises InvalidConfigError for wrong attributes and AlreadyExistsError for a taken name."""
        check_name(name, component_type.with_article)
        component_id = str(uuid.uuid4())
        try:
            with self._database.write() as connection:
                stored = self._stored(connection, component_id, component_type, flavor, attributes)
                connection.execute(
                    insert(components).values(
                        id=component_id,
                        type=component_type.value,
                        name=name,
                        flavor=flavor.name,
                        config=stored,
                        created=now(),
                        updated=now(),
                    )
                )
        except IntegrityError:
            raise _taken(component_type, name) from None
        return self.get(component_type, name)

    def list(self, component_type: ComponentType) -> list[ComponentRecord]:
        """All components of a type, by name."""
        query = select(components).where(components.c.type == component_type.value).order_by(components.c.name)
        with self._database.read() as connection:
            return [ComponentRecord.from_row(row) for row in connection.execute(query).mappings()]

    def get(self, component_type: ComponentType, name_or_id: str) -> ComponentRecord:
        """A component by its name or UUID. Raises NotFoundError."""
        with self._database.read() as connection:
            return ComponentRecord.from_row(find(connection, component_type, name_or_id))

    def update(
        self, component_type: ComponentType, name: str, flavor: Flavor, changes: Mapping[str, Any]
    ) -> ComponentRecord:
        """Change some attributes; one that is None goes back to its default.

        Raises InUseError when a model deployer that has servers would be pointed elsewhere: they could not be
        found again.
        """
        with self._database.write() as connection:
            row = find(connection, component_type, name)
            merged = {**row["config"], **changes}
            merged = {field: value for field, value in merged.items() if value is not None or field not in changes}
            stored = self._stored(connection, row["id"], component_type, flavor, merged)
            moved = _moved(flavor, row["config"], stored)
            if moved and service_rows.count_of_deployer(connection, row["id"]):
                raise InUseError(
                    f"The {component_type.label} {name!r} has model servers, so {', '.join(moved)} cannot change.",
                    f"Delete them first, or register another: stackkit {component_type.command} register.",
                )
            connection.execute(
                update(components).where(components.c.id == row["id"]).values(config=stored, updated=now())
            )
        return self.get(component_type, name)

    def rename(self, component_type: ComponentType, name: str, new_name: str) -> ComponentRecord:
        check_name(new_name, component_type.with_article)
        try:
            with self._database.write() as connection:
                row = find(connection, component_type, name)
                connection.execute(
                    update(components).where(components.c.id == row["id"]).values(name=new_name, updated=now())
                )
        except IntegrityError:
            raise _taken(component_type, new_name) from None
        return self.get(component_type, new_name)

    def copy(self, component_type: ComponentType, name: str, new_name: str, flavor: Flavor) -> ComponentRecord:
        """Register ``new_name`` with the attributes of ``name``, and private secrets of its own."""
        return self.register(component_type, new_name, flavor, self.get(component_type, name).config)

    def delete(self, component_type: ComponentType, name: str) -> None:
        """Raises InUseError while a stack holds the component or it has model servers.

        The ``default`` stack took its model deployer by itself, and gives it up by itself.
        """
        try:
            with self._database.write() as connection:
                row = find(connection, component_type, name)
                if servers := service_rows.count_of_deployer(connection, row["id"]):
                    raise _has_servers(name, f"still has {servers} model server{'' if servers == 1 else 's'}")
                if holders := _holders(connection, row["id"], component_type):
                    raise InUseError(
                        f"The {component_type.label} {name!r} is part of the stack {', '.join(map(repr, holders))}.",
                        "Put another in its place: "
                        f"stackkit stack update {holders[0]} --{component_type.command} NAME.",
                    )
                self._secrets.forget(connection, row["id"])
                connection.execute(delete(stack_components).where(stack_components.c.component_id == row["id"]))
                connection.execute(delete(components).where(components.c.id == row["id"]))
        except IntegrityError:
            raise _has_servers(name, "was given a model server just now") from None

    def _stored(
        self,
        connection: Connection,
        component_id: str,
        component_type: ComponentType,
        flavor: Flavor,
        attributes: Mapping[str, Any],
    ) -> dict[str, Any]:
        config = configs.parse(flavor.config_class, attributes, describe(component_type, flavor.name))
        return self._secrets.conceal(connection, configs.plain(config), component_id)


def find(connection: Connection, component_type: ComponentType, name_or_id: str) -> RowMapping:
    """The row of a component by its name or UUID. Raises NotFoundError."""
    query = select(components).where(
        components.c.type == component_type.value,
        (components.c.name == name_or_id) | (components.c.id == name_or_id),
    )
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(
            f"There is no {component_type.label} {name_or_id!r}.",
            f"See what there is: stackkit {component_type.command} list.",
        )
    return row


def _moved(flavor: Flavor, before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[str]:
    """The location fields that differ; one that was not there before had its default."""
    defaults = {
        name: info.get_default(call_default_factory=True) for name, info in flavor.config_class.model_fields.items()
    }
    return [field for field in flavor.location_fields if before.get(field, defaults[field]) != after[field]]


def _holders(connection: Connection, component_id: str, component_type: ComponentType) -> Sequence[str]:
    """The stacks that need the component."""
    query = (
        select(stacks.c.name)
        .join(stack_components, stack_components.c.stack_id == stacks.c.id)
        .where(stack_components.c.component_id == component_id)
        .order_by(stacks.c.name)
    )
    if component_type is ComponentType.MODEL_DEPLOYER:
        query = query.where(stacks.c.name != DEFAULT_STACK)
    return list(connection.execute(query).scalars())


def _has_servers(name: str, what: str) -> InUseError:
    return InUseError(
        f"The model deployer {name!r} {what}.",
        f"Delete them first: stackkit model-deployer models list --deployer {name}.",
    )


def _taken(component_type: ComponentType, name: str) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"There is {component_type.with_article} {name!r} already.",
        f"Choose another name, or change it: stackkit {component_type.command} update {name}.",
    )
