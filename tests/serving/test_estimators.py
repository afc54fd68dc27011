from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.decomposition import NMF, PCA
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC

from stackkit.serving import batching
from stackkit.serving.estimators import FrameCaller, is_rowwise, without_names
from stackkit.serving.loaders.estimator_loader import EstimatorModel
from stackkit.serving.payloads import Payload, Shape

NAMES = ["a", "b", "c"]
RANDOM = np.random.default_rng(7)
ROWS = pd.DataFrame(RANDOM.normal(size=(60, 3)), columns=NAMES)
LABELS = np.where(ROWS["a"] + ROWS["b"] ** 2 > 0.7, "yes", "no")


def centre(rows: Any) -> Any:
    return rows - rows.mean(axis=0)


class Doubling(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    def fit(self, rows: Any, target: Any = None) -> Doubling:
        return self

    def transform(self, rows: Any) -> Any:
        return 2 * rows


class OwnRegression(LogisticRegression):  # type: ignore[misc]
    pass


KNOWN: dict[str, Callable[[], Any]] = {
    "logistic": LogisticRegression,
    "forest": lambda: RandomForestClassifier(5, random_state=0),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=5, random_state=0),
    "support vectors": SVC,
    "pipeline": lambda: make_pipeline(StandardScaler(), PCA(2), LogisticRegression()),
    "union": lambda: make_pipeline(make_union(StandardScaler(), PolynomialFeatures(2)), LogisticRegression()),
    "columns": lambda: make_pipeline(
        make_column_transformer((StandardScaler(), ["a"]), remainder="passthrough"), LogisticRegression()
    ),
    "search": lambda: GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
    "stack": lambda: StackingClassifier([("svc", SVC()), ("lr", LogisticRegression())], cv=2),
    "ufunc": lambda: make_pipeline(FunctionTransformer(np.exp), LogisticRegression()),
}
UNKNOWN: dict[str, Callable[[], Any]] = {
    "function": lambda: make_pipeline(FunctionTransformer(centre), LogisticRegression()),
    "function inside": lambda: make_pipeline(
        make_column_transformer((FunctionTransformer(centre), ["a"])), LogisticRegression()
    ),
    "inverse": lambda: TransformedTargetRegressor(LinearRegression(), func=centre, inverse_func=centre),
    "own class": lambda: make_pipeline(Doubling(), LogisticRegression()),
    "derived class": OwnRegression,
    "searched": lambda: GridSearchCV(make_pipeline(Doubling(), LogisticRegression()), {}),
    "iterative": lambda: make_pipeline(NMF(), LogisticRegression()),
    "neighbours": KNeighborsClassifier,
    "no estimator": object,
}


@pytest.mark.parametrize("make", KNOWN.values(), ids=KNOWN.keys())
def test_known_classes_treat_rows_one_by_one(make: Callable[[], Any]) -> None:
    assert is_rowwise(make())


@pytest.mark.parametrize("make", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_nothing_else_is_taken_to(make: Callable[[], Any]) -> None:
    assert not is_rowwise(make())


BOOSTED = [
    *(("xgboost", f"XGB{kind}") for kind in ("Classifier", "Regressor", "Ranker", "RFClassifier", "RFRegressor")),
    *(("lightgbm", f"LGBM{kind}") for kind in ("Classifier", "Regressor", "Ranker")),
]


@pytest.mark.parametrize(("library", "name"), BOOSTED)
def test_gradient_boosting_treats_rows_one_by_one(library: str, name: str) -> None:
    kind = getattr(pytest.importorskip(library), name)
    assert is_rowwise(kind())
    assert is_rowwise(make_pipeline(StandardScaler(), kind()))


@pytest.mark.parametrize(("library", "name"), [("xgboost", "XGBRegressor"), ("lightgbm", "LGBMRegressor")])
def test_an_objective_of_ones_own_is_not_known(library: str, name: str) -> None:
    assert not is_rowwise(getattr(pytest.importorskip(library), name)(objective=centre))


@pytest.fixture(scope="module")
def fitted() -> dict[str, Any]:
    return {name: make().fit(ROWS, LABELS) for name, make in KNOWN.items()}


@pytest.mark.parametrize("name", KNOWN)
def test_a_call_without_names_answers_to_the_byte_as_one_with_them(fitted: dict[str, Any], name: str) -> None:
    estimator = fitted[name]
    nameless = without_names(estimator)
    assert (nameless is None) == (name in ("union", "columns", "search", "stack", "ufunc"))
    if nameless is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (nameless.predict(ROWS.to_numpy()) == estimator.predict(ROWS)).all()
    assert list(estimator.feature_names_in_) == NAMES


def test_an_estimator_that_makes_frames_keeps_its_names() -> None:
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), Ridge()).fit(ROWS, ROWS["a"])
    assert without_names(pipeline) is None


