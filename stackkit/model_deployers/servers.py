"""Finding model servers, and asking their platforms how they are.

Readers observe and record what they saw; they never create, start, stop or remove anything. A service that somebody
is working on is left to them, and one whose platform cannot be asked is unknown, never inactive.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from sqlalchemy import RowMapping, select

from ..errors import AmbiguousNameError, InvalidConfigError, LeaseLostError, NotFoundError, StackkitError
from ..stack import ComponentStore, ComponentType, SecretStore, StackStore
from ..stack.configs import masked_private
from ..store import Database
from ..store import services as rows
from ..store.clock import now
from ..store.tables import SERVICE_FILTERS
from . import leases
from .config import SERVING, Observation, ServiceConfig, ServiceState, Target, UntypedServiceConfig
from .lifecycle import Lifecycle
from .service import Service
from .states import settle

if TYPE_CHECKING:
    from .base import BaseModelDeployer

Row = RowMapping | Mapping[str, Any]

PAGE_SIZE = 100
CHECK_SECONDS = 10.0
"""How long a platform has to say how its services are, before they are shown as unknown."""


_INCOMPLETE = "It answers, and what is left to do after a start was not done: start it again."


class Services(Sequence[Service]):
    """The services that were found, newest first, read a page at a time as they are asked for."""

    def __init__(self, pages: Iterator[list[Service]]) -> None:
        self._pages = pages
        self._read: list[Service] = []

    @overload
    def __getitem__(self, index: int) -> Service: ...
    @overload
    def __getitem__(self, index: slice) -> list[Service]: ...
    def __getitem__(self, index: int | slice) -> Service | list[Service]:
        wanted = index.stop if isinstance(index, slice) else index + 1
        while wanted is None or wanted <= 0 or len(self._read) < wanted:
            if not self._read_page():
                break
        return self._read[index]

    def __iter__(self) -> Iterator[Service]:
        position = 0
        while position < len(self._read) or self._read_page():
            yield self._read[position]
            position += 1

    def __bool__(self) -> bool:
        return bool(self._read) or self._read_page()

    def __len__(self) -> int:
        while self._read_page():
            pass
        return len(self._read)

    def __repr__(self) -> str:
        return f"<{len(self._read)} services read>"

    def _read_page(self) -> bool:
        page = next(self._pages, [])
        self._read += page
        return bool(page)


class ModelServers:
    """The model servers of one database, whatever deployer runs them."""

    def __init__(self, database: Database, deployers: Mapping[str, BaseModelDeployer] | None = None) -> None:
        self._database = database
        self._deployers: dict[str, BaseModelDeployer | StackkitError] = dict(deployers or {})

    def find(
        self,
        *,
        deployer_id: str | None = None,
        running: bool | None = None,
        service_uuid: uuid.UUID | str | None = None,
        refresh: bool = True,
        config_class: type[ServiceConfig] = UntypedServiceConfig,
        **filters: Any,
    ) -> Services:
        """The services that match; see ``BaseModelDeployer.find_model_server``."""
        columns, others = _split_filters(filters, config_class)
        if deployer_id is not None:
            columns["deployer_id"] = deployer_id
        if service_uuid is not None:
            columns["id"] = _uuid(service_uuid)
        return Services(self._pages(columns, others, running, refresh))

    def get(self, key: str, *, deployer_id: str | None = None, refresh: bool = True) -> Service:
        """A service by its UUID, a unique prefix of it, or its name.

        Raises NotFoundError, and AmbiguousNameError that lists those which fit.
        """
        with self._database.read() as connection:
            exact = rows.get(connection, key.lower())
            if exact is not None:
                found = [exact] if deployer_id in (None, exact["deployer_id"]) else []
            else:
                found = [*rows.get_by_name_or_prefix(connection, key, deployer_id=deployer_id, limit=100)]
        named = [row for row in found if row["service_name"] == key]
        if len(found) > 1 and len(named) == 1:
            found = named
        if not found:
            raise NotFoundError(
                f"There is no model server {key!r}.", "See what there is: stackkit model-deployer models list."
            )
        if len(found) > 1:
            listed = ", ".join(f"{row['id']} ({row['service_name']})" for row in found[:5])
            raise AmbiguousNameError(f"{key!r} fits {len(found)} model servers: {listed}.", "Give more of the UUID.")
        return self.refresh(found)[0] if refresh else self._service(found[0])

    def knows(self, service_id: str) -> bool:
        """Whether a row names this service, whatever deployer's it is."""
        with self._database.read() as connection:
            return rows.get(connection, service_id) is not None

    def history(self, key: str) -> list[dict[str, Any]]:
        """What happened to a service, oldest first, by its name, prefix or full UUID; also after it is gone."""
        try:
            service_id = self.get(key, refresh=False).id
        except NotFoundError:
            service_id = key.lower()
        with self._database.read() as connection:
            found = [dict(event) for event in rows.events(connection, service_id)]
        if not found:
            raise NotFoundError(f"There is no history of a model server {key!r}.", "Give the whole UUID.")
        return found

    def stale(self, older_than: timedelta) -> list[Service]:
        """The services that have been in error or stopped for longer than that, as their platforms see them now."""
        with self._database.read() as connection:
            clock = connection.execute(select(now())).scalar_one()
        ended = (ServiceState.ERROR, ServiceState.INACTIVE)
        return [
            service
            for service in self.find(running=False)
            if service.status.state in ended
            and clock - service.status.since > older_than
            and not service.is_being_worked_on
        ]

    def prune(self, service: Service, *, timeout: float | None = None) -> bool:
        """Delete a server that ``stale`` gave. False, and nothing is done, when it is no more what it was then.

        Raises as ``delete_model_server`` does, but for one that is gone.
        """
        seconds = service.deployer.start_seconds if timeout is None else timeout
        try:
            seen = self.get(service.id)
            if (seen.epoch, seen.status.state) != (service.epoch, service.status.state):
                return False
            Lifecycle(service.deployer, since=service.epoch).delete(service.id, timeout=seconds)
        except (LeaseLostError, NotFoundError):
            return False
        return True

    def sweep(self) -> list[str]:
        """Drop the models' bytes that were kept for a server and that no revision names; returns their digests.

        A deploy that was killed leaves such. What a deploy under way has kept stays.
        """

        def named(digests: Collection[str]) -> Collection[str]:
            with self._database.read() as connection:
                return rows.digests_named(connection, digests)

        records = ComponentStore(self._database).list(ComponentType.MODEL_DEPLOYER)
        deployers = [self._deployer(record.id) for record in records]
        return [
            digest
            for deployer in deployers
            if not isinstance(deployer, StackkitError)
            for digest in deployer.do_sweep(named)
        ]

    def revisions(self, key: str) -> list[dict[str, Any]]:
        """The configurations that have served under a service, oldest first, their secrets masked."""
        service_id = self.get(key, refresh=False).id
        with self._database.read() as connection:
            return [
                {
                    "number": row["number"],
                    "created": row["created"],
                    "model_uri": row["source"]["uri"],
                    "model_digest": row["source"].get("digest"),
                    "config": masked_private(row["config"]),
                }
                for row in rows.revisions(connection, service_id)
            ]

    def forget(self, service_id: str, timeout: float = 60) -> None:
        """Drop a service's row without asking its platform anything. Raises NotFoundError."""
        lease = leases.take(self._database, service_id, time.monotonic() + timeout)
        if lease is None:
            raise NotFoundError(f"There is no model server {service_id!r}.")
        with lease, self._database.write() as connection:
            row = rows.get(connection, service_id)
            if row is not None and rows.remove(connection, service_id, lease.epoch):
                rows.record_event(connection, row, actor=leases.actor(), action="forget", outcome="done")
                SecretStore(self._database).forget(connection, service_id)

    def refresh(self, found: Sequence[Row]) -> list[Service]:
        """Ask the platforms about these rows, all at once, record what they say, and return the services."""
        # a lease whose owner is dead protects nobody's work
        found = [row if leases.dead_owner(row) is None else {**row, "leased": False} for row in found]
        services = [self._service(row) for row in found]
        observations, failures = self._check(services)
        return [
            self._recorded(row, service, observations, failures) for row, service in zip(found, services, strict=True)
        ]

    def _pages(
        self, columns: Mapping[str, Any], others: Mapping[str, Any], running: bool | None, refresh: bool
    ) -> Iterator[list[Service]]:
        # what is recorded as running may have died, and what died or was on its way may answer: look before judging
        recorded, may_run = (None, running is True) if refresh else (running, False)
        last = None
        while True:
            with self._database.read() as connection:
                found = rows.page(connection, columns, running=recorded, may_run=may_run, before=last, limit=PAGE_SIZE)
            if not found:
                return
            last = (found[-1]["created"], found[-1]["id"])
            found = [row for row in found if all(row["config"].get(name) == value for name, value in others.items())]
            services = self.refresh(found) if refresh else [self._service(row) for row in found]
            if running is not None:
                services = [service for service in services if service.is_running is running]
            if services:
                yield services

    def _service(self, row: Row) -> Service:
        deployer = self._deployer(row["deployer_id"])
        if isinstance(deployer, StackkitError):
            return Service(row, None, unknown=deployer.message)
        return Service(row, deployer)

    def _deployer(self, deployer_id: str) -> BaseModelDeployer | StackkitError:
        if deployer_id not in self._deployers:
            self._deployers[deployer_id] = self._load(deployer_id)
        return self._deployers[deployer_id]

    def _load(self, deployer_id: str) -> BaseModelDeployer | StackkitError:
        from .base import BaseModelDeployer

        try:
            record = ComponentStore(self._database).get(ComponentType.MODEL_DEPLOYER, deployer_id)
            loaded = StackStore(self._database).load(record)
        except StackkitError as error:
            return error
        if not isinstance(loaded, BaseModelDeployer):
            return InvalidConfigError(f"The flavor {record.flavor!r} is no model deployer.")
        return loaded

    def _check(self, services: Sequence[Service]) -> tuple[dict[str, Observation], dict[str, tuple[str, bool]]]:
        """What the platforms say by service, and for the rest why they said nothing and whether to record that."""
        groups: dict[str, list[Service]] = {}
        for service in services:
            if service._deployer is not None and not service._row["leased"]:
                groups.setdefault(service._deployer.id, []).append(service)
        observations: dict[str, Observation] = {}
        failures: dict[str, tuple[str, bool]] = {}

        def ask(group: list[Service]) -> None:
            deployer = group[0].deployer
            here = deployer.do_identify()
            ours = [service for service in group if service._row["platform_id"] in (None, here.id)]
            for service in group:
                if service not in ours:
                    failures[service.id] = (
                        f"It cannot be seen from {here.name}: it runs on {service.platform}.",
                        False,
                    )
            seen = deployer.do_check(ours) if ours else {}
            for service in ours:
                observations[service.id] = seen.get(service.id, Observation(ServiceState.INACTIVE))

        errors = _at_once({key: partial(ask, group) for key, group in groups.items()}, CHECK_SECONDS)
        for key, error in errors.items():
            for service in groups[key]:
                failures.setdefault(service.id, (error, True))
        return observations, failures

    def _recorded(
        self,
        row: Row,
        service: Service,
        observations: Mapping[str, Observation],
        failures: Mapping[str, tuple[str, bool]],
    ) -> Service:
        if service.id in observations:
            values = _settled(row, service, observations[service.id])
        elif service.id in failures:
            reason, record = failures[service.id]
            if not record:
                return Service(row, service._deployer, unknown=reason)
            values = {} if row["unknown_since"] else {"unknown_since": now(), "unknown_reason": reason}
        else:
            return service
        if not values:
            return service
        with self._database.write() as connection:
            dead = row["lease_owner"] if not row["leased"] else None
            if (
                rows.observe(connection, row, values, instead_of=dead)
                and values.get("state", row["state"]) != row["state"]
            ):
                rows.record_event(
                    connection,
                    row,
                    actor=leases.actor(),
                    action="observe",
                    outcome="done",
                    state=values["state"],
                    message=values["message"],
                )
            written = rows.get(connection, service.id)
        return Service(written if written is not None else row, service._deployer)


