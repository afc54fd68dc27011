"""The rows of the services: leases, writes fenced by their epoch, observations, history, and finding.

Every function takes a connection, does one statement or a few, and decides nothing: what a state means is the
lifecycle's business (``stackkit.model_deployers.lifecycle``).
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from ..errors import NotFoundError
from .clock import now
from .tables import components, service_events, service_revisions, services

LEASE_SECONDS = 30.0
"""How long a lease lasts unless it is renewed: the longest that a crashed owner can hold up the next one."""

_AT_ONCE = 500  # parameters of one statement, of which old SQLite takes 999

_FREE = or_(services.c.lease_owner.is_(None), services.c.lease_expires < now())

_BROAD = ("deployer_id", "flavor", "running")  # what many services share, from the broadest


class likely(FunctionElement[bool]):  # noqa: N801 - reads as the SQL function it is
    """A condition that most rows may fulfil, so that the index of any other one is the better way to them.

    SQLite has no statistics to tell by, and takes whichever index comes first; the other databases have.
    It has no type: a Boolean one would be compared with 1, and then no index fits.
    """

    inherit_cache = True

    def __init__(self, condition: ColumnElement[bool]) -> None:
        super().__init__(condition)


@compiles(likely)
def _condition(element: likely, compiler: Any, **kwargs: Any) -> str:
    return str(compiler.process(element.clauses, **kwargs))


@compiles(likely, "sqlite")
def _sqlite_likely(element: likely, compiler: Any, **kwargs: Any) -> str:
    return f"likely({compiler.process(element.clauses, **kwargs)})"


def insert_service(connection: Connection, values: Mapping[str, Any], owner: str) -> bool:
    """Add a service, leased to ``owner``; False when there is one. Revision and epoch are 1, or what they are given.

    Raises NotFoundError when its deployer is not.
    """
    values = {"revision": 1, "lease_epoch": 1, **values, "lease_owner": owner}
    try:
        with connection.begin_nested():
            connection.execute(
                insert(services).values(
                    **values,
                    lease_expires=now(LEASE_SECONDS),
                    state_since=now(),
                    created=now(),
                    updated=now(),
                )
            )
    except IntegrityError:
        deployer = select(components.c.id).where(components.c.id == values["deployer_id"])
        if connection.execute(deployer).first() is None:
            raise NotFoundError(
                f"The model deployer of the service {values['service_name']!r} has been deleted.",
                "Register it again: stackkit model-deployer register.",
            ) from None
        return False
    insert_revision(connection, values)
    return True


def insert_revision(connection: Connection, values: Mapping[str, Any]) -> None:
    """Record the configuration in ``values`` (``id``, ``revision``, ``config``, ``source``) as a revision."""
    connection.execute(
        insert(service_revisions).values(
            service_id=values["id"],
            number=values["revision"],
            config=values["config"],
            source=values["source"],
            digest=values["source"].get("digest"),
            created=now(),
        )
    )


def remove_revision(connection: Connection, service_id: str, number: int) -> None:
    """Drop a revision that never served."""
    table = service_revisions
    connection.execute(delete(table).where(table.c.service_id == service_id, table.c.number == number))


def revisions(connection: Connection, service_id: str) -> Sequence[RowMapping]:
    """The revisions of a service, oldest first."""
    table = service_revisions
    query = select(table).where(table.c.service_id == service_id).order_by(table.c.number)
    return connection.execute(query).mappings().all()


def revision(connection: Connection, service_id: str, number: int) -> RowMapping | None:
    """A revision of a service; None when there is none of that number."""
    table = service_revisions
    query = select(table).where(table.c.service_id == service_id, table.c.number == number)
    return connection.execute(query).mappings().first()


def digests_named(connection: Connection, digests: Collection[str]) -> set[str]:
    """Those of ``digests`` that a revision of any service serves."""
    column, wanted = service_revisions.c.digest, sorted(digests)
    found: set[str] = set()
    for first in range(0, len(wanted), _AT_ONCE):
        query = select(column).where(column.in_(wanted[first : first + _AT_ONCE])).distinct()
        found.update(connection.execute(query).scalars())
    return found


def get(connection: Connection, service_id: str) -> RowMapping | None:
    return connection.execute(_select().where(services.c.id == service_id)).mappings().first()


def get_locked(connection: Connection, service_id: str) -> RowMapping | None:
    """As ``get``, in a transaction that no other one which asks so for the same service runs beside."""
    connection.execute(select(services.c.id).where(services.c.id == service_id).with_for_update())
    return get(connection, service_id)


def get_by_identity(connection: Connection, identity: str) -> RowMapping | None:
    return connection.execute(_select().where(services.c.identity == identity)).mappings().first()


def get_by_name_or_prefix(
    connection: Connection, text: str, *, deployer_id: str | None = None, limit: int
) -> Sequence[RowMapping]:
    """The services that ``text`` names: by their own name, which come first, by model name, or by UUID or the start of
    one; of all deployers or one.
    """
    clauses = [services.c.service_name == text, services.c.model_name == text]
    low = text.lower()
    if low and set(low) <= set("0123456789abcdef-"):
        # the range is for the index, and LIKE decides: some collations of PostgreSQL pass over the dashes
        clauses.append(and_(services.c.id >= low, services.c.id < low + "g", services.c.id.like(low + "%")))
    by_name = case((services.c.service_name == text, 0), else_=1)
    query = _select().where(or_(*clauses)).order_by(by_name, services.c.created.desc(), services.c.id).limit(limit)
    if deployer_id is not None:
        query = query.where(services.c.deployer_id == deployer_id)
    return connection.execute(query).mappings().all()


def count_of_deployer(connection: Connection, deployer_id: str) -> int:
    query = select(func.count()).select_from(services).where(services.c.deployer_id == deployer_id)
    return connection.execute(query).scalar_one()


def page(
    connection: Connection,
    filters: Mapping[str, Any],
    *,
    running: bool | None = None,
    may_run: bool = False,
    before: tuple[datetime, str] | None = None,
    limit: int,
) -> Sequence[RowMapping]:
    """One page of services, newest first: those whose columns equal ``filters``.

    With ``may_run`` those alone that are recorded as running or are to run. ``before`` is the ``(created, id)`` of the
    last row of the page before. Each filter has an index in this order, so that a page costs the same however many
    services there are.
    """
    query = _select().order_by(services.c.created.desc(), services.c.id.desc()).limit(limit)
    conditions = {column: services.c[column] == value for column, value in filters.items()}
    if running is not None:
        conditions["running"] = services.c.running == int(running)
    broad = [column for column in _BROAD if column in conditions]
    if len(broad) == len(conditions):
        broad = broad[:-1]
    if may_run:
        query = query.where(or_(services.c.running == 1, services.c.target == "active"))
    query = query.where(*(likely(each) if column in broad else each for column, each in conditions.items()))
    if before is not None:
        created, service_id = before
        query = query.where(
            services.c.created <= created,  # lets the index begin there
            or_(services.c.created < created, services.c.id < service_id),
        )
    return connection.execute(query).mappings().all()


def _select() -> Select[Any]:
    leased = and_(services.c.lease_owner.is_not(None), services.c.lease_expires >= now())
    named = services.join(components, components.c.id == services.c.deployer_id)
    return select(services, leased.label("leased"), components.c.name.label("deployer_name")).select_from(named)


# Leases


def take_lease(
    connection: Connection, service_id: str, owner: str, seen_epoch: int, *, instead_of: str | None = None
) -> int | None:
    """Take the lease when it is free, expired, or held by ``instead_of``; return the new epoch, else None.

    None also when somebody has taken it after it had the ``seen_epoch``. ``owner``, who bears a name of its own each
    time, gets the same answer when it asks again.
    """
    claim = _FREE if instead_of is None else or_(_FREE, services.c.lease_owner == instead_of)
    connection.execute(
        update(services)
        .where(services.c.id == service_id, services.c.lease_epoch == seen_epoch, claim)
        .values(lease_owner=owner, lease_expires=now(LEASE_SECONDS), lease_epoch=services.c.lease_epoch + 1)
    )
    taken = select(services.c.lease_epoch).where(services.c.id == service_id, services.c.lease_owner == owner)
    epoch: int | None = connection.execute(taken).scalar()
    return epoch


def renew_lease(connection: Connection, service_id: str, epoch: int) -> bool:
    """Push the expiry out again; False when the lease is somebody else's by now."""
    return write(connection, service_id, epoch, {"lease_expires": now(LEASE_SECONDS)})


