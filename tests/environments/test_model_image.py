"""How a model's image is named, and in which registry it lies; the engine's part is tested with the Docker flavor."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from stackkit.environments import runtime
from stackkit.environments.images import model_image
from stackkit.environments.images.registry import Registry
from stackkit.environments.models import ResolvedModel, resolve
from stackkit.errors import ImageError


@pytest.fixture
def model(tmp_path: Path, models_folder: Path) -> ResolvedModel:
    return written(tmp_path / "model", models_folder)


def written(folder: Path, models_folder: Path, *, answer: str = "1", requirements: str = "") -> ResolvedModel:
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(f"def predict(rows): return [{answer} for _ in rows]\n", encoding="utf-8")
    (folder / "requirements.txt").write_text(requirements, encoding="utf-8")
    return resolve(f"{folder}/model.py:predict", models_folder=models_folder)


def test_an_image_is_named_by_what_it_is_made_of(
    model: ResolvedModel, tmp_path: Path, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = model_image.tag_of(model, None, None)
    assert name.startswith("stackkit-models:")
    same = written(tmp_path / "model", models_folder)
    assert model_image.tag_of(same, None, None) == name
    others = {
        model_image.tag_of(written(tmp_path / "answer", models_folder, answer="2"), None, None),
        model_image.tag_of(written(tmp_path / "asks", models_folder, requirements="numpy>=2\n"), None, None),
        model_image.tag_of(model, "python:3.12-slim", None),
    }
    monkeypatch.setattr(runtime, "digest", lambda: "another")
    others.add(model_image.tag_of(model, None, None))
    assert len(others | {name}) == 5


@pytest.mark.parametrize("name", ["registry.example.org:5000/team", "registry.example.org:5000/team/"])
def test_an_image_in_a_registry(model: ResolvedModel, name: str) -> None:
    registry = Registry(name)
    image = model_image.tag_of(model, None, registry)
    assert image == f"registry.example.org:5000/team/{model_image.tag_of(model, None, None)}"
    assert registry.holds(image)
    assert not registry.holds("registry.example.org:5000/teams/iris:1")


def test_credentials_are_used_whole_or_not_at_all() -> None:
    assert Registry("r", "ann", SecretStr("hunter2")).credentials() == {"username": "ann", "password": "hunter2"}
    assert Registry("r", "ann").credentials() is None
    assert "hunter2" not in repr(Registry("r", "ann", SecretStr("hunter2")))


def test_a_model_of_which_there_can_be_no_image_has_no_name(models_folder: Path) -> None:
    with pytest.raises(ImageError, match="a module of this environment"):
        model_image.tag_of(resolve("json:loads", models_folder=models_folder), None, None)
