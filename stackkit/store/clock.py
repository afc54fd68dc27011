"""The database's own clock, and times as the tables hold them.

Times are microseconds since 1970 (UTC) in a BIGINT: exact, sortable, indexable, and the same in SQLite, PostgreSQL,
MySQL and MariaDB. Expiries are compared with the clock of the database alone: the clocks of the machines that share
it need not agree.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Dialect, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Timestamp(TypeDecorator[datetime]):
    """An aware UTC datetime, held as microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=int(value))


class now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function it is
    """The database's present time, plus ``after`` seconds."""

    type = Timestamp()
    inherit_cache = True

    def __init__(self, after: float = 0) -> None:
        super().__init__(literal(int(after * 1_000_000), BigInteger))


@compiles(now, "sqlite")
def _sqlite(element: now, compiler: Any, **kwargs: Any) -> str:
    # julianday() has no microseconds to give; unixepoch('subsec') has not been in SQLite for long
    present = "CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER) * 1000"
    return f"({present} + {compiler.process(element.clauses, **kwargs)})"


@compiles(now, "postgresql")
def _postgresql(element: now, compiler: Any, **kwargs: Any) -> str:
    # clock_timestamp() moves on within a transaction, now() does not
    present = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    return f"({present} + {compiler.process(element.clauses, **kwargs)})"


@compiles(now, "mysql")
@compiles(now, "mariadb")
def _mysql(element: now, compiler: Any, **kwargs: Any) -> str:
    # UNIX_TIMESTAMP() reads a local time, of which the hour that ends summer time has two
    present = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
    return f"({present} + {compiler.process(element.clauses, **kwargs)})"
