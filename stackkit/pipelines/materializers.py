"""How values become files and come back: a small table, tried from the top.

What is read back equals what was written, type included; a value that one format would change falls to the next, and
the last, joblib's pickle, takes whatever can be pickled. The one exception is a model server: what is kept of it is
its configuration, from which it can be deployed again.
"""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..model_deployers import ModelDeployerFlavor, Service
from ..stack import ComponentType, FlavorRegistry
from ..stack.configs import clear, parse
from ..store import Database


@dataclass(frozen=True)
class Materializer:
    """One format: which values it holds faithfully, and how they are written to and read from one file.

    ``read`` is given the database too, for values that refer to what is registered there.
    """

    name: str
    file_name: str
    accepts: Callable[[Any], bool]
    write: Callable[[Any, Path], None]
    read: Callable[[Path, Database], Any]


def materializer_for(value: Any) -> Materializer:
    """The first of the table that accepts ``value``; the last one accepts every value."""
    return next(materializer for materializer in _TABLE if materializer.accepts(value))


def materializer_named(name: str) -> Materializer:
    """The materializer that an artifact was written with. Raises KeyError."""
    return _BY_NAME[name]


# Model servers


def _write_service(service: Service, path: Path) -> None:
    # the configuration of a service that exists holds references to its secrets, never their values
    stored = {"flavor": service.flavor, "config": clear(service.config)}
    path.write_text(json.dumps(stored, indent=2), encoding="utf-8")


def _read_service_config(path: Path, database: Database) -> Any:
    stored = json.loads(path.read_text(encoding="utf-8"))
    flavor = FlavorRegistry(database).get(ComponentType.MODEL_DEPLOYER, stored["flavor"])
    if not isinstance(flavor, ModelDeployerFlavor):
        raise TypeError(f"{flavor.name} is no model deployer flavor")
    return parse(flavor.service_config_class, stored["config"], "the kept configuration")


# Plain data


def _is_plain(value: Any) -> bool:
    """Whether JSON gives back the same: a tuple, a key that is no text or a subclass of float would change."""
    try:
        return _same(value, json.loads(json.dumps(value)))
    except (TypeError, ValueError, RecursionError):
        return False


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other) or (one != one and other != other)  # NaN is the only value that differs from itself


def _write_json(value: Any, path: Path) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def _read_json(path: Path, database: Database) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# numpy and pandas: a value can only be theirs when they have been imported


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) is numpy.ndarray and not value.dtype.hasobject


def _is_numpy_scalar(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic) and not value.dtype.hasobject


def _write_numpy(value: Any, path: Path) -> None:
    import numpy as np

    np.save(path, value, allow_pickle=False)


def _read_array(path: Path, database: Database) -> Any:
    import numpy as np

    return np.load(path, allow_pickle=False)


def _read_numpy_scalar(path: Path, database: Database) -> Any:
    return _read_array(path, database)[()]


def _fits_parquet(frame: Any) -> bool:
    """Whether Parquet gives back the same frame: not with mixed columns, or an index that has a frequency."""
    if importlib.util.find_spec("pyarrow") is None or any(getattr(dtype, "hasobject", False) for dtype in frame.dtypes):
        return False  # what is in a column of objects may come back as something else and still compare as equal
    import pandas as pd

    file = io.BytesIO()
    try:
        frame.to_parquet(file, engine="pyarrow")
        back = pd.read_parquet(file, engine="pyarrow")
        pd.testing.assert_frame_equal(back, frame, check_exact=True, check_index_type=True, check_column_type=True)
    except Exception:  # pyarrow has many ways to say that it cannot hold something
        return False
    return bool(back.attrs == frame.attrs)


def _is_frame(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and type(value) is pandas.DataFrame and _fits_parquet(value)


def _write_frame(frame: Any, path: Path) -> None:
    frame.to_parquet(path, engine="pyarrow")


def _read_frame(path: Path, database: Database) -> Any:
    import pandas as pd

    return pd.read_parquet(path, engine="pyarrow")


def _is_series(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    if pandas is None or type(value) is not pandas.Series or not (value.name is None or type(value.name) is str):
        return False
    return _fits_parquet(_as_frame(value))


def _as_frame(series: Any) -> Any:
    return series.to_frame(json.dumps(series.name))  # a column needs a name, a series may have none


def _write_series(series: Any, path: Path) -> None:
    _write_frame(_as_frame(series), path)


def _read_series(path: Path, database: Database) -> Any:
    frame = _read_frame(path, database)
    return frame.iloc[:, 0].rename(json.loads(frame.columns[0]))


# Everything else


def _is_model(value: Any) -> bool:
    return callable(getattr(value, "predict", None)) and not isinstance(value, type)


def _write_joblib(value: Any, path: Path) -> None:
    import joblib

    joblib.dump(value, path)


def _read_joblib(path: Path, database: Database) -> Any:
    import joblib

    return joblib.load(path)


_TABLE = (
    Materializer(
        "service", "service.json", lambda value: isinstance(value, Service), _write_service, _read_service_config
    ),
    Materializer("json", "value.json", _is_plain, _write_json, _read_json),
    Materializer("numpy", "array.npy", _is_array, _write_numpy, _read_array),
    Materializer("numpy_scalar", "scalar.npy", _is_numpy_scalar, _write_numpy, _read_numpy_scalar),
    Materializer("dataframe", "frame.parquet", _is_frame, _write_frame, _read_frame),
    Materializer("series", "series.parquet", _is_series, _write_series, _read_series),
    Materializer("model", "model.joblib", _is_model, _write_joblib, _read_joblib),
    Materializer("joblib", "value.joblib", lambda value: True, _write_joblib, _read_joblib),
)
_BY_NAME = {materializer.name: materializer for materializer in _TABLE}
