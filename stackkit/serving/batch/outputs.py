"""Predictions written to a file, as the server's replies write them: one for each row of the input, in its order.

A JSON file is the reply for all rows, a line of JSON Lines is one prediction, and so is a line of CSV below that of
the names. Columns bear the names that the predictions have themselves, or else those of the model's signature, or
``prediction`` (``prediction_0``, ``prediction_1``, … where one is several numbers).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import IO, Any, Protocol

from .. import replies
from ..payloads import Shape
from ..signature import Signature
from .chunks import Chunk
from .errors import BatchError, first_line
from .files import FileFormat
from .inputs import import_parquet

_ROW_GROUP = 100_000
"""Rows of a Parquet file that are written together, and held until there are so many."""

_encode = json.JSONEncoder(allow_nan=False).encode
"""What ``json.dumps`` makes anew for each prediction takes longer than writing it."""


class Output(Protocol):
    """Where the predictions for one chunk after the other go."""

    def write(self, predictions: Any, chunk: Chunk) -> int:
        """Write what the model returned for ``chunk``; gives how many predictions that are. Raises BatchError for
        predictions that are not one for each row, or that the format cannot hold.
        """

    def close(self) -> None:
        """Write what is left, and the end of the file, which stays open. To be called in any case, once."""


def output(file_format: FileFormat, file: IO[bytes], signature: Signature | None) -> Output:
    """Writes ``file`` in this format. Raises BatchError when a library for it is missing."""
    match file_format:
        case FileFormat.CSV:
            return _Csv(file, signature)
        case FileFormat.JSON_LINES:
            return _JsonLines(file)
        case FileFormat.JSON:
            return _Json(file)
        case FileFormat.PARQUET:
            return _Parquet(file, signature)


class _JsonLines:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, predictions: Any, chunk: Chunk) -> int:
        rows = _one_each(predictions, chunk)
        self._file.write("".join([f"{_encode(row)}\n" for row in replies.to_plain(rows)]).encode())
        return len(rows)

    def close(self) -> None:
        pass


class _Json:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._end = b""

    def write(self, predictions: Any, chunk: Chunk) -> int:
        if chunk.rows is None:
            self._file.write(replies.encode(predictions, wrapped=chunk.data.shape is not Shape.WHOLE) + b"\n")
            return len(_one_each(predictions, chunk))
        rows = _one_each(predictions, chunk)
        self._file.write(b", " if self._end else b'{"predictions": [')
        self._file.write(_encode(replies.to_plain(rows))[1:-1].encode())
        self._end = b"]}\n"
        return len(rows)

    def close(self) -> None:
        self._file.write(self._end)


class _Csv:
    def __init__(self, file: IO[bytes], signature: Signature | None) -> None:
        self._file = file
        self._signature = signature
        self._names: Sequence[str] | None = None

    def write(self, predictions: Any, chunk: Chunk) -> int:
        rows = _one_each(predictions, chunk)
        if self._names is None:
            self._names = _names(rows, self._signature)
            header = io.StringIO()
            csv.writer(header, lineterminator="\n").writerow(self._names)
            self._file.write(header.getvalue().encode())
        self._file.write(replies.encode_csv(_in_columns(rows, self._names)))
        return len(rows)

    def close(self) -> None:
        pass


class _Parquet:
    """Values keep their types, and those of the first chunk are the file's."""

    def __init__(self, file: IO[bytes], signature: Signature | None) -> None:
        self._file = file
        self._signature = signature
        self._pyarrow, self._parquet = import_parquet()
        self._names: Sequence[str] | None = None
        self._writer: Any = None
        self._tables: list[Any] = []

    def write(self, predictions: Any, chunk: Chunk) -> int:
        rows = _one_each(predictions, chunk)
        self._names = self._names or _names(rows, self._signature)
        try:
            table = self._table(_in_columns(rows, self._names), self._names)
            if self._writer is None:
                self._writer = self._parquet.ParquetWriter(self._file, table.schema)
            self._tables.append(table.cast(self._writer.schema))
        except (self._pyarrow.ArrowException, ValueError) as error:
            raise BatchError(
                f"The predictions cannot be written as Parquet: {first_line(error)}", "Write JSON Lines (.jsonl)."
            ) from error
        if sum(map(len, self._tables)) >= _ROW_GROUP:
            self._write_group()
        return len(rows)

    def close(self) -> None:
        if self._tables:
            self._write_group()
        if self._writer is not None:
            self._writer.close()

    def _write_group(self) -> None:
        self._writer.write_table(self._pyarrow.concat_tables(self._tables))
        self._tables.clear()

    def _table(self, rows: Any, names: Sequence[str]) -> Any:
        import numpy as np

        if hasattr(rows, "iloc"):
            frame = rows if hasattr(rows, "columns") else rows.to_frame()
            return self._pyarrow.Table.from_pandas(frame, preserve_index=False).rename_columns(names)
        if isinstance(rows, np.ndarray) and rows.ndim <= 2:
            return self._pyarrow.table(list(np.ascontiguousarray(rows.reshape(len(rows), -1).T)), names=names)
        plain = replies.to_plain(rows)
        values = [row if isinstance(row, list) else [row] for row in plain]
        if isinstance(plain[0], dict):
            values = [list(row.values()) for row in plain]
        return self._pyarrow.table([list(column) for column in zip(*values, strict=True)], names=names)