def test_columns_in_another_order_than_the_fit_are_left_to_the_estimator(fitted: dict[str, Any]) -> None:
    from stackkit.serving.tables import Table

    caller = FrameCaller(fitted["logistic"], NAMES)
    swapped = Table({name: [1.0] for name in reversed(NAMES)}, ("float64",) * 3, 1)
    with pytest.raises(ValueError, match="same order"):
        caller.of_tables([swapped])


NUMBERS = st.floats(-10, 10) | st.integers(-10, 10)
REQUESTS = st.lists(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=3), min_size=2, max_size=8)


def payloads_of(rows: list[tuple[float, ...]]) -> list[Payload]:
    """The same rows in each shape."""
    return [
        Payload(Shape.SPLIT, {"columns": NAMES, "data": [list(row) for row in rows]}),
        Payload(Shape.RECORDS, [dict(zip(NAMES, row, strict=True)) for row in rows]),
        Payload(Shape.INPUTS, dict(zip(NAMES, map(list, zip(*rows, strict=True)), strict=True))),
        Payload(Shape.INPUTS, [list(row) for row in rows]),
    ]


@pytest.mark.parametrize("name", KNOWN)
@given(requests=REQUESTS)
@settings(max_examples=6, deadline=None)
def test_a_batch_answers_as_each_request_alone(
    fitted: dict[str, Any], name: str, requests: list[list[tuple[float, ...]]]
) -> None:
    model = EstimatorModel(fitted[name])
    for shape in range(4):
        prepared = [model.prepare(payloads_of(rows)[shape], None) for rows in requests]
        for key in {each.key for each in prepared}:
            together = [each for each in prepared if each.key == key]
            assert key is not None
            parts = batching.split(model.predict_prepared(together), [each.rows for each in together])
            for each, part in zip(together, parts, strict=True):
                assert (model.predict_prepared([each]) == part).all()


@given(requests=REQUESTS)
@settings(max_examples=6, deadline=None)
def test_numbers_of_a_batch_agree_to_nine_places(requests: list[list[tuple[float, ...]]]) -> None:
    model = EstimatorModel(make_pipeline(StandardScaler(), Ridge()).fit(ROWS, ROWS["a"] * 3 - ROWS["b"]))
    prepared = [model.prepare(payloads_of(rows)[3], None) for rows in requests]
    together = [each for each in prepared if each.key == prepared[0].key]
    parts = batching.split(model.predict_prepared(together), [each.rows for each in together])
    for each, part in zip(together, parts, strict=True):
        np.testing.assert_allclose(part, model.predict_prepared([each]), rtol=1e-9, atol=1e-9)


def test_text_and_clusters_are_joined_too() -> None:
    frame = pd.DataFrame({"kind": ["x", "y", "z"] * 4, "size": np.arange(12.0)})
    steps = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough")
    model = EstimatorModel(make_pipeline(steps, KMeans(2, n_init=1, random_state=0)).fit(frame))
    assert model.is_rowwise
    one, other = (
        model.prepare(Payload(Shape.RECORDS, [{"kind": kind, "size": size}]), None) for kind, size in ("x0", "z9")
    )
    assert (one.key, one.rows) == (other.key, 1)
