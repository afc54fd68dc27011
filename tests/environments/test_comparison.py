from __future__ import annotations

import sys
from importlib.metadata import distribution, version
from pathlib import Path

import pytest

from stackkit.environments import comparison
from stackkit.environments.comparison import differences
from stackkit.environments.requirements import ModelRequirements

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
NUMPY = version("numpy")


def compared(**asked: object) -> list[str]:
    return differences(ModelRequirements(**asked), "/m/model.joblib", "joblib")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line",
    [
        "numpy",
        f"numpy=={NUMPY}",
        f"NumPy >= 1.0 --hash=sha256:{'0' * 64}",
        "no-such-package; python_version < '3'",
        "pytest-xdist[no-such-extra]",
    ],
)
def test_what_is_here_is_no_difference(line: str) -> None:
    assert compared(packages=(line,)) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("numpy==1.0", f"numpy ==1.0 (here {NUMPY})"),
        ("no-such-package>=2", "no-such-package >=2 (not here)"),
        ("no-such-package", "no-such-package (not here)"),
        ("numpy @ https://example.org/numpy.whl", f"numpy https://example.org/numpy.whl (here {NUMPY})"),
        (
            "numpy @ git+https://ann:hunter2@example.org/numpy",
            f"numpy git+https://example.org/numpy (here {NUMPY})",
        ),
        ("https://ann:hunter2@example.org/n.whl", "https://example.org/n.whl (which cannot be compared)"),
        ("/m/own-1.0-py3-none-any.whl", "/m/own-1.0-py3-none-any.whl (a file of the model's)"),
    ],
)
def test_each_difference_is_told(line: str, told: str) -> None:
    assert compared(packages=(line,)) == [told]


def test_what_an_extra_needs_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        version = "1.0"
        requires = ("numpy", "answers>=2; extra == 'all'", "own[more]; extra == 'all'", "pytest>999; extra == 'more'")

    def installed(name: str) -> object:
        return Installed() if name == "own" else distribution(name)

    monkeypatch.setattr(comparison, "distribution", installed)
    pytest_here = version("pytest")
    assert compared(packages=("own[all]",)) == [
        "answers >=2 (not here), for own[all]",
        f"pytest >999 (here {pytest_here}), for own[more], for own[all]",
    ]
    assert compared(packages=("own",)) == []


def test_constraints_are_for_what_is_here() -> None:
    assert compared(constraints=("no-such-package<1", "numpy<1")) == [f"numpy <1 (here {NUMPY})"]


def test_of_a_python_the_patch_level_does_not_count() -> None:
    assert compared(python=f"{HERE}.99") == []
    assert compared(python="3.9.18") == [f"Python 3.9 (here {HERE})"]


def test_what_conda_installs_cannot_be_compared() -> None:
    assert compared(conda_packages=("libgomp",)) == ["libgomp (from conda)"]


@pytest.mark.parametrize(("loader", "told"), [("mlflow.sklearn", []), ("mlflow.spacy", ["mlflow ==1.0"])])
def test_mlflow_is_not_asked_for_by_a_model_that_is_loaded_without_it(
    tmp_path: Path, loader: str, told: list[str]
) -> None:
    (tmp_path / "model.pkl").write_bytes(b"never read")
    (tmp_path / "MLmodel").write_text(
        f"flavors:\n  python_function: {{loader_module: {loader}, model_path: model.pkl}}\n"
        "  sklearn: {pickled_model: model.pkl, serialization_format: pickle}\n"
    )
    found = differences(ModelRequirements(packages=("mlflow==1.0",)), str(tmp_path), "mlflow")
    assert [line.partition(" (")[0] for line in found] == told