def release_lease(connection: Connection, service_id: str, epoch: int) -> bool:
    return write(connection, service_id, epoch, {"lease_owner": None, "lease_expires": None})


def write(connection: Connection, service_id: str, epoch: int, values: Mapping[str, Any]) -> bool:
    """Change the row as the holder of the lease; False, and no change, when it was given back or the epoch has passed.

    A lease that has merely expired still holds.
    """
    return _change(connection, values, *_held(service_id, epoch))


def remove(connection: Connection, service_id: str, epoch: int) -> bool:
    """Delete the row and its revisions as the holder of the lease; False when ``write`` would be refused."""
    return connection.execute(delete(services).where(*_held(service_id, epoch))).rowcount == 1


def observe(
    connection: Connection,
    seen: RowMapping | Mapping[str, Any],
    values: Mapping[str, Any],
    *,
    instead_of: str | None = None,
) -> bool:
    """Record what a reader saw, unless somebody has worked on the row since ``seen`` or is working on it.

    A lease held by ``instead_of``, whose process is known to be dead, holds up nobody.
    """
    unchanged = (
        services.c.id == seen["id"],
        services.c.lease_epoch == seen["lease_epoch"],
        services.c.state == seen["state"],
        _FREE if instead_of is None else or_(_FREE, services.c.lease_owner == instead_of),
    )
    return _change(connection, values, *unchanged)


