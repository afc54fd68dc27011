"""Columns that have been cast, on their way into a data frame: those of several requests become one frame."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_BLOCKS = frozenset({"int32", "int64", "float32", "float64"})


@dataclass(slots=True)
class Table:
    """Columns of ``rows`` values each, in the order in which the model wants them.

    A column is a list, an array, or a series that a reader has made. ``dtypes`` are numpy's names, one for each
    column, or "str" for text and null. ``index`` holds the rows' labels if the caller gave any.
    """

    columns: Mapping[Any, Any]
    dtypes: tuple[str, ...]
    rows: int
    index: Sequence[Any] | None = None

    @property
    def key(self) -> Hashable:
        """Tables of equal keys may be joined; None when this one may not.

        Text joins text only where each value is there: pandas holds a column of null alone in another dtype.
        """
        if self.index is not None:
            return None
        for values, dtype in zip(self.columns.values(), self.dtypes, strict=True):
            if not isinstance(values, list) or (dtype in ("str", "object") and set(map(type, values)) != {str}):
                return None
        return (*self.columns, *self.dtypes)


def to_block(tables: Sequence[Table]) -> np.ndarray[Any, Any] | None:
    """The rows of the tables as one matrix; None when they have columns of several dtypes, or of no numbers. More than
    one table must have equal keys that are not None.
    """
    import numpy as np

    first = tables[0]
    if len(set(first.dtypes)) != 1 or first.dtypes[0] not in _BLOCKS:
        return None
    # column by column, as a frame holds it: the last bits of a sum depend on the order
    return np.array(_columns(tables), dtype=first.dtypes[0]).T


def to_frame(tables: Sequence[Table]) -> pd.DataFrame:
    """The rows of the tables, one below the other. More than one must have equal keys that are not None."""
    import pandas as pd

    first = tables[0]
    index = None if first.index is None else pd.Index(first.index)
    labels = _labels(tuple(first.columns))
    # a tenth of the time that pandas takes to find it out for itself; what a reader made has an index of its own
    if isinstance(next(iter(first.columns.values()), None), list) and (block := to_block(tables)) is not None:
        return pd.DataFrame(block, index=index, columns=labels)
    named = {
        name: _series(values, dtype)
        for name, values, dtype in zip(first.columns, _columns(tables), first.dtypes, strict=True)
    }
    frame = pd.DataFrame(named, columns=labels)
    return frame if index is None else frame.set_axis(index)


def _columns(tables: Sequence[Table]) -> list[Any]:
    if len(tables) == 1:
        return list(tables[0].columns.values())
    parts = zip(*(table.columns.values() for table in tables), strict=True)
    return [[value for part in column for value in part] for column in parts]


@lru_cache(maxsize=256)
def _labels(names: tuple[Any, ...]) -> pd.Index[Any]:
    import pandas as pd

    labels: pd.Index[Any] = pd.Index(names)
    return labels


def _series(values: Any, dtype: str) -> pd.Series[Any]:
    import pandas as pd

    if isinstance(values, pd.Series):
        return values
    if dtype != "str":
        return pd.Series(values, dtype=dtype)
    # null and NaN are missing text where there is some
    is_text = str in map(type, values) and all(
        value is None or isinstance(value, str) or value != value for value in values
    )
    return pd.Series(values) if is_text else pd.Series(values, dtype=object)
