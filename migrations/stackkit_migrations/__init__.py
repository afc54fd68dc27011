"""The history of stackkit's database schema, run by Alembic from ``stackkit.store.schema``."""