def _one_each(predictions: Any, chunk: Chunk) -> Any:
    """The predictions as a sequence of one for each row: of several outputs' columns, a list of objects."""
    rows = _as_rows(predictions)
    if rows is None:
        if chunk.rows is None:
            return [predictions]
        raise BatchError(
            f"The model returned no list of predictions for {_several(chunk.rows)}, but one answer for all.",
            "Such a model takes a .json file that is one request.",
        )
    if chunk.rows is not None and len(rows) != chunk.rows:
        raise BatchError(f"The model returned {_several(len(rows), 'prediction')} for {_several(chunk.rows)}.")
    return rows


def _as_rows(predictions: Any) -> Any | None:
    if isinstance(predictions, Mapping):
        return replies.rows_of(replies.to_plain(predictions))
    if isinstance(predictions, str | bytes) or not hasattr(predictions, "__len__"):
        return None
    if isinstance(predictions, tuple):
        return list(predictions)
    return predictions if getattr(predictions, "ndim", 1) else None


def _names(rows: Any, signature: Signature | None) -> list[str]:
    """What the columns are called that the first row's values stand in."""
    if not len(rows):
        raise BatchError("The model returned no predictions.")
    first = replies.to_plain(getattr(rows, "iloc", rows)[:1])[0]
    if isinstance(first, dict):
        return list(first)
    declared = [field.name for field in (signature and signature.outputs) or () if field.name is not None]
    many = _width(first)
    if len(declared) == many:
        return declared
    name = declared[0] if len(declared) == 1 else "prediction"
    return [name] if many == 1 else [f"{name}_{number}" for number in range(many)]


def _in_columns(rows: Any, names: Sequence[str]) -> Any:
    """Rows with one value for each name, in the order of the names. Arrays and frames always have them."""
    if not isinstance(rows, list):
        return rows
    plain = replies.to_plain(rows)
    is_named = isinstance(plain[0], dict)
    for row in plain:
        columns = row.keys() == set(names) if isinstance(row, dict) else _width(row) == len(names)
        if not columns or isinstance(row, dict) is not is_named:
            raise BatchError(
                "The model's predictions do not all have the same columns.", "Write JSON Lines (.jsonl) or JSON."
            )
    return [{name: row[name] for name in names} for row in plain] if is_named else plain


def _width(row: Any) -> int:
    return len(row) if isinstance(row, list) else 1


def _several(count: int, what: str = "row") -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
