"""What a request holds: its body read by content type, and the few forms that models want it in.

numpy and pandas are imported by the functions that need them: a model that never sees a frame starts faster.
"""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from .errors import BadRequestError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class Shape(StrEnum):
    """Under which name, or in which media type, the data came."""

    SPLIT = "dataframe_split"
    RECORDS = "dataframe_records"
    INSTANCES = "instances"
    INPUTS = "inputs"
    WHOLE = "whole"
    """The request's whole object, as chat clients send it (``messages``, ``prompt``, ``input``)."""
    CSV = "csv"
    PARQUET = "parquet"


# Each looked up once for all requests: in Python 3.11 that takes as long as a call.
_SPLIT, _RECORDS, _WHOLE = Shape.SPLIT, Shape.RECORDS, Shape.WHOLE
_FILES = (Shape.CSV, Shape.PARQUET)
_TABLES = (Shape.SPLIT, Shape.RECORDS, *_FILES)

DATA_KEYS = (Shape.SPLIT, Shape.RECORDS, Shape.INSTANCES, Shape.INPUTS)
CHAT_KEYS = frozenset({"messages", "prompt", "input"})

_MOST_CELLS = 10_000_000
"""Cells of a table of which three in four may be missing: a larger one must have been sent, for the most part."""
_NO_CSV = (
    "The body is not a CSV table: expected a line of column names, then lines with as many values,"
    " each of its column's type."
)
_MOST_REPEATED = 100
"""Names of CSV columns that others have too. pandas looks for a new name for each among all of them."""


@dataclass(slots=True)
class Payload:
    """The data of one request, not yet in the form that the model wants.

    ``value`` is what JSON held, or the bytes of a CSV table, whose first line names the columns, or those of a Parquet
    file, or the frame that was read from a part of one.
    """

    shape: Shape
    value: Any

    @property
    def is_tabular(self) -> bool:
        """Whether the caller sent a table, as opposed to arrays."""
        return self.shape in _TABLES

    @property
    def is_file(self) -> bool:
        """Whether it is a table that a reader makes a frame of, CSV or Parquet."""
        return self.shape in _FILES

    @property
    def is_split(self) -> bool:
        """Whether it is a table whose columns are named once."""
        return self.shape is _SPLIT

    @property
    def is_whole(self) -> bool:
        """Whether it is a chat request."""
        return self.shape is _WHOLE


