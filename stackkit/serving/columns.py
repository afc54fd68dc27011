"""The columns of a payload, whatever its shape, cast by the signature into a Table.

Where MLflow's own server treats ``dataframe_*`` and ``inputs`` differently without harm, so does this: a number in a
column of text stays a number in a table and becomes text in arrays, and the rows under ``inputs`` and ``instances``
must all have the same names, while those of a table need not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .cells import DTYPES, cast, cast_series
from .errors import BadRequestError, InvalidInputError
from .payloads import Payload, Shape, to_frame
from .signature import Column, DataType
from .tables import Table

if TYPE_CHECKING:
    import pandas as pd

_READ_FIRST = {
    DataType.BOOLEAN: "bool",
    DataType.INTEGER: "int64",
    DataType.LONG: "int64",
    DataType.FLOAT: "float64",
    DataType.DOUBLE: "float64",
}
"""What CSV is read as: the wider types, whose values are then cast with an eye on what would be lost."""

_NAME_TYPES = {str, int, float, bool, type(None)}


def cast_table(payload: Payload, columns: Sequence[Column]) -> Table:
    """The columns that the signature has, in its order; others are dropped.

    Raises BadRequestError for values that do not fit and rows that do not fit together, InvalidInputError for columns
    that are missing.
    """
    if payload.is_file:
        return _table_of_series(payload, columns)
    is_named = columns[0].name is not None
    found, rows, index = gather(payload, [str(column.name) for column in columns] if is_named else None)
    present = _present(columns, list(found))
    as_text = not payload.is_tabular
    cells = {column.name: cast(found[column.name], column, as_text=as_text) for column in present}
    return Table(cells, tuple(DTYPES[column.type] for column in present), rows, index)


def _table_of_series(payload: Payload, columns: Sequence[Column]) -> Table:
    is_csv = payload.shape is Shape.CSV
    frame = _read_csv(payload, columns) if is_csv else to_frame(payload)
    if not frame.columns.is_unique:
        raise BadRequestError(f"Two columns of the {payload.shape} have the same name.")
    present = _present(columns, list(frame.columns))
    cells = {}
    for column in present:
        if is_csv and column.type is DataType.DATETIME:
            raise BadRequestError(f"The dates of column {column.name} cannot be sent as CSV: send JSON or Parquet.")
        cells[column.name] = cast_series(frame[column.name], column)
    return Table(cells, tuple(DTYPES[column.type] for column in present), len(frame))


def _read_csv(payload: Payload, columns: Sequence[Column]) -> pd.DataFrame:
    # pandas takes places too, for columns without names
    dtypes = {
        place if column.name is None else column.name: _READ_FIRST.get(column.type, "object")
        for place, column in enumerate(columns)
    }
    try:
        return to_frame(payload, dtypes)
    except BadRequestError:
        # once more as text, to tell which value it is: the reader does not say
        frame = to_frame(payload, dict.fromkeys(dtypes, "object"))
        for column in _present(columns, list(frame.columns)):
            if column.type in _READ_FIRST and column.type is not DataType.BOOLEAN:
                cast_series(frame[column.name], column)
        raise


def _present(columns: Sequence[Column], names: Sequence[Any]) -> list[Column]:
    """The columns that are there, in the signature's order; those that have no name get the one at their place."""
    if columns[0].name is None:
        if len(names) < len(columns):
            raise InvalidInputError(f"The input has {len(names)} columns, where the model takes {len(columns)}.")
        return [replace(column, name=name) for column, name in zip(columns, names, strict=False)]
    there = set(names)
    if missing := [column.name for column in columns if column.required and column.name not in there]:
        expected = ", ".join(map(str, columns))
        raise InvalidInputError(
            f"The input does not fit the model's signature: {expected}. It lacks {', '.join(map(str, missing))}."
        )
    return [column for column in columns if column.name in there]


Gathered = tuple[Mapping[Any, Sequence[Any]], int, Sequence[Any] | None]
"""Columns by name, the number of rows, and the rows' labels if they have any."""


def gather(payload: Payload, wanted: Sequence[str] | None) -> Gathered:
    """The ``wanted`` columns of those that JSON held, or all of them; what has no names is numbered.

    Raises BadRequestError when rows or columns do not fit together.
    """
    value = payload.value
    if payload.is_split:
        return _gather_split(payload, wanted)
    if isinstance(value, Mapping):
        return _gather_columns(payload, wanted)
    if not isinstance(value, list):
        # one value, for the one column of a signature without names
        return ({}, 0, None) if wanted is not None or value is None else ({0: [value]}, 1, None)
    if dict in map(type, value):
        return _gather_rows(payload, wanted)
    if wanted is not None and len(wanted) == 1 and not payload.is_tabular:
        return {wanted[0]: value}, len(value), None
    return _gather_matrix(payload, value), len(value), None


def _gather_split(payload: Payload, wanted: Sequence[str] | None) -> Gathered:
    data, names, index = (payload.value.get(key) for key in ("data", "columns", "index"))
    if index is not None and len(index) != len(data):
        raise BadRequestError(f"index of {payload.shape} is not as long as its data.")
    columns = _gather_matrix(payload, data, names, wanted)
    return columns, len(data), index


def _gather_matrix(
    payload: Payload,
    data: Sequence[Any],
    names: Sequence[Any] | None = None,
    wanted: Sequence[str] | None = None,
) -> Mapping[Any, Any]:
    kinds = set(map(type, data))
    if list not in kinds and (names is None or len(names) == 1):
        data = [[value] for value in data]
    elif data and kinds != {list}:
        raise _ragged(payload)
    if names is None:
        names = range(len(data[0])) if data else ()
    elif not set(map(type, names)) <= _NAME_TYPES or _are_ambiguous(names, wanted):
        raise BadRequestError(f"columns of {payload.shape} must be different names.")
    if data and set(map(len, data)) != {len(names)}:
        raise _ragged(payload)
    columns = map(list, zip(*data, strict=True)) if data else ([] for _ in names)
    return dict(zip(names, columns, strict=True))


def _are_ambiguous(names: Sequence[Any], wanted: Sequence[str] | None) -> bool:
    """Whether two columns have the same name, and are not to be dropped anyway."""
    if len(set(names)) == len(names):
        return False
    return wanted is None or any(names.count(name) > 1 for name in wanted)


def _ragged(payload: Payload) -> BadRequestError:
    return BadRequestError(f"{payload.shape} has rows that are not as long as its columns are many.")


def _gather_columns(payload: Payload, wanted: Sequence[str] | None) -> Gathered:
    given = payload.value
    found = {name: given[name] for name in (given if wanted is None else wanted) if name in given}
    lengths = {len(values) for values in found.values() if isinstance(values, list)}
    if len(lengths) > 1:
        raise BadRequestError(f"The columns of {payload.shape} are not lists of one length.")
    rows = lengths.pop() if lengths else 1
    return {name: each if isinstance(each, list) else [each] * rows for name, each in found.items()}, rows, None


def _gather_rows(payload: Payload, wanted: Sequence[str] | None) -> Gathered:
    rows = payload.value
    if set(map(type, rows)) != {dict}:
        raise BadRequestError(f"Some rows of {payload.shape} are objects, and others are not.")
    if wanted is None:
        wanted = list(dict.fromkeys(name for row in rows for name in row))
    found = {}
    for name in wanted:
        values = [row[name] for row in rows if name in row]
        if values and len(values) < len(rows):
            if not payload.is_tabular:
                raise BadRequestError(f"Not all rows of {payload.shape} have a value for {name}.")
            values = [row.get(name) for row in rows]
        if values:
            found[name] = values
    return found, len(rows), None
