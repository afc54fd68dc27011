"""The SQL database: tables, queries, the schema check and upgrade. It decides nothing about what a row means."""

from __future__ import annotations

from .database import Database, default_database

__all__ = ["Database", "default_database"]
