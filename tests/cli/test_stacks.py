from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def deployers(ok) -> None:
    ok("model-deployer", "register", "one", "--flavor=local")
    ok("model-deployer", "register", "two", "--flavor=local")


def test_register_takes_the_rest_from_the_default_stack(ok, read):
    ok("artifact-store", "register", "mine", "--flavor=local")
    ok("stack", "register", "s", "-d", "two", "-a", "mine")
    described = read("stack", "describe", "s")
    assert described["model_deployer"] == "two"
    assert described["artifact_store"] == "mine"
    assert described["orchestrator"] == "default"
    assert described["active"] is False


def test_set_and_get(ok, read):
    ok("stack", "register", "s", "--model-deployer", "two")
    assert ok("stack", "get").stdout == "default\n"
    ok("stack", "set", "s")
    assert ok("stack", "get").stdout == "s\n"
    assert ok("model-deployer", "get").stdout == "two\n"
    assert read("stack", "describe")["name"] == "s"
    assert {row["name"]: row["active"] for row in read("stack", "list")} == {"default": False, "s": True}


def test_register_can_set(ok):
    ok("stack", "register", "s", "-d", "two", "--set")
    assert ok("stack", "get").stdout == "s\n"


def test_set_tells_when_the_environment_overrules_it(ok, monkeypatch):
    ok("stack", "register", "s", "-d", "two")
    monkeypatch.setenv("STACKKIT_STACK", "default")
    assert "STACKKIT_STACK is set" in ok("stack", "set", "s").stderr


def test_update(ok, read):
    ok("stack", "register", "s", "-d", "one")
    ok("stack", "update", "s", "-d", "two", "--remove", "orchestrator")
    described = read("stack", "describe", "s")
    assert described["model_deployer"] == "two"
    assert described["orchestrator"] is None


@pytest.mark.parametrize(
    "args", [(), ("-d", "two", "--remove", "model-deployer"), ("--remove", "nothing")], ids=["none", "both", "unknown"]
)
def test_update_that_makes_no_sense_is_wrong_usage(ok, run, args):
    ok("stack", "register", "s", "-d", "one")
    assert run("stack", "update", "s", *args).exit_code == 2


def test_rename_and_delete(ok, read):
    ok("stack", "register", "s", "-d", "one")
    ok("stack", "rename", "s", "t")
    assert [row["name"] for row in read("stack", "list")] == ["default", "t"]
    ok("stack", "delete", "t")
    assert [row["name"] for row in read("stack", "list")] == ["default"]


def test_the_active_stack_cannot_be_deleted(ok, fails):
    ok("stack", "register", "s", "-d", "one", "--set")
    message, hint = fails("stack", "delete", "s")
    assert message == "The stack 's' is active."
    assert "stackkit stack set" in hint


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (("stack", "set", "nowhere"), "stackkit stack list"),
        (("stack", "register", "t", "-d", "nowhere"), "stackkit model-deployer list"),
        (("stack", "describe", "nowhere"), "stackkit stack list"),
    ],
    ids=["set", "register", "describe"],
)
def test_unknown_names(fails, args, hint):
    message, told = fails(*args)
    assert "'nowhere'" in message
    assert hint in told