def _held(service_id: str, epoch: int) -> tuple[ColumnElement[bool], ...]:
    return services.c.id == service_id, services.c.lease_epoch == epoch, services.c.lease_owner.is_not(None)


def _change(connection: Connection, values: Mapping[str, Any], *where: ColumnElement[bool]) -> bool:
    """Update the one row that fits; a state that is written and differs is stamped with the time."""
    changes: list[tuple[Column[Any], Any]] = []
    if "state" in values:
        # before the state itself: MySQL assigns from left to right, and reads what it has assigned
        since = case((services.c.state == values["state"], services.c.state_since), else_=now())
        changes += [(services.c.state_since, since), (services.c.updated, now())]
    changes += [(services.c[name], value) for name, value in values.items()]
    return connection.execute(update(services).where(*where).ordered_values(*changes)).rowcount == 1


# History


def new_event_key() -> str:
    """An idempotency key for an event whose transaction may be done twice; to be made before the first time."""
    return str(uuid.uuid4())


def record_event(
    connection: Connection,
    service: RowMapping | Mapping[str, Any],
    *,
    actor: str,
    action: str,
    outcome: str,
    state: str | None = None,
    message: str = "",
    key: str | None = None,
) -> None:
    """Add a line to the service's history; a no-op when there is one with that idempotency key."""
    with_key = select(service_events.c.id).where(service_events.c.idempotency_key == key)
    if key is not None and connection.execute(with_key).first() is not None:
        return
    connection.execute(
        insert(service_events).values(
            service_id=service["id"],
            service_name=service["service_name"],
            at=now(),
            actor=actor[:255],
            action=action,
            state=state,
            outcome=outcome,
            message=message,
            idempotency_key=key,
        )
    )


def events(connection: Connection, service_id: str) -> Sequence[RowMapping]:
    """The service's history, oldest first; it outlives the service."""
    query = select(service_events).where(service_events.c.service_id == service_id).order_by(service_events.c.id)
    return connection.execute(query).mappings().all()
