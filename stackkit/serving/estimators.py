"""What is known of fitted estimators by their classes, and how they are called with as little ado as that allows."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .forests import quickened
from .tables import Table, to_block, to_frame

if TYPE_CHECKING:
    import numpy as np

_KNOWN = {
    "sklearn.calibration": "CalibratedClassifierCV",
    "sklearn.cluster": "BisectingKMeans KMeans MiniBatchKMeans",
    "sklearn.compose": "ColumnTransformer TransformedTargetRegressor",
    "sklearn.covariance": "EllipticEnvelope",
    "sklearn.cross_decomposition": "CCA PLSCanonical PLSRegression",
    "sklearn.decomposition": "FactorAnalysis FastICA IncrementalPCA PCA TruncatedSVD",
    "sklearn.discriminant_analysis": "LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis",
    "sklearn.dummy": "DummyRegressor",
    "sklearn.ensemble": "AdaBoostClassifier AdaBoostRegressor BaggingClassifier BaggingRegressor ExtraTreesClassifier"
    " ExtraTreesRegressor GradientBoostingClassifier GradientBoostingRegressor HistGradientBoostingClassifier"
    " HistGradientBoostingRegressor IsolationForest RandomForestClassifier RandomForestRegressor StackingClassifier"
    " StackingRegressor VotingClassifier VotingRegressor",
    "sklearn.feature_selection": "GenericUnivariateSelect RFE RFECV SelectFdr SelectFpr SelectFromModel SelectFwe"
    " SelectKBest SelectPercentile SequentialFeatureSelector VarianceThreshold",
    "sklearn.impute": "MissingIndicator SimpleImputer",
    "sklearn.isotonic": "IsotonicRegression",
    "sklearn.kernel_approximation": "Nystroem RBFSampler",
    "sklearn.linear_model": "ARDRegression BayesianRidge ElasticNet ElasticNetCV GammaRegressor HuberRegressor Lars"
    " LarsCV Lasso LassoCV LassoLars LassoLarsCV LassoLarsIC LinearRegression LogisticRegression LogisticRegressionCV"
    " MultiTaskElasticNet MultiTaskElasticNetCV MultiTaskLasso MultiTaskLassoCV OrthogonalMatchingPursuit"
    " OrthogonalMatchingPursuitCV PassiveAggressiveClassifier PassiveAggressiveRegressor Perceptron PoissonRegressor"
    " QuantileRegressor RANSACRegressor Ridge RidgeCV RidgeClassifier RidgeClassifierCV SGDClassifier SGDOneClassSVM"
    " SGDRegressor TheilSenRegressor TweedieRegressor",
    "sklearn.mixture": "BayesianGaussianMixture GaussianMixture",
    "sklearn.model_selection": "FixedThresholdClassifier GridSearchCV HalvingGridSearchCV HalvingRandomSearchCV"
    " RandomizedSearchCV TunedThresholdClassifierCV",
    "sklearn.multiclass": "OneVsOneClassifier OneVsRestClassifier OutputCodeClassifier",
    "sklearn.multioutput": "ClassifierChain MultiOutputClassifier MultiOutputRegressor RegressorChain",
    "sklearn.naive_bayes": "BernoulliNB CategoricalNB ComplementNB GaussianNB MultinomialNB",
    "sklearn.neural_network": "MLPClassifier MLPRegressor",
    "sklearn.pipeline": "FeatureUnion Pipeline",
    "sklearn.preprocessing": "Binarizer FunctionTransformer KBinsDiscretizer MaxAbsScaler MinMaxScaler Normalizer"
    " OneHotEncoder OrdinalEncoder PolynomialFeatures PowerTransformer QuantileTransformer RobustScaler"
    " SplineTransformer StandardScaler TargetEncoder",
    "sklearn.svm": "LinearSVC LinearSVR NuSVC NuSVR OneClassSVM SVC SVR",
    "sklearn.tree": "DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor",
    "xgboost.core": "Booster",
    "xgboost.sklearn": "XGBClassifier XGBRFClassifier XGBRFRegressor XGBRanker XGBRegressor",
    "lightgbm.basic": "Booster",
    "lightgbm.sklearn": "LGBMClassifier LGBMRanker LGBMRegressor",
}
# Left out on purpose: what solves for all rows together (NMF, LatentDirichletAllocation, IterativeImputer), what draws
# random numbers (DummyClassifier), neighbours (which of two at equal distance is nearer depends on how the distances
# of a batch are rounded), and text (a vectorizer takes a frame for its column names).

_ROWWISE = frozenset((package, name) for package, names in _KNOWN.items() for name in names.split())

_NAMELESS = frozenset(
    ("sklearn." + package, name)
    for package, name in [
        ("linear_model", "ElasticNet"),
        ("linear_model", "Lasso"),
        ("linear_model", "LinearRegression"),
        ("linear_model", "LogisticRegression"),
        ("linear_model", "LogisticRegressionCV"),
        ("linear_model", "Ridge"),
        ("linear_model", "RidgeClassifier"),
        ("linear_model", "SGDClassifier"),
        ("linear_model", "SGDRegressor"),
        ("ensemble", "ExtraTreesClassifier"),
        ("ensemble", "ExtraTreesRegressor"),
        ("ensemble", "GradientBoostingClassifier"),
        ("ensemble", "GradientBoostingRegressor"),
        ("ensemble", "RandomForestClassifier"),
        ("ensemble", "RandomForestRegressor"),
        ("preprocessing", "MaxAbsScaler"),
        ("preprocessing", "MinMaxScaler"),
        ("preprocessing", "RobustScaler"),
        ("preprocessing", "StandardScaler"),
        ("svm", "LinearSVC"),
        ("svm", "LinearSVR"),
        ("svm", "SVC"),
        ("svm", "SVR"),
        ("tree", "DecisionTreeClassifier"),
        ("tree", "DecisionTreeRegressor"),
    ]
)


def is_rowwise(estimator: Any) -> bool:
    """Whether this estimator and every one inside it is of a class that treats each row by itself.

    False for everything that is not known to. Functions that the owner wrote are never known: a FunctionTransformer
    may well centre the rows that it is given.
    """
    return all(_is_known(part) for part in _parts(estimator))


def example_for(estimator: Any) -> Any:
    """The body of a scoring request with a row of zeros as wide as the estimator was fitted; None when it does not say
    how wide that is. Whether it takes numbers it does not say either.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        return {"dataframe_records": [dict.fromkeys(map(str, names), 0.0)]}
    width = getattr(estimator, "n_features_in_", None)
    return None if width is None else {"inputs": [[0.0] * int(width)]}


