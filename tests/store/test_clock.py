"""The database's clock and the times in the tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import insert, select, text

from stackkit.store import Database
from stackkit.store.clock import now
from stackkit.store.tables import stacks

pytestmark = pytest.mark.all_databases


def clock(database: Database, after: float = 0) -> datetime:
    with database.read() as connection:
        told = connection.execute(select(now(after))).scalar_one()
    assert isinstance(told, datetime)
    return told


def test_it_agrees_with_this_machine(database: Database) -> None:
    assert abs(clock(database) - datetime.now(UTC)) < timedelta(seconds=5)


def test_it_moves_within_a_transaction(database: Database) -> None:
    with database.read() as connection:
        first = connection.execute(select(now())).scalar_one()
        for _ in range(10_000):
            if connection.execute(select(now())).scalar_one() > first:
                return
    pytest.fail("the clock stands still")


def test_seconds_are_added_and_taken(database: Database) -> None:
    for after in (0.25, 30, -3600):
        difference = clock(database, after) - clock(database) - timedelta(seconds=after)
        assert abs(difference) < timedelta(seconds=5), after


def test_a_statement_that_is_used_again_has_its_own_seconds(database: Database) -> None:
    assert clock(database, 100) - clock(database, -100) > timedelta(seconds=150)


def test_a_sessions_time_zone_does_not_matter(database: Database) -> None:
    zone = {"postgresql": "SET TIME ZONE 'America/New_York'", "mysql": "SET time_zone = '-05:00'"}
    with database.read() as connection:
        if statement := zone.get(connection.dialect.name):
            connection.execute(text(statement))
        told = connection.execute(select(now())).scalar_one()
    assert abs(told - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_time_comes_back_as_it_was(database: Database) -> None:
    before_1970 = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    elsewhere = datetime(2026, 3, 29, 2, 30, 0, 123_456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    with database.write() as connection:
        connection.execute(insert(stacks).values(id="1", name="times", created=before_1970, updated=elsewhere))
    with database.read() as connection:
        row = connection.execute(select(stacks).where(stacks.c.created == before_1970)).one()
    assert (row.created, row.updated) == (before_1970, elsewhere)
    assert row.updated.tzinfo is UTC
