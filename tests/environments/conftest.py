from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def models_folder(tmp_path: Path) -> Path:
    """Where models are kept: not there yet, as on a first use."""
    return tmp_path / "home" / "models"


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A model that is a file. Nothing here loads it, so any bytes will do."""
    path = tmp_path / "work" / "model.joblib"
    path.parent.mkdir()
    path.write_bytes(b"the first training")
    return path


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A model that is a folder, as MLflow lays it out."""
    folder = tmp_path / "work" / "churn"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "data" / "model.pkl").write_bytes(b"weights")
    return folder
