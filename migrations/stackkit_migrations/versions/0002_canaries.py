"""Canaries of services, and events that are written once however often their transaction is done."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # MySQL takes back nothing of an upgrade that was cut off: it is gone on with
    there = sa.inspect(op.get_bind())
    for table, column in (
        ("service", sa.Column("canary_revision", sa.Integer(), nullable=True)),
        ("service", sa.Column("canary_percent", sa.Integer(), nullable=True)),
        ("service_event", sa.Column("idempotency_key", sa.String(length=36), nullable=True)),
    ):
        if column.name not in {each["name"] for each in there.get_columns(table)}:
            op.add_column(table, column)
    index = "ix_service_event_idempotency_key"
    if index not in {each["name"] for each in there.get_indexes("service_event")}:
        op.create_index(index, "service_event", ["idempotency_key"], unique=True)
