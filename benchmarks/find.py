"""How long the first page of find_model_server takes, by filter and by how many services there are, and a list.

    python benchmarks/find.py --sizes 1000 10000 100000

The rows are inserted straight into the tables of a SQLite database; nothing is served. For each filter one value
belongs to ten services, spread evenly over the others, and another value to all of those.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from measuring import print_table, wall
from sqlalchemy import insert, update

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer, ServiceState, Target
from stackkit.model_deployers.servers import PAGE_SIZE
from stackkit.settings import Settings
from stackkit.stack import ComponentType
from stackkit.store.tables import services

FEW = 10
REPEATS = 50
BATCH = 10_000
COLUMNS = ("pipeline_name", "pipeline_step_name", "run_name", "service_name", "model_name", "model_version", "flavor")
OLDEST = datetime(2026, 1, 1, tzinfo=UTC)
UUIDS = uuid.UUID("00000000-0000-4000-8000-000000000000")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="how many services")
    for size in parser.parse_args().sizes:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            client = Client(Settings(home=home, database_url=f"sqlite:///{home / 'stackkit.db'}"))
            print(f"{size:,} services: the first page in ms\n")
            print_table(("filter", "services that match", "median", "max"), measure(client, size))
            client.database.close()


def measure(client: Client, size: int) -> list[tuple[str, str, str, str]]:
    """Fill the database with ``size`` services; a row of the table for each filter."""
    record = client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
    fill(client, record.id, size)
    rows = [timed(client, {}, size)]
    for column in COLUMNS:
        rows += [timed(client, {column: "few"}, FEW), timed(client, {column: "many"}, size - FEW)]
    rows.append(timed(client, {"service_uuid": service_uuid(size // 2)}, 1))
    for state, running in ((ServiceState.ACTIVE, True), (ServiceState.INACTIVE, False)):
        # those few are in ``state``, and all others are not
        let_few_be(client, state)
        rows += [timed(client, {"running": running}, FEW), timed(client, {"running": not running}, size - FEW)]
    return [*rows, timed_list(client, size)]


def timed_list(client: Client, size: int) -> tuple[str, str, str, str]:
    """Read the list of all deployers' services from the newest to the oldest, and time each of its pages."""
    samples = []
    pages = iter(client.servers.find(refresh=False))
    for first in range(0, size, PAGE_SIZE):
        wanted = min(PAGE_SIZE, size - first)
        samples.append(wall(lambda wanted=wanted: [next(pages) for _ in range(wanted)]) * 1e3)
    if next(pages, None) is not None:
        raise SystemExit(f"the list has more than {size} services")
    return "the whole list, each page", f"{size:,}", f"{statistics.median(samples):.2f}", f"{max(samples):.2f}"


def timed(client: Client, filters: Mapping[str, Any], matching: int) -> tuple[str, str, str, str]:
    """Read the first page, each time with a deployer object that was just made; the first time is not counted."""
    wanted = min(matching, PAGE_SIZE)

    def read(deployer: BaseModelDeployer) -> None:
        found = deployer.find_model_server(refresh=False, **filters)[:wanted]
        if len(found) != wanted:
            raise SystemExit(f"{dict(filters)} found {len(found)} services, not {wanted}")

    samples = [wall(partial(read, client.model_deployer("local"))) * 1e3 for _ in range(REPEATS + 1)][1:]
    named = ", ".join(f"{name}={value!r}" for name, value in filters.items() if name != "service_uuid")
    label = named or ("service_uuid" if filters else "none")
    return label, f"{matching:,}", f"{statistics.median(samples):.2f}", f"{max(samples):.2f}"


def fill(client: Client, deployer_id: str, size: int) -> None:
    """Insert ``size`` services of one deployer, a second apart."""
    with client.database.write() as connection:
        for first in range(0, size, BATCH):
            numbers = range(first, min(first + BATCH, size))
            connection.execute(insert(services), [row(deployer_id, number, size) for number in numbers])


def row(deployer_id: str, number: int, size: int) -> dict[str, Any]:
    """A service as the lifecycle would have written it."""
    names = dict.fromkeys(COLUMNS, "few" if is_few(number, size) else "many")
    created = OLDEST + timedelta(seconds=number)
    service_id = service_uuid(number)
    config = {name: value for name, value in names.items() if name != "flavor"}
    return {
        **names,
        "id": service_id,
        "identity": f"{number:064x}",
        "deployer_id": deployer_id,
        "revision": 1,
        "config": {**config, "model_uri": f"/models/{number}.py:predict", "workers": 1, "request_timeout": 60},
        "source": {"uri": f"/models/{number}.py:predict", "digest": f"sha256:{number:064x}"},
        "target": Target.ACTIVE,
        "state": ServiceState.ACTIVE,
        "state_since": created,
        "message": "",
        "prediction_url": f"http://127.0.0.1:{20_000 + number % 12_000}/invocations",
        "details": {"folder": f"/services/{service_id}", "port": 20_000 + number % 12_000},
        "platform_id": "machine:benchmark",
        "platform_name": "benchmark",
        "lease_epoch": 1,
        "created": created,
        "updated": created,
    }


def is_few(number: int, size: int) -> bool:
    return number % (size // FEW) == 0


def service_uuid(number: int) -> str:
    return str(uuid.UUID(int=UUIDS.int + number))


def let_few_be(client: Client, state: ServiceState) -> None:
    """Put the few services into ``state`` and all the others out of it."""
    other = ServiceState.INACTIVE if state is ServiceState.ACTIVE else ServiceState.ACTIVE
    is_one_of_few = services.c.pipeline_name == "few"
    with client.database.write() as connection:
        connection.execute(update(services).where(is_one_of_few).values(state=state))
        connection.execute(update(services).where(~is_one_of_few).values(state=other))


if __name__ == "__main__":
    main()
