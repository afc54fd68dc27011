"""The tables. Their history is in ``migrations/stackkit_migrations/versions``; a test compares the two."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Computed,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.mysql import MEDIUMTEXT

from .clock import Timestamp
from .words import Words

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Names are compared byte by byte on every database: MySQL's default collation takes "Iris" for "iris".
OPTIONS: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}

LONG_TEXT = Text().with_variant(MEDIUMTEXT, "mysql", "mariadb")  # their TEXT ends at 64 KiB
LONG_WORDS = Words(1_000_000)


def _id() -> Column[str]:
    return Column("id", String(36), primary_key=True)


def _name(name: str, *, null: bool = True) -> Column[str]:
    return Column(name, String(255), nullable=null)


meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    **OPTIONS,
)

components = Table(
    "component",
    metadata,
    _id(),
    Column("type", String(32), nullable=False),
    _name("name", null=False),
    _name("flavor", null=False),
    Column("config", JSON, nullable=False),
    Column("created", Timestamp, nullable=False),
    Column("updated", Timestamp, nullable=False),
    UniqueConstraint("type", "name"),
    **OPTIONS,
)

stacks = Table(
    "stack",
    metadata,
    _id(),
    Column("name", String(255), nullable=False, unique=True),
    Column("created", Timestamp, nullable=False),
    Column("updated", Timestamp, nullable=False),
    **OPTIONS,
)

stack_components = Table(
    "stack_component",
    metadata,
    Column("stack_id", String(36), ForeignKey("stack.id", ondelete="CASCADE"), primary_key=True),
    Column("type", String(32), primary_key=True),
    Column("component_id", String(36), ForeignKey("component.id"), nullable=False, index=True),
    **OPTIONS,
)

flavors = Table(
    "flavor",
    metadata,
    _id(),
    Column("type", String(32), nullable=False),
    _name("name", null=False),
    Column("source", String(512), nullable=False),  # "package.module.ClassName"
    Column("folder", Text),  # where the module was found, when it is not in an installed package
    Column("created", Timestamp, nullable=False),
    UniqueConstraint("type", "name"),
    **OPTIONS,
)

secrets = Table(
    "secret",
    metadata,
    _id(),
    Column("name", String(255), nullable=False, unique=True),
    Column("owner", String(36), index=True),  # the component or service whose private secret it is
    Column("ciphertext", LONG_TEXT, nullable=False),
    Column("created", Timestamp, nullable=False),
    Column("updated", Timestamp, nullable=False),
    **OPTIONS,
)

RUNNING = "CASE WHEN state = 'active' AND unknown_since IS NULL THEN 1 ELSE 0 END"

services = Table(
    "service",
    metadata,
    _id(),
    Column("identity", String(64), nullable=False, unique=True),
    Column("deployer_id", String(36), ForeignKey("component.id"), nullable=False),
    _name("flavor", null=False),
    _name("service_name", null=False),
    _name("model_name", null=False),
    _name("model_version"),
    _name("pipeline_name"),
    _name("pipeline_step_name"),
    _name("run_name"),
    Column("revision", Integer, nullable=False),
    Column("config", JSON, nullable=False),
    Column("source", JSON, nullable=False),
    Column("target", String(16), nullable=False),
    Column("state", String(32), nullable=False),
    Column("state_since", Timestamp, nullable=False),
    Column("message", LONG_WORDS, nullable=False),
    Column("prediction_url", Text),
    Column("details", JSON, nullable=False),
    # the newer revision that answers a part of the requests: 100 percent while it is promoted, 0 while it is aborted
    Column("canary_revision", Integer),
    Column("canary_percent", Integer),
    Column("platform_id", String(255)),
    Column("platform_name", String(255)),
    Column("unknown_since", Timestamp),
    # what ``find_model_server(running=…)`` asks for, as one column so that it can have an index
    Column("running", Integer, Computed(RUNNING, persisted=True)),
    Column("unknown_reason", Words(10_000)),
    Column("lease_owner", Text),
    Column("lease_expires", Timestamp),
    Column("lease_epoch", Integer, nullable=False),
    Column("created", Timestamp, nullable=False),
    Column("updated", Timestamp, nullable=False),
    **OPTIONS,
)
# One index for each filter of find_model_server that has a name, in the order in which services are listed.
SERVICE_FILTERS = (
    "deployer_id",
    "flavor",
    "service_name",
    "model_name",
    "model_version",
    "pipeline_name",
    "pipeline_step_name",
    "run_name",
    "running",
)
Index("ix_service_created_id", services.c.created, services.c.id)
for _filter in SERVICE_FILTERS:
    Index(f"ix_service_{_filter}", services.c[_filter], services.c.created, services.c.id)

service_revisions = Table(
    "service_revision",
    metadata,
    Column("service_id", String(36), ForeignKey("service.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("config", JSON, nullable=False),
    Column("source", JSON, nullable=False),
    Column("digest", String(255), index=True),
    Column("created", Timestamp, nullable=False),
    **OPTIONS,
)

# Kept after the service is gone, so no foreign key.
service_events = Table(
    "service_event",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("service_id", String(36), nullable=False, index=True),
    _name("service_name", null=False),
    Column("at", Timestamp, nullable=False),
    _name("actor", null=False),
    Column("action", String(32), nullable=False),
    Column("state", String(32)),
    Column("outcome", String(16), nullable=False),
    Column("message", LONG_WORDS, nullable=False),
    # made before the transaction: one whose commit was not answered is done again, and finds its own line
    Column("idempotency_key", String(36), unique=True, index=True),
    sqlite_autoincrement=True,
    **OPTIONS,
)

runs = Table(
    "run",
    metadata,
    _id(),
    Column("name", String(255), nullable=False, unique=True),
    _name("pipeline_name", null=False),
    _name("stack_name", null=False),
    Column("status", String(16), nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("started", Timestamp, nullable=False),
    Column("ended", Timestamp),
    Index("ix_run_pipeline_name", "pipeline_name", "started"),
    Index("ix_run_started", "started"),
    **OPTIONS,
)

run_steps = Table(
    "run_step",
    metadata,
    _id(),
    Column("run_id", String(36), ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    _name("name", null=False),
    Column("position", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("started", Timestamp),
    Column("ended", Timestamp),
    Column("error", LONG_WORDS),
    UniqueConstraint("run_id", "name"),
    **OPTIONS,
)

run_metadata = Table(
    "run_metadata",
    metadata,
    Column("step_id", String(36), ForeignKey("run_step.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("value", JSON, nullable=False),
    **OPTIONS,
)

artifacts = Table(
    "artifact",
    metadata,
    _id(),
    Column("step_id", String(36), ForeignKey("run_step.id", ondelete="CASCADE"), nullable=False),
    _name("name", null=False),
    Column("uri", Text, nullable=False),
    Column("type", String(512), nullable=False),
    Column("materializer", String(64), nullable=False),
    Column("created", Timestamp, nullable=False),
    UniqueConstraint("step_id", "name"),
    **OPTIONS,
)
