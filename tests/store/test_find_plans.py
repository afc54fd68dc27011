"""On SQLite, each filter of a page is answered from its own index, whatever other filters are there."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from stackkit.store import Database, services
from stackkit.store.tables import SERVICE_FILTERS

NAMED = [name for name in SERVICE_FILTERS if name not in ("deployer_id", "flavor", "state")]


def plan(database: Database, filters: dict[str, Any], running: bool | None = None) -> str:
    """What SQLite would do for a page."""
    statements: list[tuple[str, Any]] = []

    def keep(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if statement.startswith("SELECT"):
            statements.append((statement, parameters))

    with database.read() as connection:
        event.listen(database.engine, "before_cursor_execute", keep)
        services.page(connection, filters, running=running, limit=10)
        event.remove(database.engine, "before_cursor_execute", keep)
        ((statement, parameters),) = statements
        explained = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return "\n".join(row[3] for row in explained)


@pytest.mark.parametrize("running", [None, True])
@pytest.mark.parametrize("name", NAMED)
def test_a_name_comes_before_what_many_share(database: Database, name: str, running: bool | None) -> None:
    found = plan(database, {"deployer_id": "1", "flavor": "local", name: "wanted"}, running)
    assert f"ix_service_{name} ({name}=?" in found
    assert "SCAN" not in found
    assert "TEMP B-TREE" not in found  # the index is in the order of the list


@pytest.mark.parametrize(
    ("filters", "running", "index"),
    [
        ({}, None, "ix_service_created_id"),
        ({"deployer_id": "1"}, None, "ix_service_deployer_id"),
        ({"deployer_id": "1", "flavor": "local"}, None, "ix_service_flavor"),
        ({"deployer_id": "1"}, True, "ix_service_running"),
        ({"deployer_id": "1", "flavor": "local"}, True, "ix_service_running"),
    ],
)
def test_without_a_name_the_narrowest_is_taken(
    database: Database, filters: dict[str, Any], running: bool | None, index: str
) -> None:
    found = plan(database, filters, running)
    assert f"service USING INDEX {index}" in found
    assert "TEMP B-TREE" not in found


def test_a_uuid_is_found_by_the_primary_key(database: Database) -> None:
    assert "SEARCH service USING INDEX sqlite_autoindex_service_1 (id=?)" in plan(
        database, {"deployer_id": "1", "id": "2"}
    )
