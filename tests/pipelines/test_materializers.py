"""Every value comes back as it went in, in the plainest format that holds it."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from stackkit.errors import PipelineError
from stackkit.pipelines.artifact_stores import LocalArtifactStore
from stackkit.pipelines.artifacts import keep, type_name
from stackkit.pipelines.materializers import materializer_for, materializer_named
from stackkit.stack import ComponentType, StackStore
from stackkit.store import Database

SHARED: list[Any] = [1]
CYCLE: list[Any] = []
CYCLE.append(CYCLE)


def round_trip(value: Any, folder: Path, database: Database) -> tuple[str, Any]:
    chosen = materializer_for(value)
    chosen.write(value, folder / chosen.file_name)
    assert [path.name for path in folder.iterdir()] == [chosen.file_name]
    return chosen.name, materializer_named(chosen.name).read(folder / chosen.file_name, database)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("text – \ud800 too", "json"),
        (7, "json"),
        (0.1, "json"),
        (True, "json"),
        (None, "json"),
        ([1, [2.0, None], {"a": "b"}], "json"),
        ({"z": 1, "a": [True]}, "json"),
        ([SHARED, SHARED], "json"),
        ((1, 2), "joblib"),
        ([(1, 2)], "joblib"),
        ({1: "one"}, "joblib"),
        ({1, 2}, "joblib"),
        (10**5000, "joblib"),  # Python refuses to write it in decimal
        (OrderedDict(a=1), "joblib"),
        (b"bytes", "joblib"),
        (np.float64(0.5), "numpy_scalar"),
        (np.int64(3), "numpy_scalar"),
        (np.bool_(True), "numpy_scalar"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_data_comes_back_with_its_type(value: Any, name: str, tmp_path: Path, database: Database) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    chosen, back = round_trip(value, folder, database)
    assert chosen == name
    assert back == value
    assert type(back) is type(value)


def test_nan_comes_back(tmp_path: Path, database: Database) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    name, back = round_trip([math.nan, math.inf], folder, database)
    assert name == "json"
    assert math.isnan(back[0])
    assert back[1] == math.inf


def test_what_holds_itself_is_pickled() -> None:
    assert materializer_for(CYCLE).name == "joblib"


@pytest.mark.parametrize(
    ("array", "name"),
    [
        (np.arange(6.0).reshape(2, 3), "numpy"),
        (np.array(3), "numpy"),
        (np.array([("a", 1)], dtype=[("name", "U1"), ("n", "i4")]), "numpy"),
        (np.array(["2026-01-01"], dtype="datetime64[D]"), "numpy"),
        (np.array([{"a": 1}, None], dtype=object), "joblib"),
    ],
    ids=["matrix", "no dimension", "structured", "dates", "objects"],
)
def test_arrays_come_back(array: Any, name: str, tmp_path: Path, database: Database) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    chosen, back = round_trip(array, folder, database)
    assert chosen == name
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert (back == array).all()


def frame_with_attributes() -> pd.DataFrame:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["where from"] = {"x"}
    return frame


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        (pd.DataFrame({"a": [1, 2], "b": ["x", None]}), "dataframe"),
        (pd.DataFrame({"a": pd.Categorical(["x", "y"])}, index=[7, 3]), "dataframe"),
        (pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([("x", 1)], names=["k", "n"])), "dataframe"),
        (pd.DataFrame(), "joblib"),  # its columns would become texts
        (pd.DataFrame({"a": [[1, 2], None]}), "joblib"),
        (pd.DataFrame({"a": [1.0]}, index=pd.date_range("2026-01-01", periods=1, freq="D")), "joblib"),
    ],
    ids=["plain", "categories", "two levels", "empty", "objects", "frequency"],
)
def test_frames_come_back(frame: pd.DataFrame, name: str, tmp_path: Path, database: Database) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    chosen, back = round_trip(frame, folder, database)
    assert chosen == name
    pd.testing.assert_frame_equal(back, frame, check_exact=True)


def test_none_in_a_frame_does_not_become_nan_or_nan_none(tmp_path: Path, database: Database) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    frame = pd.DataFrame({"a": pd.Series([None, math.nan], dtype=object)})
    back = round_trip(frame, folder, database)[1]
    assert back["a"][0] is None
    assert isinstance(back["a"][1], float)


def test_a_frames_own_attributes_come_back(tmp_path: Path, database: Database) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    assert round_trip(frame_with_attributes(), folder, database)[1].attrs == {"where from": {"x"}}


@pytest.mark.parametrize("name", [None, "value", "", 'odd "name"'])
def test_series_come_back_with_their_name(name: str | None, tmp_path: Path, database: Database) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    series = pd.Series([1.5, 2.5], index=["a", "b"], name=name)
    chosen, back = round_trip(series, folder, database)
    assert chosen == "series"
    pd.testing.assert_series_equal(back, series)


def test_a_series_whose_name_is_no_text_is_pickled() -> None:
    assert materializer_for(pd.Series([1], name=("a", 1))).name == "joblib"


def test_frames_are_pickled_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert materializer_for(pd.DataFrame({"a": [1]})).name == "joblib"


def test_a_model_is_a_file_that_can_be_deployed(tmp_path: Path, database: Database) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    name, back = round_trip(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), folder, database)
    assert name == "model"
    assert (folder / "model.joblib").is_file()
    assert back.predict([[2.0]]) == pytest.approx([4.0])


def test_a_class_is_no_model() -> None:
    assert materializer_for(LinearRegression).name == "joblib"


def test_types_are_named_in_full() -> None:
    assert type_name(1) == "int"
    assert type_name(LinearRegression()) == "sklearn.linear_model._base.LinearRegression"


def test_what_cannot_be_pickled_is_refused_and_leaves_nothing(database: Database) -> None:
    store = StackStore(database).active_component(ComponentType.ARTIFACT_STORE)
    assert isinstance(store, LocalArtifactStore)
    with pytest.raises(PipelineError, match="A function cannot be kept"):
        keep(store, "run/step/output", lambda: None)
    assert list((store.root / "run" / "step").iterdir()) == []


def test_plain_data_is_readable_by_anything(database: Database) -> None:
    store = StackStore(database).active_component(ComponentType.ARTIFACT_STORE)
    assert isinstance(store, LocalArtifactStore)
    kept = keep(store, "run/step/output", {"accuracy": 0.5})
    assert json.loads(Path(kept.uri).read_text(encoding="utf-8")) == {"accuracy": 0.5}
    assert (kept.type, kept.materializer) == ("dict", "json")