def load_json(body: bytes) -> Any:
    """What JSON holds, in UTF-8, or in UTF-16 or UTF-32, which its first bytes tell apart.

    Raises BadRequestError, which echoes nothing of it.
    """
    try:
        return json.loads(body)
    except UnicodeDecodeError:
        raise BadRequestError("The body is not valid UTF-8.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BadRequestError(f"The body is not valid JSON: {error.msg} at {where}.") from None
    except RecursionError:
        raise BadRequestError("The body is nested too deeply.") from None
    except ValueError:  # an integer with more digits than Python is willing to read
        raise BadRequestError("The body holds a number that is too long.") from None


def decode_json(body: bytes, chat_keys: Collection[str] = ()) -> tuple[Payload, Mapping[str, Any] | None]:
    """Read a JSON body into its data and its ``params``.

    A body that has one of ``chat_keys`` is data as a whole. Raises BadRequestError, which echoes nothing of it.
    """
    content = load_json(body)
    if not isinstance(content, dict):
        raise BadRequestError(f"The body must be a JSON object with one of {', '.join(DATA_KEYS)}.")
    if any(key in content for key in chat_keys):
        return Payload(Shape.WHOLE, content), None
    present = [key for key in DATA_KEYS if key in content]
    if len(present) != 1:
        found = " and ".join(present) or "none of them"
        raise BadRequestError(f"The body must have exactly one of {', '.join(DATA_KEYS)}; it has {found}.")
    payload = Payload(present[0], content[present[0]])
    _check(payload)
    _check_size(payload)
    if payload.is_split:
        payload.value = _with_rows(payload.value)
    return payload, content.get("params")


def decode_json_lines(body: bytes) -> Payload:
    """Read JSON Lines: each line an object that is a row of a table, or each an instance of any other kind.

    Raises BadRequestError.
    """
    rows = [load_json(line) for line in body.splitlines() if line.strip()]
    payload = Payload(Shape.RECORDS if all(isinstance(row, dict) for row in rows) else Shape.INSTANCES, rows)
    _check_size(payload)
    return payload


def to_frame(payload: Payload, dtypes: Mapping[str | int, Any] | None = None) -> pd.DataFrame:
    """The payload as a data frame; ``dtypes`` says what CSV columns are to be read as, by name or place.

    Raises BadRequestError when it cannot be a frame.
    """
    import pandas as pd

    if payload.shape is Shape.CSV:
        return _read_csv(payload.value, dtypes)
    if payload.shape is Shape.PARQUET:
        return payload.value if isinstance(payload.value, pd.DataFrame) else _read_parquet(payload.value)
    value = payload.value
    try:
        if payload.is_split:
            return pd.DataFrame(value["data"], columns=value.get("columns"), index=value.get("index"))
        if isinstance(value, Mapping) and not any(isinstance(column, list) for column in value.values()):
            value = [value]  # one row, whose values need no lists around them
        return pd.DataFrame(value)
    except (ValueError, TypeError, AssertionError):
        raise BadRequestError(f"{payload.shape} is not a table: its rows or columns do not fit together.") from None


def column_names(payload: Payload) -> list[str] | None:
    """The names that the caller gave the columns, None when they have none. Not for CSV or Parquet."""
    value = payload.value
    if payload.is_split:
        columns = value.get("columns")
        return None if columns is None else list(columns)
    if isinstance(value, Mapping):
        return list(value)
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return list(value[0])
    return None


def to_columns(payload: Payload) -> dict[str, Any]:
    """The payload's named columns, each a list. Raises BadRequestError when the rows do not agree on their names."""
    if payload.is_file:
        return {str(name): values.tolist() for name, values in to_frame(payload).items()}
    value = payload.value
    if payload.is_split:
        names = column_names(payload)
        if names is None:
            raise BadRequestError(f"{payload.shape} has no columns.")
        if any(not isinstance(row, list) or len(row) != len(names) for row in value["data"]):
            raise BadRequestError(f"{payload.shape} has rows that are not as long as its columns are many.")
        return {name: [row[place] for row in value["data"]] for place, name in enumerate(names)}
    if isinstance(value, Mapping):
        return dict(value)
    names = column_names(payload)
    if names is None:
        raise BadRequestError(f"{payload.shape} has no named columns.")
    if any(not isinstance(row, Mapping) or row.keys() != value[0].keys() for row in value):
        raise BadRequestError(f"The rows of {payload.shape} do not all have the same names.")
    return {name: [row[name] for row in value] for name in names}


def to_rows(payload: Payload) -> Any:
    """The payload without its column names: lists of values, or the value itself where it has no names."""
    if payload.is_file:
        return to_frame(payload).to_numpy()
    if payload.is_split:
        return payload.value["data"]
    if column_names(payload) is None:
        return payload.value
    columns = list(to_columns(payload).values())
    if any(not isinstance(column, list) for column in columns) or len(set(map(len, columns))) > 1:
        raise BadRequestError(f"The columns of {payload.shape} are not lists of one length.")
    return [list(row) for row in zip(*columns, strict=True)]


def to_array(values: Any, dtype: Any = None) -> np.ndarray[Any, Any]:
    """``values`` as an array of ``dtype``. Raises BadRequestError for ragged rows and for what cannot be cast."""
    import numpy as np

    try:
        return np.asarray(values, dtype=dtype)
    except (ValueError, TypeError, OverflowError):
        kind = "numbers" if dtype is None else np.dtype(dtype).name
        raise BadRequestError(f"The data is not a rectangular array of {kind}.") from None


def _check(payload: Payload) -> None:
    value = payload.value
    if payload.shape is _RECORDS and not isinstance(value, list):
        raise BadRequestError(f"{payload.shape} must be a list of objects.")
    if payload.is_split:
        if not isinstance(value, dict):
            raise BadRequestError(f"{payload.shape} must be an object with data, columns and index.")
        if not isinstance(value.get("data"), list | dict):
            raise BadRequestError(f"{payload.shape} must have a list of rows named data.")
        if value.keys() - {"data", "columns", "index"}:
            raise BadRequestError(f"{payload.shape} may have data, columns and index, nothing else.")
        for key in ("columns", "index"):
            if not isinstance(value.get(key), list | None):
                raise BadRequestError(f"{key} of {payload.shape} must be a list.")


def _check_size(payload: Payload) -> None:
    """Raises BadRequestError for a table that is much larger than what was sent of it: rows with hardly a name in
    common, a row that is far longer than the others, or a long column among many single values.
    """
    value = payload.value["data"] if payload.is_split else payload.value
    if isinstance(value, dict):
        lengths = [len(column) if isinstance(column, list) else 1 for column in value.values()]
        _refuse_sparse(payload.shape, max(lengths, default=0) * len(lengths), sum(lengths))
    elif isinstance(value, list) and len(value) > 1 and (payload.is_tabular or isinstance(value[0], dict)):
        lists = [row for row in value if isinstance(row, list)]
        named = [row for row in value if isinstance(row, dict)]
        width = max(map(len, lists), default=0) + len(set().union(*named))
        _refuse_sparse(payload.shape, width * len(value), sum(map(len, lists)) + sum(map(len, named)))


def _refuse_sparse(shape: Shape, cells: int, given: int) -> None:
    if cells > max(_MOST_CELLS, 4 * given):
        raise BadRequestError(f"The rows of the {shape} have too little in common: most of the table would be missing.")


def _with_rows(split: dict[str, Any]) -> dict[str, Any]:
    """A split table whose data are lists of values, whatever pandas would take: columns by name, or rows as objects.

    Raises BadRequestError when they do not fit together.
    """
    data = split["data"]
    if isinstance(data, dict):
        found = data
        if not all(isinstance(values, list) for values in data.values()) or len(set(map(len, data.values()))) > 1:
            raise BadRequestError(f"The columns of {Shape.SPLIT} are not lists of one length.")
    elif dict in (kinds := set(map(type, data))):
        if kinds != {dict}:
            raise BadRequestError(f"Some rows of {Shape.SPLIT} are objects, and others are not.")
        found = {name: None for row in data for name in row}
    else:
        return split
    names = split.get("columns")
    names = list(found) if names is None else [name for name in names if isinstance(name, str) and name in found]
    if not names:
        raise BadRequestError(f"The data of {Shape.SPLIT} have none of its columns.")
    columns = [data[name] if isinstance(data, dict) else [row.get(name) for row in data] for name in names]
    return {**split, "columns": names, "data": [list(row) for row in zip(*columns, strict=True)]}


def _read_csv(body: bytes, dtypes: Mapping[str | int, Any] | None) -> pd.DataFrame:
    import pandas as pd

    _check_csv(body)
    try:
        return pd.read_csv(io.BytesIO(body), dtype=dict(dtypes) if dtypes else None)
    except UnicodeDecodeError:
        raise BadRequestError("The body is not valid UTF-8.") from None
    except (ValueError, TypeError, OverflowError):  # its parser's errors are ValueErrors too; they quote the data
        raise BadRequestError(_NO_CSV) from None


def _check_csv(body: bytes) -> None:
    """Raises BadRequestError for a table much larger than its text, for very many columns of the same names, and for
    names beyond all measure.
    """
    with io.TextIOWrapper(io.BytesIO(body), encoding="latin-1", newline="") as text:
        try:
            names = next(filter(None, csv.reader(text)), [])
        except csv.Error:
            raise BadRequestError(_NO_CSV) from None
    lines = body.count(b"\n") or body.count(b"\r")
    _refuse_sparse(Shape.CSV, len(names) * lines, body.count(b",") + lines)
    named = [name for name in names if name]  # spreadsheets like to leave many empty ones
    if len(named) - len(set(named)) > _MOST_REPEATED:
        raise BadRequestError("Too many columns of the CSV table have the same name.")


def parquet_size(body: bytes) -> int:
    """Bytes of a Parquet file's table before it was encoded, at least: one value repeated a billion times takes hardly
    any in the file. Raises BadRequestError for what is no Parquet file.
    """
    with _parquet_errors():
        parquet: Any = importlib.import_module("pyarrow.parquet")  # untyped
        found = parquet.read_metadata(io.BytesIO(body))
    size = 0
    for number in range(found.num_row_groups):
        group = found.row_group(number)
        values = sum(max(group.column(place).num_values, group.num_rows) for place in range(group.num_columns))
        size += max(group.total_byte_size, values)
    return size


def _read_parquet(body: bytes) -> pd.DataFrame:
    import pandas as pd

    with _parquet_errors():
        return pd.read_parquet(io.BytesIO(body))


@contextlib.contextmanager
def _parquet_errors() -> Iterator[None]:
    """Around the reading of a Parquet file. Raises BadRequestError."""
    try:
        yield
    except ImportError:
        raise BadRequestError("Parquet cannot be read here: pyarrow is not installed.") from None
    except Exception:
        raise BadRequestError("The body is not a Parquet file.") from None


def missing_names(wanted: Sequence[str], given: Sequence[str]) -> str:
    """What is missing of ``wanted``, in words for the caller; empty when nothing is."""
    missing = [name for name in wanted if name not in given]
    return f"The input lacks {', '.join(missing)}." if missing else ""
