"""What of several requests can be answered by one call of the model, and whose part of the answer is whose."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from enum import StrEnum
from itertools import accumulate, pairwise
from typing import Any

DEFAULT_MAX_BATCH_SIZE = 64


class Batching(StrEnum):
    """When requests are joined. AUTO: where the model is known to treat each row by itself."""

    ON = "on"
    OFF = "off"
    AUTO = "auto"


class UnevenPredictionsError(Exception):
    """The model did not return one prediction for each row."""


def rows_and_key(value: Any) -> tuple[int, Hashable]:
    """How many rows a model's input has, and the key that all inputs have which may be joined with it; None for none.

    Lists, arrays, frames, and mappings of arrays with one number of rows can be joined.
    """
    if isinstance(value, list):
        return len(value), "list"
    if isinstance(value, Mapping):
        parts = {name: rows_and_key(part) for name, part in value.items()}
        if len({rows for rows, _ in parts.values()}) != 1 or any(key is None for _, key in parts.values()):
            return 1, None
        return next(iter(parts.values()))[0], tuple((name, key) for name, (_, key) in parts.items())
    if not _is_sequence(value):
        return 1, None
    if hasattr(value, "columns"):
        return len(value), (*value.columns, *map(str, value.dtypes))
    return len(value), (value.dtype.str, value.shape[1:])


def join(values: Sequence[Any]) -> Any:
    """Inputs of equal keys as one input, the rows of one below those of the other."""
    first = values[0]
    if len(values) == 1:
        return first
    if isinstance(first, list):
        return [row for value in values for row in value]
    if isinstance(first, Mapping):
        return {name: join([value[name] for value in values]) for name in first}
    if hasattr(first, "columns"):
        import pandas as pd

        return pd.concat(values, ignore_index=True)
    import numpy as np

    return np.concatenate(values)


def split(predictions: Any, rows: Sequence[int]) -> list[Any]:
    """Cut the predictions for several inputs into each one's own, which has as many as the input has ``rows``.

    Arrays, frames, series and lists are cut along their first axis, mappings value by value. Raises
    UnevenPredictionsError for what has not that many.
    """
    if isinstance(predictions, Mapping):
        parts = {key: split(value, rows) for key, value in predictions.items()}
        return [{key: part[place] for key, part in parts.items()} for place in range(len(rows))]
    bounds = list(pairwise(accumulate(rows, initial=0)))
    if not _is_sequence(predictions) or len(predictions) != bounds[-1][1]:
        raise UnevenPredictionsError
    cut = getattr(predictions, "iloc", predictions)
    return [cut[start:end] for start, end in bounds]


def _is_sequence(value: Any) -> bool:
    if isinstance(value, list):
        return True
    # what was never imported cannot be what the value is made of
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return bool(value.ndim)
    return pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series)
