"""The first schema: components, stacks, flavors, secrets, services, pipeline runs."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.mysql import MEDIUMTEXT

revision = "0001"
down_revision = None

OPTIONS: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}

LONG_TEXT = sa.Text().with_variant(MEDIUMTEXT, "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "component",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("flavor", sa.String(length=255), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_component"),
        sa.UniqueConstraint("type", "name", name="uq_component_type_name"),
        **OPTIONS,
    )
    op.create_table(
        "flavor",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("source", sa.String(length=512), nullable=False),
        sa.Column("folder", sa.Text(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_flavor"),
        sa.UniqueConstraint("type", "name", name="uq_flavor_type_name"),
        **OPTIONS,
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
        **OPTIONS,
    )
    op.create_table(
        "run",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("pipeline_name", sa.String(length=255), nullable=False),
        sa.Column("stack_name", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
        sa.UniqueConstraint("name", name="uq_run_name"),
        **OPTIONS,
    )
    op.create_index("ix_run_pipeline_name", "run", ["pipeline_name", "started"], unique=False)
    op.create_index("ix_run_started", "run", ["started"], unique=False)
    op.create_table(
        "secret",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("owner", sa.String(length=36), nullable=True),
        sa.Column("ciphertext", LONG_TEXT, nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_secret"),
        sa.UniqueConstraint("name", name="uq_secret_name"),
        **OPTIONS,
    )
    op.create_index("ix_secret_owner", "secret", ["owner"], unique=False)
    op.create_table(
        "service_event",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("service_id", sa.String(length=36), nullable=False),
        sa.Column("service_name", sa.String(length=255), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("message", LONG_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_service_event"),
        **OPTIONS,
        sqlite_autoincrement=True,
    )
    op.create_index("ix_service_event_service_id", "service_event", ["service_id"], unique=False)
    op.create_table(
        "stack",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_stack"),
        sa.UniqueConstraint("name", name="uq_stack_name"),
        **OPTIONS,
    )
    op.create_table(
        "run_step",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=True),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("error", LONG_TEXT, nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name="fk_run_step_run_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_run_step"),
        sa.UniqueConstraint("run_id", "name", name="uq_run_step_run_id_name"),
        **OPTIONS,
    )
    op.create_table(
        "service",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("identity", sa.String(length=64), nullable=False),
        sa.Column("deployer_id", sa.String(length=36), nullable=False),
        sa.Column("flavor", sa.String(length=255), nullable=False),
        sa.Column("service_name", sa.String(length=255), nullable=False),
        sa.Column("model_name", sa.String(length=255), nullable=False),
        sa.Column("model_version", sa.String(length=255), nullable=True),
        sa.Column("pipeline_name", sa.String(length=255), nullable=True),
        sa.Column("pipeline_step_name", sa.String(length=255), nullable=True),
        sa.Column("run_name", sa.String(length=255), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("source", sa.JSON(), nullable=False),
        sa.Column("target", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("state_since", sa.BigInteger(), nullable=False),
        sa.Column("message", LONG_TEXT, nullable=False),
        sa.Column("prediction_url", sa.Text(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("platform_id", sa.String(length=255), nullable=True),
        sa.Column("platform_name", sa.String(length=255), nullable=True),
        sa.Column("unknown_since", sa.BigInteger(), nullable=True),
        sa.Column(
            "running",
            sa.Integer(),
            sa.Computed("CASE WHEN state = 'active' AND unknown_since IS NULL THEN 1 ELSE 0 END", persisted=True),
            nullable=True,
        ),
        sa.Column("unknown_reason", sa.Text(), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_expires", sa.BigInteger(), nullable=True),
        sa.Column("lease_epoch", sa.Integer(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["deployer_id"], ["component.id"], name="fk_service_deployer_id"),
        sa.PrimaryKeyConstraint("id", name="pk_service"),
        sa.UniqueConstraint("identity", name="uq_service_identity"),
        **OPTIONS,
    )
    op.create_index("ix_service_created_id", "service", ["created", "id"], unique=False)
    op.create_index("ix_service_deployer_id", "service", ["deployer_id", "created", "id"], unique=False)
    op.create_index("ix_service_flavor", "service", ["flavor", "created", "id"], unique=False)
    op.create_index("ix_service_model_name", "service", ["model_name", "created", "id"], unique=False)
    op.create_index("ix_service_model_version", "service", ["model_version", "created", "id"], unique=False)
    op.create_index("ix_service_pipeline_name", "service", ["pipeline_name", "created", "id"], unique=False)
    op.create_index("ix_service_pipeline_step_name", "service", ["pipeline_step_name", "created", "id"], unique=False)
    op.create_index("ix_service_run_name", "service", ["run_name", "created", "id"], unique=False)
    op.create_index("ix_service_running", "service", ["running", "created", "id"], unique=False)
    op.create_index("ix_service_service_name", "service", ["service_name", "created", "id"], unique=False)
    op.create_table(
        "stack_component",
        sa.Column("stack_id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("component_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["component_id"], ["component.id"], name="fk_stack_component_component_id"),
        sa.ForeignKeyConstraint(["stack_id"], ["stack.id"], name="fk_stack_component_stack_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("stack_id", "type", name="pk_stack_component"),
        **OPTIONS,
    )
    op.create_index("ix_stack_component_component_id", "stack_component", ["component_id"], unique=False)
    op.create_table(
        "artifact",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("step_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("type", sa.String(length=512), nullable=False),
        sa.Column("materializer", sa.String(length=64), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["step_id"], ["run_step.id"], name="fk_artifact_step_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_artifact"),
        sa.UniqueConstraint("step_id", "name", name="uq_artifact_step_id_name"),
        **OPTIONS,
    )
    op.create_table(
        "run_metadata",
        sa.Column("step_id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["step_id"], ["run_step.id"], name="fk_run_metadata_step_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("step_id", "key", name="pk_run_metadata"),
        **OPTIONS,
    )
    op.create_table(
        "service_revision",
        sa.Column("service_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("source", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(length=255), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["service_id"], ["service.id"], name="fk_service_revision_service_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("service_id", "number", name="pk_service_revision"),
        **OPTIONS,
    )
    op.create_index("ix_service_revision_digest", "service_revision", ["digest"], unique=False)
