"""Stacks: one component of each type under a name, and which of them is active."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..errors import AlreadyExistsError, InUseError, NotFoundError
from ..settings import ENV_STACK
from ..store import Database
from ..store.clock import now
from ..store.tables import components, stack_components, stacks
from .components import DEFAULT_STACK, ComponentRecord, ComponentType, StackComponent, check_name, find
from .flavors import FlavorRegistry

_OF_DEFAULT = (ComponentType.ARTIFACT_STORE, ComponentType.ORCHESTRATOR)


@dataclass(frozen=True)
class Stack:
    """A stack: its components by type."""

    id: str
    name: str
    components: Mapping[ComponentType, ComponentRecord]
    created: datetime
    updated: datetime


class StackStore:
    """The stacks of one database. The ``default`` stack is always there."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, name: str, parts: Mapping[ComponentType, str]) -> Stack:
        """Keep a stack made of the named components; what is not named comes from the ``default`` stack.

        Raises NotFoundError for a component that does not exist and AlreadyExistsError for a taken name.
        """
        check_name(name, "a stack")
        defaults = {kind: self.get(DEFAULT_STACK).components[kind].name for kind in _OF_DEFAULT if kind not in parts}
        try:
            with self._database.write() as connection:
                chosen = {kind: find(connection, kind, part)["id"] for kind, part in {**defaults, **parts}.items()}
                _insert(connection, name, chosen)
        except IntegrityError:
            raise _taken(name) from None
        return self.get(name)

    def list(self) -> list[Stack]:
        """All stacks, by name."""
        self._ensure_default()
        with self._database.read() as connection:
            return _load(connection, select(stacks).order_by(stacks.c.name))

    def get(self, name_or_id: str) -> Stack:
        """Raises NotFoundError."""
        if name_or_id == DEFAULT_STACK:
            self._ensure_default()
        with self._database.read() as connection:
            return _load(connection, select(stacks).where(stacks.c.id == _find(connection, name_or_id)["id"]))[0]

    def update(
        self, name: str, parts: Mapping[ComponentType, str], remove: frozenset[ComponentType] = frozenset()
    ) -> Stack:
        """Put the named components in the place of those of their type; take out those in ``remove``.

        Raises NotFoundError, and InUseError when ``default`` would lose its artifact store or orchestrator.
        """
        self.get(name)
        with self._database.write() as connection:
            row = _find(connection, name)
            if row["name"] == DEFAULT_STACK and (needed := sorted(remove.intersection(_OF_DEFAULT) - parts.keys())):
                raise InUseError(
                    f"The stack {DEFAULT_STACK!r} always has {needed[0].with_article}: other stacks are made from it.",
                    f"Put another in its place: stackkit stack update {DEFAULT_STACK} --{needed[0].command} NAME.",
                )
            for kind in {*parts, *remove}:
                connection.execute(
                    delete(stack_components).where(
                        stack_components.c.stack_id == row["id"], stack_components.c.type == kind.value
                    )
                )
            for kind, part in parts.items():
                _put(connection, row["id"], kind, find(connection, kind, part)["id"])
            connection.execute(update(stacks).where(stacks.c.id == row["id"]).values(updated=now()))
        return self.get(name)

    def rename(self, name: str, new_name: str) -> Stack:
        """Raises NotFoundError, AlreadyExistsError for a taken name, and InUseError for ``default``."""
        check_name(new_name, "a stack")
        try:
            with self._database.write() as connection:
                row = _find(connection, name)
                _refuse_default(row["name"], "renamed")
                connection.execute(update(stacks).where(stacks.c.id == row["id"]).values(name=new_name, updated=now()))
        except IntegrityError:
            raise _taken(new_name) from None
        return self.get(new_name)

    def delete(self, name: str) -> None:
        """Delete the stack, not its components. Raises InUseError for the active one and for ``default``."""
        stack = self.get(name)
        _refuse_default(stack.name, "deleted")
        if self.active().id == stack.id:
            raise InUseError(
                f"The stack {stack.name!r} is active.", "Choose another first: stackkit stack set default."
            )
        with self._database.write() as connection:
            connection.execute(delete(stacks).where(stacks.c.id == stack.id))

    def active(self) -> Stack:
        """The active stack: the one STACKKIT_STACK names, else the one chosen in this home, else ``default``.

        Raises NotFoundError when the variable names none; a chosen one that is gone falls back to ``default``.
        """
        settings = self._database.settings
        if settings.stack:
            try:
                return self.get(settings.stack)
            except NotFoundError:
                raise NotFoundError(
                    f"{ENV_STACK} names a stack that does not exist: {settings.stack!r}.",
                    "See what there is: stackkit stack list.",
                ) from None
        if chosen := settings.read_active_stack():
            try:
                return self.get(chosen)
            except NotFoundError:
                pass  # it was deleted from another home
        return self.get(DEFAULT_STACK)

    def activate(self, name: str) -> Stack:
        """Make a stack the active one of this home."""
        stack = self.get(name)
        self._database.settings.write_active_stack(stack.id)
        return stack

    def adopt_first_deployer(self, record: ComponentRecord) -> bool:
        """Put a model deployer into the ``default`` stack when that has none; whether it did."""
        self._ensure_default()
        if ComponentType.MODEL_DEPLOYER in self.get(DEFAULT_STACK).components:
            return False
        try:
            with self._database.write() as connection:
                _put(connection, _find(connection, DEFAULT_STACK)["id"], record.type, record.id)
        except IntegrityError:
            return False  # another was registered at the same moment
        return True

    def active_component(self, component_type: ComponentType) -> StackComponent:
        """The active stack's component of a type, ready for use. Raises NotFoundError when it has none."""
        return self.load(self.active_record(component_type))

    def active_record(self, component_type: ComponentType) -> ComponentRecord:
        """The active stack's component of a type, as it is kept. Raises NotFoundError when it has none."""
        stack = self.active()
        record = stack.components.get(component_type)
        if record is None:
            raise NotFoundError(
                f"The active stack {stack.name!r} has no {component_type.label}.",
                f"Register one (stackkit {component_type.command} register local --flavor=local) and add it: "
                f"stackkit stack update {stack.name} --{component_type.command} NAME.",
            )
        return record

    def load(self, record: ComponentRecord) -> StackComponent:
        """Build the component that ``record`` describes. Raises FlavorError when its flavor cannot be loaded."""
        return FlavorRegistry(self._database).get(record.type, record.flavor).load(record, self._database)

    def _ensure_default(self) -> None:
        with self._database.read() as connection:
            if connection.execute(select(stacks.c.id).where(stacks.c.name == DEFAULT_STACK)).first():
                return
        try:
            with self._database.write() as connection:
                _insert(connection, DEFAULT_STACK, {kind: _default_component(connection, kind) for kind in _OF_DEFAULT})
        except IntegrityError:
            pass  # made at the same moment by another