def without_names(estimator: Any) -> Any | None:
    """A shallow copy of the estimator, fitted with named columns, that takes the same rows as an array of numbers.

    It answers the same, without comparing names that were compared already: for one row of a linear model that is
    three quarters of the time. None for an estimator that has a use for the names, or is of a class not known here.
    """
    if _class_of(estimator) == ("sklearn.pipeline", "Pipeline"):
        if getattr(estimator, "transform_input", None) or not estimator.steps or _has_frames_inside(estimator):
            return None
        (name, first), *rest = estimator.steps
        if (first := without_names(first)) is None:
            return None
        pipeline = copy.copy(estimator)
        pipeline.steps = [(name, first), *rest]
        return pipeline
    if _class_of(estimator) not in _NAMELESS or _has_frames_inside(estimator):
        return None
    nameless = copy.copy(estimator)
    vars(nameless).pop("feature_names_in_", None)
    return nameless


class FrameCaller:
    """Calls a method of an estimator that was fitted with a frame whose columns are ``features``."""

    def __init__(self, estimator: Any, features: Sequence[str], method: str = "predict") -> None:
        self._features = tuple(features)
        self._call: Callable[[Any], Any] = getattr(estimator, method)
        nameless = without_names(estimator)
        self._call_nameless = None if nameless is None else getattr(quickened(nameless), method)

    def of_tables(self, tables: Sequence[Table]) -> Any:
        """What the method returns for the rows of all tables; see ``tables.to_frame`` for which may be joined."""
        is_in_order = tuple(tables[0].columns) == self._features
        if self._call_nameless is not None and is_in_order and (block := to_block(tables)) is not None:
            return self._call_nameless(block)
        return self._call(to_frame(tables))

    def of_array(self, rows: np.ndarray[Any, Any]) -> Any:
        """What the method returns for rows of numbers in the order of the features."""
        if self._call_nameless is not None and rows.dtype.kind in "if":
            return self._call_nameless(rows)
        import pandas as pd

        return self._call(pd.DataFrame(rows, columns=list(self._features)))


def _has_frames_inside(estimator: Any) -> bool:
    """Whether set_output has it, or one inside it, hand on frames, made with the names that it was given."""
    if sys.modules["sklearn"].get_config()["transform_output"] != "default":
        return True
    return any("_sklearn_output_config" in vars(part) for part in _parts(estimator))


def _parts(estimator: Any) -> Iterator[Any]:
    """The estimator, all that are inside it, and every function among their parameters."""
    yield estimator
    get_params = getattr(estimator, "get_params", None)
    if not callable(get_params):
        return
    for value in get_params(deep=True).values():
        if (callable(value) and not isinstance(value, type)) or hasattr(value, "get_params") or hasattr(value, "fit"):
            yield value


def _is_known(part: Any) -> bool:
    name = _class_of(part)
    if hasattr(part, "fit"):
        if name in (
            ("sklearn.preprocessing", "FunctionTransformer"),
            ("sklearn.compose", "TransformedTargetRegressor"),
        ):
            return all(_is_elementwise(getattr(part, attribute)) for attribute in ("func", "inverse_func"))
        return name in _ROWWISE
    if name in _ROWWISE:  # what a library trains without an estimator around it
        return True
    # scikit-learn's own: score functions, metrics, kernels
    return (getattr(part, "__module__", None) or "").partition(".")[0] in ("sklearn", "numpy")


def _is_elementwise(function: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return function is None or (numpy is not None and isinstance(function, numpy.ufunc))


def _class_of(part: Any) -> tuple[str, str]:
    kind = type(part)
    return ".".join(kind.__module__.split(".")[:2]), kind.__qualname__
