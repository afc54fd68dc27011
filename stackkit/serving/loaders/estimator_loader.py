"""Pickled objects with a ``predict``: joblib, pickle, and skops, which loads only what it trusts."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInputError, MissingLibraryError, ModelLoadError
from ..payloads import Payload, Shape, column_names, missing_names, to_array, to_frame, to_rows

if TYPE_CHECKING:
    import pandas as pd


class EstimatorModel:
    """Calls ``predict`` of an estimator with a frame or an array, whichever it was fitted with."""

    signature = None
    chat_keys: frozenset[str] = frozenset()

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator
        self.name = type(estimator).__name__
        features = getattr(estimator, "feature_names_in_", None)
        self._features = None if features is None else [str(name) for name in features]
        # fitted with an array, it warns on each call about the names of a frame, which it has no use for
        self._wants_array = self._features is None and hasattr(estimator, "n_features_in_")

    def predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        return self._estimator.predict(self._input(data))

    def _input(self, data: Payload) -> Any:
        if self._wants_array:
            return to_array(to_rows(data))
        is_named = data.shape in (Shape.CSV, Shape.PARQUET) or column_names(data) is not None
        if not is_named:
            rows = to_array(to_rows(data))
            return rows if self._features is None else self._named(rows, self._features)
        frame = to_frame(data)
        if self._features is None:
            return frame
        if lacking := missing_names(self._features, list(frame.columns)):
            raise InvalidInputError(lacking)
        return frame[self._features]

    def _named(self, rows: Any, features: list[str]) -> pd.DataFrame:
        if rows.ndim != 2 or rows.shape[1] != len(features):
            raise InvalidInputError(f"The input must be rows of {len(features)} values: {', '.join(features)}.")
        import pandas as pd

        return pd.DataFrame(rows, columns=features)


def load(reference: str, format_name: str) -> EstimatorModel:
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
