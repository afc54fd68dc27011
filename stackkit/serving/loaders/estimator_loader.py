"""Pickled objects with a ``predict``: joblib, pickle, and skops, which loads only what it trusts."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..batching import join, rows_and_key
from ..errors import BadRequestError, InvalidInputError, MissingLibraryError, ModelLoadError
from ..estimators import FrameCaller, example_for, is_rowwise
from ..forests import quickened
from ..models import PreparedInput
from ..payloads import Payload, Shape, column_names, missing_names, to_array, to_columns, to_frame, to_rows
from ..signature import Casting
from ..tables import Table

_DTYPES = {
    frozenset({float}): "float64",
    frozenset({float, int}): "float64",
    frozenset({int}): "int64",
    frozenset({bool}): "bool",
    frozenset({str}): "str",
}
"""What pandas makes of a column, by the types of its values."""

_LARGEST_INTEGER = 2**53
"""Beyond it what becomes of a column depends on more than its types."""


class EstimatorModel:
    """Calls ``predict`` of an estimator with a frame or an array, whichever it was fitted with."""

    signature = None
    chat_keys: frozenset[str] = frozenset()

    def __init__(self, estimator: Any) -> None:
        self.name = type(estimator).__name__
        self.is_rowwise = is_rowwise(estimator)
        self.example = example_for(estimator)
        features = getattr(estimator, "feature_names_in_", None)
        self._features = None if features is None else [str(name) for name in features]
        self._caller = None if self._features is None else FrameCaller(estimator, self._features)
        self._predict = quickened(estimator).predict if self._features is None else estimator.predict
        # fitted with an array, it warns on each call about the names of a frame, which it has no use for
        self._wants_array = self._features is None and hasattr(estimator, "n_features_in_")

    def predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        return self.predict_prepared([self.prepare(data, params)])

    def prepare(self, data: Payload, params: Mapping[str, Any] | None) -> PreparedInput:
        table = self._table(data)
        if table is not None:
            return PreparedInput(table, table.rows, table.key)
        value = self._input(data)
        return PreparedInput(value, *rows_and_key(value))

    def predict_prepared(self, inputs: Sequence[PreparedInput]) -> Any:
        values = [each.value for each in inputs]
        if self._caller is not None and isinstance(values[0], Table):
            return self._caller.of_tables(values)
        value = join(values)
        if self._caller is not None and not hasattr(value, "columns"):
            return self._caller.of_array(value)
        return self._predict(value)

    def _table(self, data: Payload) -> Table | None:
        """The features' columns, where pandas would make of each of them what its values' types say."""
        if self._features is None or data.shape in (Shape.CSV, Shape.PARQUET) or column_names(data) is None:
            return None
        try:
            given = to_columns(data)
        except BadRequestError:
            return None  # it takes a frame to make sense of it
        if lacking := missing_names(self._features, list(given)):
            raise InvalidInputError(lacking)
        columns = {name: given[name] for name in self._features}
        if not all(isinstance(column, list) for column in columns.values()):
            return None
        dtypes = tuple(map(_dtype, columns.values()))
        lengths = set(map(len, given.values())) if all(isinstance(each, list) for each in given.values()) else set()
        if None in dtypes or len(lengths) != 1:
            return None
        return Table(columns, tuple(filter(None, dtypes)), lengths.pop())

    def _input(self, data: Payload) -> Any:
        if self._wants_array:
            return to_array(to_rows(data))
        is_named = data.shape in (Shape.CSV, Shape.PARQUET) or column_names(data) is not None
        if not is_named:
            rows = to_array(to_rows(data))
            return rows if self._features is None else _checked(rows, self._features)
        frame = to_frame(data)
        if self._features is None:
            return frame
        if lacking := missing_names(self._features, list(frame.columns)):
            raise InvalidInputError(lacking)
        return frame[self._features]


def _checked(rows: Any, features: list[str]) -> Any:
    if rows.ndim != 2 or rows.shape[1] != len(features):
        raise InvalidInputError(f"The input must be rows of {len(features)} values: {', '.join(features)}.")
    return rows


def _dtype(column: list[Any]) -> str | None:
    kinds = frozenset(map(type, column))
    if int in kinds and kinds <= {int, float} and any(abs(value) > _LARGEST_INTEGER for value in column):
        return None
    return _DTYPES.get(kinds)


def load(reference: str, format_name: str, _casting: Casting) -> EstimatorModel:
    path = Path(reference)
    try:
        estimator = _READERS[format_name](path)
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == "sklearn":
            raise MissingLibraryError("scikit-learn", format_name, "sklearn") from error
        raise
    if not callable(getattr(estimator, "predict", None)):
        raise ModelLoadError(f"{path} holds a {type(estimator).__name__}, which has no predict method")
    return EstimatorModel(estimator)


def _read_pickle(path: Path) -> Any:
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - its owner named it


def _read_joblib(path: Path) -> Any:
    try:
        import joblib
    except ModuleNotFoundError as error:
        raise MissingLibraryError("joblib", "joblib", "sklearn") from error
    return joblib.load(path)


def _read_skops(path: Path) -> Any:
    try:
        import skops.io
    except ModuleNotFoundError as error:
        raise MissingLibraryError("skops", "skops", "sklearn") from error
    if untrusted := skops.io.get_untrusted_types(file=path):
        raise ModelLoadError(f"{path} holds types that skops does not trust: {', '.join(sorted(untrusted))}")
    return skops.io.load(path, trusted=[])


_READERS = {"pickle": _read_pickle, "joblib": _read_joblib, "skops": _read_skops}