def _refuse_default(name: str, verb: str) -> None:
    if name == DEFAULT_STACK:
        raise InUseError(f"The stack {DEFAULT_STACK!r} cannot be {verb}.", "Register one of your own beside it.")


def _default_component(connection: Connection, kind: ComponentType) -> str:
    """The UUID of the component that the ``default`` stack begins with: one that bears its name, or a local one."""
    same = (components.c.type == kind.value, components.c.name == DEFAULT_STACK)
    found: str | None = connection.execute(select(components.c.id).where(*same)).scalar()
    if found is not None:
        return found
    component_id = str(uuid.uuid4())
    values: dict[str, Any] = {
        "id": component_id,
        "type": kind.value,
        "name": DEFAULT_STACK,
        "flavor": "local",
        "config": {},
    }
    connection.execute(insert(components).values(**values, created=now(), updated=now()))
    return component_id


def _insert(connection: Connection, name: str, parts: Mapping[ComponentType, str]) -> None:
    stack_id = str(uuid.uuid4())
    connection.execute(insert(stacks).values(id=stack_id, name=name, created=now(), updated=now()))
    for kind, component_id in parts.items():
        _put(connection, stack_id, kind, component_id)


def _put(connection: Connection, stack_id: str, kind: ComponentType, component_id: str) -> None:
    connection.execute(insert(stack_components).values(stack_id=stack_id, type=kind.value, component_id=component_id))


def _find(connection: Connection, name_or_id: str) -> RowMapping:
    query = select(stacks).where((stacks.c.name == name_or_id) | (stacks.c.id == name_or_id))
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(f"There is no stack {name_or_id!r}.", "See what there is: stackkit stack list.")
    return row


def _load(connection: Connection, which: Select[Any]) -> list[Stack]:
    """The stacks that ``which`` selects, with their components."""
    rows = connection.execute(which).mappings().all()
    query = (
        select(stack_components.c.stack_id, components)
        .join(stack_components, stack_components.c.component_id == components.c.id)
        .where(stack_components.c.stack_id.in_([row["id"] for row in rows]))
        .order_by(components.c.type)
    )
    parts: dict[str, dict[ComponentType, ComponentRecord]] = {row["id"]: {} for row in rows}
    for part in connection.execute(query).mappings():
        values = dict(part)
        of_stack = parts[values.pop("stack_id")]
        of_stack[ComponentType(values["type"])] = ComponentRecord.from_row(values)
    return [Stack(row["id"], row["name"], parts[row["id"]], row["created"], row["updated"]) for row in rows]


def _taken(name: str) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"There is a stack {name!r} already.",
        f"Choose another name, or change it: stackkit stack update {name}.",
    )
