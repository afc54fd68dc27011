"""Artifacts: what the steps of a pipeline gave, kept in an artifact store."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping

from ..errors import PipelineError
from ..store import Database
from .artifact_stores import BaseArtifactStore, store_of
from .materializers import Materializer, materializer_for, materializer_named


@dataclass(frozen=True)
class Artifact:
    """One output of a step as it is kept.

    ``uri`` is the file in the artifact store; that of a model can be deployed. ``type`` is the class of the value,
    ``materializer`` the format it is kept in. A step's parameter that is annotated ``Artifact`` gets this in place of
    the value.
    """

    id: str
    name: str
    uri: str
    type: str
    materializer: str
    created: datetime
    database: Database = field(repr=False, compare=False)

    @classmethod
    def from_row(cls, row: RowMapping, database: Database) -> Artifact:
        columns = ("id", "name", "uri", "type", "materializer", "created")
        return cls(**{column: row[column] for column in columns}, database=database)

    def load(self) -> Any:
        """The value, read from the artifact store.

        Reading a model or any other pickle runs the code in it, so nothing is read that does not lie in an artifact
        store of this database. Raises PipelineError for what does not, and NotFoundError when it is gone.
        """
        path = store_of(self.database, self.uri).read(self.uri)
        return self._format().read(path, self.database)

    def _format(self) -> Materializer:
        try:
            return materializer_named(self.materializer)
        except KeyError:
            raise PipelineError(
                f"The artifact {self.uri} is kept in a format that is not known here: {self.materializer}.",
                "It was written by another version of stackkit: pip install --upgrade stackkit.",
            ) from None


@dataclass(frozen=True)
class KeptValue:
    """What the table of artifacts records about a value that was just kept."""

    uri: str
    type: str
    materializer: str


def keep(store: BaseArtifactStore, key: str, value: Any) -> KeptValue:
    """Keep ``value`` under ``key``. Raises PipelineError when it cannot be written, or is of a kind that cannot be."""
    chosen = materializer_for(value)

    def fill(folder: Path) -> None:
        try:
            chosen.write(value, folder / chosen.file_name)
        except OSError:
            raise
        except Exception as error:  # pickling runs the value's own code
            raise PipelineError(
                f"A {type_name(value)} cannot be kept: {error}.",
                "Return plain data, an array, a DataFrame, or an object that can be pickled.",
            ) from error

    store.write(key, fill)
    return KeptValue(store.path(f"{key}/{chosen.file_name}"), type_name(value), chosen.name)


def type_name(value: Any) -> str:
    """The class of a value by its full name, without ``builtins``."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return name[-512:]
