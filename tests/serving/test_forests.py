"""Byte for byte what scikit-learn's own forests answer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("sklearn")

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stackkit.serving import forests
from stackkit.serving.forests import FEW, quickened

WIDTH = 4
_random = np.random.default_rng(0)
ROWS = _random.normal(size=(120, WIDTH))
LABELS = np.array(["red", "green", "blue"])[(ROWS[:, 0] * 2 + ROWS[:, 1]).astype(int) % 3]
VALUES = ROWS[:, 0] * 1.7 - ROWS[:, 2] + 0.1

MAKERS: dict[str, Callable[[], Any]] = {
    "random classifier": lambda: RandomForestClassifier(20, random_state=0).fit(ROWS, LABELS),
    "two classes, weighted": lambda: RandomForestClassifier(
        20, random_state=0, class_weight="balanced", max_samples=0.3
    ).fit(ROWS, VALUES > 1),
    "several jobs": lambda: RandomForestClassifier(20, random_state=0, n_jobs=2).fit(ROWS, LABELS),
    "extra classifier": lambda: ExtraTreesClassifier(20, random_state=0, max_depth=3).fit(ROWS, LABELS),
    "random regressor": lambda: RandomForestRegressor(20, random_state=0).fit(ROWS, VALUES),
    "absolute error": lambda: RandomForestRegressor(5, random_state=0, criterion="absolute_error").fit(ROWS, VALUES),
    "extra regressor": lambda: ExtraTreesRegressor(20, random_state=0).fit(ROWS, VALUES),
    "one tree, one leaf": lambda: RandomForestRegressor(1, max_depth=1, min_samples_leaf=100).fit(ROWS, VALUES),
    "after a scaler": lambda: make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=0)).fit(
        ROWS, LABELS
    ),
}
METHODS = ("predict", "predict_proba", "predict_log_proba")


@pytest.fixture(scope="module")
def fitted() -> dict[str, tuple[Any, Any]]:
    """Each estimator with its quick copy."""
    found = {}
    for name, make in MAKERS.items():
        estimator = make()
        found[name] = estimator, quickened(estimator)
    return found


def answers(estimator: Any, method: str, rows: Any) -> Any:
    """What is answered, or the text of what is raised."""
    if hasattr(estimator, "n_jobs"):
        estimator.n_jobs = 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the logarithm of zero, and what is too large for a float
            found = getattr(estimator, method)(rows)
    except ValueError as error:
        return str(error)
    return found.dtype, found.shape, found.tobytes()


NUMBERS = st.floats(width=64) | st.floats(-3, 3) | st.sampled_from([0.0, -0.0, 1e-300, 3.5e38])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MAKERS)
@given(rows=st.lists(st.lists(NUMBERS, min_size=WIDTH, max_size=WIDTH), min_size=1, max_size=8))
@settings(max_examples=8, deadline=None)
def test_the_answers_are_the_estimators_own(
    fitted: dict[str, tuple[Any, Any]], name: str, method: str, rows: list[list[float]]
) -> None:
    own, quick = fitted[name]
    if not hasattr(own, method):
        assert not hasattr(quick, method)
        return
    doubles = np.array(rows)
    with np.errstate(over="ignore"):
        singles = doubles.astype("float32")
    for given_rows in (doubles, singles, np.asfortranarray(doubles)):
        assert answers(quick, method, given_rows) == answers(own, method, given_rows)


@pytest.mark.parametrize("name", MAKERS)
def test_rows_on_the_thresholds_and_whole_numbers(fitted: dict[str, tuple[Any, Any]], name: str) -> None:
    own, quick = fitted[name]
    forest = own[-1] if hasattr(own, "steps") else own
    thresholds = np.concatenate([each.tree_.threshold for each in forest.estimators_])[: FEW // WIDTH * WIDTH]
    rows = np.resize(thresholds, (len(thresholds) // WIDTH or 1, WIDTH))
    for given_rows in (rows, np.nextafter(rows, 9), rows.astype("int64"), rows.astype("int32")):
        assert answers(quick, "predict", given_rows) == answers(own, "predict", given_rows)


@pytest.mark.parametrize("name", MAKERS)
def test_few_rows_are_not_the_forests_to_answer(
    fitted: dict[str, tuple[Any, Any]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, quick = fitted[name]
    forest = own[-1] if hasattr(own, "steps") else own
    monkeypatch.setattr(type(forest), "_validate_X_predict", lambda *_: pytest.fail("it was asked"))
    quick.predict(ROWS[:3])


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((FEW + 1, WIDTH)),
        np.zeros((0, WIDTH)),
        np.zeros((1, WIDTH + 1)),
        np.zeros(WIDTH),
        np.full((1, WIDTH), np.nan),
        np.full((1, WIDTH), np.inf),
        np.full((1, WIDTH), 1e300),
        np.full((1, WIDTH), "1.5"),
        [[0.5] * WIDTH],
        pd.DataFrame(np.zeros((2, WIDTH))),
    ],
    ids=["many", "none", "wide", "flat", "nan", "infinite", "too large", "text", "list", "frame"],
)
def test_the_rest_is_handed_on(fitted: dict[str, tuple[Any, Any]], rows: Any) -> None:
    own, quick = fitted["random classifier"]
    assert answers(quick, "predict", rows) == answers(own, "predict", rows)


def test_the_estimator_itself_stays_as_it_is(fitted: dict[str, tuple[Any, Any]]) -> None:
    for own, quick in fitted.values():
        assert quick is not own
        assert "predict" not in vars(own)
        assert not hasattr(own, "steps") or "predict" not in vars(own[-1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogisticRegression().fit(ROWS, LABELS),
        lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, LABELS),
        lambda: make_pipeline(StandardScaler(), "passthrough").fit(ROWS, LABELS),
        lambda: RandomForestRegressor(2).fit(ROWS, np.column_stack([VALUES, VALUES])),
        lambda: RandomForestClassifier(2, verbose=1),
        RandomForestRegressor,
        object,
    ],
    ids=["linear", "pipeline", "passthrough", "two outputs", "verbose", "not fitted", "no estimator"],
)
def test_any_other_is_left_alone(make: Callable[[], Any]) -> None:
    estimator = make()
    assert quickened(estimator) is estimator


def test_a_forest_whose_trees_say_something_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of another version of scikit-learn might."""
    forest = RandomForestRegressor(3, random_state=0).fit(ROWS, VALUES)
    monkeypatch.setattr(forests._Trees, "_means", lambda *_: np.zeros((3, 1)))
    assert quickened(forest) is forest


def test_a_forest_that_cannot_answer_says_so_only_when_it_is_asked() -> None:
    forest = RandomForestRegressor(3, random_state=0).fit(ROWS, VALUES)
    del forest.estimators_[0].n_outputs_
    assert quickened(forest) is forest
