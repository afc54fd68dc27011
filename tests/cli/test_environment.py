"""``stackkit environment``, ``model prepare-env``, and the environments of ``serve`` and ``predict``."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

MODEL = """\
import answers

def predict(data):
    return [answers.ANSWER] * len(data)
"""


@pytest.fixture
def model(tmp_path: Path, asks_for: Callable[..., Path]) -> str:
    (tmp_path / "model.py").write_text(MODEL)
    asks_for(tmp_path, "answers==1.0")
    return f"{tmp_path}/model.py:predict"


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch):
    """What this process would have become."""
    calls: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    return calls


def test_an_environment_is_built_ahead_listed_used_and_pruned(ok, read, model, home, executed):
    built = ok("model", "prepare-env", model)
    interpreter = built.stdout.strip()
    assert interpreter.startswith(str(home / "environments"))
    assert "The model asks for what is not here: answers ==1.0 (not here)." in built.stderr
    (listed,) = read("environment", "list")
    assert (listed["interpreter"], listed["manager"], listed["used_by"]) == (interpreter, "uv", [])
    assert "answers==1.0" in listed["packages"]
    assert listed["name"] in ok("environment", "list").stdout

    served = ok("serve", model)
    assert "It runs in an environment of its own (uv)." in served.stderr
    ((_, command, _),) = executed
    assert f"--python={interpreter}" in command

    # this process would be the server by now, and hold it
    assert "In use, and left alone: 1." in ok("environment", "prune", "--yes").stderr
    for descriptor in Path("/proc/self/fd").iterdir():
        if descriptor.is_symlink() and os.path.realpath(descriptor).endswith(f"{listed['name']}/lock"):
            os.close(int(descriptor.name))
    assert ok("environment", "prune", "--yes").stdout == f"{listed['name']}\n"
    assert read("environment", "list") == []
    assert "nothing to prune" in ok("environment", "prune").stderr


def test_a_model_that_asks_for_nothing_else_needs_none(ok, tmp_path, home):
    (tmp_path / "model.py").write_text("def predict(data):\n    return data\n")
    (tmp_path / "requirements.txt").write_text("numpy\n")
    result = ok("model", "prepare-env", f"{tmp_path}/model.py:predict")
    assert "there is nothing to build" in result.stderr
    assert result.stdout == ""
    assert not (home / "environments").exists()


def test_a_model_that_shall_run_here_all_the_same(ok, model, executed, home):
    result = ok("serve", model, "--env-manager=local")
    assert "answers ==1.0 (not here)" in result.stderr
    assert "It runs here all the same." in result.stderr
    ((_, command, _),) = executed
    assert not [word for word in command if word.startswith("--python")]
    assert not (home / "environments").exists()


def test_predictions_are_made_in_the_models_environment(model, tmp_path, home, stackkit_command):
    (tmp_path / "rows.csv").write_text("a\n1\n2\n")
    command = [*stackkit_command, "predict", model, "-i", str(tmp_path / "rows.csv"), "-o", str(tmp_path / "out.jsonl")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [list(row.values()) if isinstance(row, dict) else row for row in rows] in (["1.0"] * 2, [["1.0"]] * 2)


def test_a_requirement_that_cannot_be_met_is_one_clear_line(fails, model, asks_for, tmp_path, home):
    asks_for(tmp_path, "answers==3.0")
    message, hint = fails("model", "prepare-env", model)
    assert message.startswith("The model's environment could not be built with uv: ")
    assert "answers==3.0" in message
    assert "--env-manager local" in hint
    assert list((home / "environments").iterdir()) == []


def test_an_environment_that_no_model_says_how_to_make(fails, tmp_path, home):
    (tmp_path / "model.py").write_text("def predict(data):\n    return data\n")
    message, hint = fails("serve", f"{tmp_path}/model.py:predict", "--env-manager=uv")
    assert message == "The model says nothing of what it needs, so no environment can be made for it."
    assert "requirements.txt" in hint