def _settled(row: Row, service: Service, observation: Observation) -> dict[str, Any]:
    """The columns that an observation changes; none where the row tells the same already."""
    settled = settle(
        Target(row["target"]),
        ServiceState(row["state"]),
        row["message"],
        service.revision,
        observation,
        service.canary,
    )
    serving = settled.state in SERVING
    undone = settled.state in SERVING and not service.is_complete
    values: dict[str, Any] = {
        "message": settled.message or (_INCOMPLETE if undone else ""),
        "prediction_url": observation.prediction_url if serving else None,
        "details": {**row["details"], **observation.details},
        "unknown_since": None,
        "unknown_reason": None,
    }
    if settled.state != row["state"]:
        values["state"] = settled.state
    return values if any(row[name] != value for name, value in values.items()) else {}


def _at_once(tasks: Mapping[str, Callable[[], None]], seconds: float) -> dict[str, str]:
    """Run the tasks side by side; returns why for each that failed or did not end in time.

    One that hangs is left behind in a daemon thread: it may not hold up the table of all the others.
    """
    errors: dict[str, str] = dict.fromkeys(tasks, f"The platform did not answer within {seconds:.0f} seconds.")

    def run(key: str, task: Callable[[], None]) -> None:
        try:
            task()
        except StackkitError as error:
            errors[key] = error.message
        except Exception as error:  # a flavor's mistake must not fail the table
            errors[key] = f"The platform cannot be asked: {error!r}."
        else:
            del errors[key]

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in tasks.items()]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(errors)


def _split_filters(
    filters: Mapping[str, Any], config_class: type[ServiceConfig]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The filters that are columns with an index, and those that are other fields of the configuration."""
    columns, others = {}, {}
    for name, value in filters.items():
        if value is None:
            continue
        if name in SERVICE_FILTERS:
            columns[name] = value
        elif name in config_class.model_fields or config_class is UntypedServiceConfig:
            others[name] = value
        else:
            raise InvalidConfigError(
                f"{name!r} is nothing to find a model server by.",
                f"Use one of: running, service_uuid, {', '.join(sorted(config_class.model_fields))}.",
            )
    return columns, others


def _uuid(value: uuid.UUID | str) -> str:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        raise InvalidConfigError(f"{value!r} is no UUID.", "To find by a name, use service_name.") from None
