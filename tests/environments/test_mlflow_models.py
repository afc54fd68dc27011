"""Models that MLflow names, from a registry in a SQLite file."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackkit.environments import mlflow_models
from stackkit.environments.models import resolve
from stackkit.errors import ModelError

mlflow = pytest.importorskip("mlflow", reason="needs MLflow")

# MLflow's own imports and calls warn of things that are not ours
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

MLMODEL = "flavors:\n  python_function:\n    loader_module: none\n"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow registry that holds the model ``churn``: version 1 is the champion, 2 and 3 are the same bytes.

    Yields the id of the run that logged version 1.
    """
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            patch.setenv(name, f"sqlite:///{folder / 'mlflow.db'}")
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        client = mlflow.MlflowClient()
        run = client.create_run(client.create_experiment("tests", artifact_location=(folder / "runs").as_uri()))
        client.create_registered_model("churn")
        for path, weights in (("model", b"first"), ("second", b"second"), ("third", b"second")):
            source = folder / path
            source.mkdir()
            (source / "MLmodel").write_text(MLMODEL)
            (source / "model.pkl").write_bytes(weights)
            client.log_artifacts(run.info.run_id, str(source), path)
            client.create_model_version("churn", f"{run.info.artifact_uri}/{path}", run_id=run.info.run_id)
        client.set_registered_model_alias("churn", "champion", "1")
        client.transition_model_version_stage("churn", "2", "Production")
        yield run.info.run_id


@pytest.mark.parametrize(
    ("uri", "pinned", "weights"),
    [
        ("models:/churn/1", "models:/churn/1", b"first"),
        ("models:/churn@champion", "models:/churn/1", b"first"),
        ("models:/churn/latest", "models:/churn/3", b"second"),
        ("models:/churn/Production", "models:/churn/2", b"second"),
    ],
)
def test_a_registered_model_is_pinned_to_its_version(
    registry: str, models_folder: Path, uri: str, pinned: str, weights: bytes
) -> None:
    told: list[str] = []
    model = resolve(uri, models_folder=models_folder, progress=told.append)
    assert model.uri == pinned
    assert model.format == "mlflow"
    assert (Path(model.reference) / "model.pkl").read_bytes() == weights
    assert Path(model.reference).is_relative_to(models_folder)
    assert told == [f"fetching {pinned}"]


def test_a_logged_model(registry: str, models_folder: Path) -> None:
    by_run = resolve(f"runs:/{registry}/model", models_folder=models_folder)
    by_version = resolve("models:/churn/1", models_folder=models_folder)
    assert by_run.uri == f"runs:/{registry}/model"
    assert by_run.digest == by_version.digest


def test_a_file_of_a_run(registry: str, models_folder: Path) -> None:
    model = resolve(f"runs:/{registry}/model/model.pkl", models_folder=models_folder)
    assert model.format == "pickle"
    assert Path(model.reference).name == "model.pkl"


def test_the_same_bytes_registered_twice_have_one_digest(registry: str, models_folder: Path) -> None:
    second = resolve("models:/churn/2", models_folder=models_folder)
    third = resolve("models:/churn/3", models_folder=models_folder)
    assert second.uri != third.uri
    assert second.digest == third.digest


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("models:/other/1", "There is no model at models:/other/1: "),
        ("models:/churn/9", "There is no model at models:/churn/9: "),
        ("models:/churn@nobody", "models:/churn@nobody could not be fetched: "),
        ("models:/other/latest", "There is no model at models:/other/latest: "),
        ("models:/churn/Staging", "no version of churn fits Staging"),
        ("models:/", "models:/ could not be fetched: "),
        ("runs:/0/model", "There is no model at runs:/0/model: "),
    ],
)
def test_what_is_not_in_the_registry(registry: str, models_folder: Path, uri: str, words: str) -> None:
    with pytest.raises(ModelError) as refusal:
        resolve(uri, models_folder=models_folder)
    assert words in refusal.value.message
    assert "\n" not in refusal.value.message
    assert refusal.value.hint
    assert not models_folder.exists() or list(models_folder.iterdir()) == []


def test_a_full_disk(registry: str, models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", full)
    with pytest.raises(ModelError, match="is full: the model needs more than is free"):
        resolve("models:/churn/1", models_folder=models_folder)
    assert list(models_folder.iterdir()) == []


def test_without_mlflow(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mlflow", "mlflow.artifacts"):
        monkeypatch.setitem(sys.modules, name, None)
    for uri in ("models:/churn@champion", "models:/churn/1", "runs:/1/model"):
        with pytest.raises(ModelError, match="needs MLflow") as refusal:
            resolve(uri, models_folder=models_folder)
        assert refusal.value.hint == "Install it: pip install 'stackkit[mlflow]'"


def test_without_something_that_mlflow_needs(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def incomplete(**options: object) -> None:
        raise ModuleNotFoundError("No module named 'boto3'", name="boto3")

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", incomplete)
    with pytest.raises(ModelError, match="No module named 'boto3'") as refusal:
        resolve("runs:/1/model", models_folder=models_folder)
    assert refusal.value.hint == "Install what is missing: pip install boto3"


def test_other_uris_are_left_alone() -> None:
    for uri in ("runs:/1/model", "models:/m-0123", "models:/churn/3", "models:/churn/3/inner"):
        assert mlflow_models.pin_version(uri) == uri
