"""``stackkit model build-image`` and ``generate-dockerfile``."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from stackkit.environments import images
from stackkit.errors import StackkitError

Run = Callable[..., Result]
Fails = Callable[..., tuple[str, str | None]]


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "work" / "model.py"
    path.parent.mkdir()
    path.write_text("def predict(rows): return [sum(row) for row in rows]\n")
    (path.parent / "requirements.txt").write_text("humanize==4.9.0\n")
    return f"{path}:predict"


def test_a_dockerfile_comes_with_all_that_it_copies(ok: Run, model: str, tmp_path: Path) -> None:
    result = ok("model", "generate-dockerfile", model, "-d", str(tmp_path / "image"), "--base-image", "base:1")
    folder = tmp_path / "image"
    assert (folder / "Dockerfile").read_text().startswith("FROM base:1 AS environment\n")
    assert "humanize==4.9.0\n" in (folder / "requirements" / "requirements.txt").read_text()
    assert (folder / "runtime" / "stackkit" / "serving" / "__main__.py").is_file()
    assert (folder / "model" / "opt" / "stackkit" / "model" / "model.py").is_file()
    assert f"docker build -t NAME:TAG {folder}" in result.stderr
    assert result.stdout == ""


def test_a_folder_that_holds_something_is_refused(fails: Fails, model: str, tmp_path: Path) -> None:
    message, _ = fails("model", "generate-dockerfile", model, "-d", str(tmp_path / "work"))
    assert message == f"The folder {tmp_path / 'work'} is not empty."


def test_a_local_model_cannot_be_fetched_at_start(fails: Fails, model: str, tmp_path: Path) -> None:
    message, hint = fails("model", "generate-dockerfile", model, "-d", str(tmp_path / "image"), "--fetch-at-start")
    assert message == f"{model} cannot be fetched when a container starts: it is on this machine."
    assert hint is not None
    assert "baked in" in hint
    assert not (tmp_path / "image").exists()


@pytest.mark.parametrize("command", ["build-image", "generate-dockerfile"])
def test_help_says_what_the_default_is(ok: Run, command: str) -> None:
    assert "python:X.Y-slim" in ok("model", command, "--help").stdout


def test_without_an_engine(fails: Fails, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("docker")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    message, hint = fails("model", "build-image", model, "-t", "iris:1")
    assert message == "No Docker Engine answers at tcp://127.0.0.1:1: Connection refused."
    assert hint == "Start it, or name another one: DOCKER_HOST."


@pytest.mark.docker
def test_a_base_image_that_is_nowhere(fails: Fails, model: str, requires: Callable[[str, str], None]) -> None:
    try:
        images.connect().close()
    except StackkitError as error:
        requires("docker", error.message)
    tag = f"stackkit-test-{uuid.uuid4().hex}:1"
    message, hint = fails("model", "build-image", model, "-t", tag, "--base-image", "127.0.0.1:1/no:1")
    assert message.startswith("The base image 127.0.0.1:1/no:1 is not on the engine and cannot be fetched: ")
    assert hint is not None
    assert "--base-image" in hint


@pytest.mark.docker
def test_an_image_is_told_as_data(
    ok: Run, tmp_path: Path, requires: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here with nothing to be installed: what such an image serves is for the tests of images."""
    try:
        engine = images.connect()
    except StackkitError as error:
        requires("docker", error.message)
        raise
    monkeypatch.setattr("stackkit.environments.runtime.RUNTIME_REQUIREMENTS", ())
    (tmp_path / "model.py").write_text("def predict(rows): return rows\n")
    tag = f"stackkit-test-{uuid.uuid4().hex}:1"
    try:
        command = ("model", "build-image", f"{tmp_path / 'model.py'}:predict", "-t", tag, "-o", "json")
        told = json.loads(ok(*command, "--base-image", "python:3.11-slim").stdout)
        assert told == {"tag": tag, "id": engine.images.get(tag).id, "digest": None}
    finally:
        engine.images.remove(tag, force=True)
        engine.close()
