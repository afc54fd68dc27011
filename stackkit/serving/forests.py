"""Forests of scikit-learn's, asked about few rows: their trees one after the other, without the ado around each.

For each tree scikit-learn checks that it is fitted, makes a task of the call and takes a lock: for a request's row that
is some fifteen times what the trees themselves take.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

FEW = 1000
"""Rows from which on the trees' own time counts, and several jobs may pay."""

_CLASSIFIERS = frozenset({"ExtraTreesClassifier", "RandomForestClassifier"})
_REGRESSORS = frozenset({"ExtraTreesRegressor", "RandomForestRegressor"})


def quickened(estimator: Any) -> Any:
    """A shallow copy of a forest, or of a pipeline that ends in one, which is quicker about few rows in an array; any
    other estimator as it is.

    The copy answers to the byte what the estimator answers by one job: ``n_jobs`` may add up in any order. It hands on
    whatever is not a few rows of finite numbers, and does not warn about names that an array lacks.
    """
    if _is_pipeline(estimator):
        *steps, (name, last) = estimator.steps
        quick = quickened(last)
        if quick is last:
            return estimator
        pipeline = copy.copy(estimator)
        pipeline.steps = [*steps, (name, quick)]
        return pipeline
    if not _is_forest(estimator):
        return estimator
    trees = _Trees(estimator)
    return trees.quick_copy() if trees.agree() else estimator


def _is_pipeline(estimator: Any) -> bool:
    kind = type(estimator)
    return kind.__module__ == "sklearn.pipeline" and kind.__qualname__ == "Pipeline" and bool(estimator.steps)


def _is_forest(estimator: Any) -> bool:
    """Whether it is of a class known here, fitted, with one output, and has nothing to print about each tree."""
    kind = type(estimator)
    return (
        kind.__module__ == "sklearn.ensemble._forest"
        and kind.__qualname__ in _CLASSIFIERS | _REGRESSORS
        and getattr(estimator, "n_outputs_", 0) == 1
        and hasattr(estimator, "n_features_in_")
        and not estimator.verbose
    )


class _Trees:
    """The trees of one forest, and what it makes of their values."""

    def __init__(self, forest: Any) -> None:
        self._forest = forest
        self._is_classifier = type(forest).__qualname__ in _CLASSIFIERS
        self._trees = [each.tree_ for each in forest.estimators_]
        self._width = forest.n_features_in_

    def quick_copy(self) -> Any:
        quick = copy.copy(self._forest)
        quick.predict = self.predict
        if self._is_classifier:
            quick.predict_proba = self.predict_proba
        return quick

    def predict(self, rows: Any) -> Any:
        means = self._means(rows)
        if means is None:
            return self._forest.predict(rows)
        return self._forest.classes_.take(means.argmax(axis=1), axis=0) if self._is_classifier else means[:, 0]

    def predict_proba(self, rows: Any) -> Any:
        means = self._means(rows)
        return self._forest.predict_proba(rows) if means is None else means

    def agree(self) -> bool:
        """Whether the answers are the forest's own, in the version of scikit-learn that is here: asked about rows on
        the trees' own thresholds.
        """
        import numpy as np

        rows = np.zeros((min(len(self._trees), 16), self._width))
        for row, tree in zip(rows, self._trees, strict=False):
            inner = tree.children_left >= 0
            row[tree.feature[inner]] = tree.threshold[inner]
        own = copy.copy(self._forest)
        own.n_jobs = 1
        vars(own).pop("feature_names_in_", None)
        try:
            expected = own.predict_proba(rows) if self._is_classifier else own.predict(rows)
            found = self.predict_proba(rows) if self._is_classifier else self.predict(rows)
        except Exception:
            return False  # it is for the forest to say so, to whoever asks it
        return found.dtype == expected.dtype and np.array_equal(found, expected)

    def _means(self, rows: Any) -> Array | None:
        """The means of the trees' values; None for rows that the forest itself is to be asked about."""
        import numpy as np

        if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "if" or rows.ndim != 2:
            return None
        if rows.shape[1] != self._width or not 0 < len(rows) <= FEW:
            return None
        with np.errstate(over="ignore"):
            singles = rows.astype(np.float32)
        if not np.isfinite(singles).all():
            return None
        # in the order, and from the zero, from which the forest adds: the last bits depend on it
        means = np.zeros((len(rows), self._trees[0].value.shape[2]))
        for tree in self._trees:
            means += tree.predict(singles)
        means /= len(self._trees)
        return means
