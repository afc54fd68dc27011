"""What of several requests can be answered by one call of the model, and whose part of the answer is whose."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
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
