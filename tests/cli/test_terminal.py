"""What a person sees: the commands run on terminals of their own."""

from __future__ import annotations

import re
import signal

import pytest

from stackkit import Client

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def plain(shown: str) -> str:
    return ESCAPES.sub("", shown).replace("\r\n", "\n")


def test_a_list_too_wide_for_the_terminal_is_one_card_a_row_with_every_value_whole(terminal, deploy):
    uuid = deploy("a-model-with-a-long-name", "--pipeline-name", "training_pipeline", "--step-name", "deployer_step")
    command = terminal("model-deployer", "models", "list")
    assert command.end() == 0
    lines = plain(command.shown).splitlines()
    assert lines[1:4] == [
        "STATUS              ❌ error",
        f"UUID                {uuid}",
        "PIPELINE_NAME       training_pipeline",
    ]
    assert max(map(len, lines)) <= 80


def test_a_table_folds_its_headers_and_prose_before_that_and_what_is_copied_never(terminal, deploy):
    uuid = deploy("a-model-with-a-long-name")
    command = terminal("model-deployer", "models", "list", columns=120)
    assert command.end() == 0
    lines = plain(command.shown).splitlines()
    (line,) = [line for line in lines if uuid in line]
    assert "a-model-with-a-long-name" in line
    assert not any("PIPELINE_STEP_NAME" in line for line in lines)
    assert max(map(len, lines)) <= 120


def test_a_wide_terminal_folds_nothing(terminal, deploy):
    uuid = deploy("a-model-with-a-long-name")
    command = terminal("model-deployer", "models", "list", columns=250)
    assert command.end() == 0
    (line,) = [line for line in plain(command.shown).splitlines() if uuid in line]
    assert "a-model-with-a-long-name" in line
    assert "❌ error" in line  # that process has another memory, in which the server does not run


def test_colour_unless_none_is_wanted(terminal, deploy, monkeypatch):
    deploy()
    coloured = terminal("model-deployer", "models", "list")
    assert coloured.end() == 0
    assert "\x1b[" in coloured.shown
    monkeypatch.setenv("NO_COLOR", "1")
    plain_one = terminal("model-deployer", "models", "list")
    assert plain_one.end() == 0
    assert not re.search(r"\x1b\[3[0-9]m", plain_one.shown)


@pytest.mark.parametrize(("answer", "code", "left"), [("y\n", 0, 0), ("n\n", 1, 1), ("\n", 1, 1)])
def test_deleting_asks(terminal, ok, read, answer, code, left):
    ok("model-deployer", "register", "one", "--flavor=local")
    command = terminal("model-deployer", "delete", "one")
    command.wait_for("Delete the model deployer 'one'? [y/N]")
    command.type(answer)
    assert command.end() == code
    assert len(read("model-deployer", "list")) == left


def test_yes_does_not_ask(terminal, ok, read):
    ok("model-deployer", "register", "one", "--flavor=local")
    command = terminal("model-deployer", "delete", "one", "--yes")
    assert command.end() == 0
    assert "[y/N]" not in command.shown
    assert read("model-deployer", "list") == []


def test_cancelling_a_question_deletes_nothing(terminal, ok, read):
    ok("model-deployer", "register", "one", "--flavor=local")
    command = terminal("model-deployer", "delete", "one")
    command.wait_for("[y/N]")
    command.interrupt()
    assert command.end() == 130
    assert "Cancelled." in command.shown
    assert len(read("model-deployer", "list")) == 1


def test_a_secret_is_asked_for_without_showing_it(terminal, read):
    command = terminal("secret", "create", "s3", "key=-")
    command.wait_for("key:")
    command.type("hunter2\n")
    assert command.end() == 0
    assert "hunter2" not in command.shown
    assert read("secret", "get", "s3", "--show-values")["values"] == {"key": "hunter2"}


def test_waiting_is_shown_and_can_be_cancelled(terminal, memory, read):
    hanging = ("--model-uri", "any", "--model-name", "iris", "-c", "behaviour=hang")
    command = terminal("model-deployer", "models", "deploy", *hanging)
    command.wait_for("waiting for iris: loading for ever")
    command.process.send_signal(signal.SIGINT)
    assert command.end() == 130
    assert plain(command.shown).rstrip().endswith("Cancelled.")
    assert "Traceback" not in command.shown
    (service,) = Client().servers.find(refresh=False)
    assert service.status.message == "Its start was cancelled."


def test_an_error_is_coloured_and_has_its_hint_below(terminal, home):
    command = terminal("stack", "set", "nowhere")
    assert command.end() == 1
    assert plain(command.shown).splitlines() == [
        "Error: There is no stack 'nowhere'.",
        "Hint: See what there is: stackkit stack list.",
    ]
    assert "\x1b[31m" in command.shown


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_an_error_is_plain_where_no_colour_is_wanted(terminal, home, variable, value):
    command = terminal("stack", "set", "nowhere", **{variable: value})
    assert command.end() == 1
    assert "\x1b" not in command.shown
    assert "Hint: " in command.shown


def test_predict_does_not_wait_for_data_that_nobody_types(terminal, deploy):
    command = terminal("model-deployer", "models", "predict", deploy())
    assert command.end() == 2
    assert "--data" in command.shown
