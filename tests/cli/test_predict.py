from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

MODEL = """\
import time

def predict(frame):
    return (frame["a"] * 2).tolist()

def hang(frame):
    print("called", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model that doubles, in the working directory, beside ``in.csv``."""
    (tmp_path / "double.py").write_text(MODEL)
    (tmp_path / "in.csv").write_text("a\n1\n2\n3\n4\n")
    monkeypatch.chdir(tmp_path)
    return "./double.py:predict"


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch):
    """What this process would have become."""
    calls: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    return calls


def test_the_model_is_called_in_this_process_place(ok, model, executed, monkeypatch):
    monkeypatch.setenv("STACKKIT_SECRET_KEY", "hunter2")
    ok("predict", model, "-i", "in.csv", "-o", "out.csv")
    ((program, command, environment),) = executed
    assert program == command[0] == sys.executable
    assert command[1:4] == ["-P", "-m", "stackkit.serving.batch"]
    assert command[4].endswith("double.py:predict")
    assert set(command[5:]) == {
        "--input=in.csv",
        "--output=out.csv",
        "--format=python",
        "--chunk-size=10000",
        "--casting=exact",
    }
    assert not [name for name in environment if name.startswith("STACKKIT_")]


def test_options_are_handed_on(ok, model, executed):
    given = ("--chunk-size=7", "--casting=mlflow", "--param", "a=1", "--param", "b=[x=y]")
    ok("predict", model, "--input=in.csv", "--output=out.json", *given)
    ((_, command, _),) = executed
    assert {"--chunk-size=7", "--casting=mlflow", "--param=a=1", "--param=b=[x=y]"} <= set(command)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("gone.csv", "out.csv", "There is no file gone.csv."),
        ("in.csv", "out.txt", "out.txt has no suffix that names its format."),
        ("in.csv", "in.csv", "in.csv is both input and output."),
    ],
)
def test_files_that_cannot_be_used_are_told_before_the_model_is_looked_for(
    fails, model, executed, source, target, message
):
    told, hint = fails("predict", "./gone.joblib", "-i", source, "-o", target)
    assert told == message
    assert hint
    assert executed == []


def test_a_model_that_is_none_starts_nothing(fails, model, executed, tmp_path):
    message, _ = fails("predict", "./gone.joblib", "-i", "in.csv", "-o", "out.csv")
    assert message == f"There is no model at {tmp_path / 'gone.joblib'}."
    assert executed == []


@pytest.mark.parametrize(
    "arguments",
    [["-i", "in.csv"], ["-o", "out.csv"], ["--chunk-size=0"], ["--param=x"], ["--param=a=1", "--param=a=2"]],
)
def test_arguments_that_make_no_sense_are_wrong_usage(run, model, executed, arguments):
    files = [] if arguments[0] in ("-i", "-o") else ["-i", "in.csv", "-o", "out.csv"]
    assert run("predict", model, *files, *arguments).exit_code == 2
    assert executed == []


def test_progress_is_shown_on_a_terminal(terminal, model, tmp_path):
    command = terminal("predict", model, "-i", "in.csv", "-o", "out.csv", "--chunk-size=1")
    assert command.end() == 0
    shown = ESCAPES.sub("", command.shown)
    assert "rows  0:0" in shown
    assert shown.splitlines()[-1].startswith("Wrote 4 predictions to out.csv in ")
    assert (tmp_path / "out.csv").read_text() == "prediction\n2\n4\n6\n8\n"


def test_ctrl_c_leaves_nothing(terminal, model, tmp_path):
    command = terminal("predict", "./double.py:hang", "-i", "in.csv", "-o", "out.csv")
    command.wait_for("called")
    command.interrupt()
    assert command.end() == 130
    assert "Cancelled." in command.shown
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_file()) == ["double.py", "in.csv"]
