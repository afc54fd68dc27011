"""Canaries of services, and events that are written once however often their transaction is done."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("service", sa.Column("canary_revision", sa.Integer(), nullable=True))
    op.add_column("service", sa.Column("canary_percent", sa.Integer(), nullable=True))
    op.add_column("service_event", sa.Column("idempotency_key", sa.String(length=36), nullable=True))
    op.create_index("ix_service_event_idempotency_key", "service_event", ["idempotency_key"], unique=True)
