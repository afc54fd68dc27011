from __future__ import annotations

import json

import pytest

DEPLOYER = "model-deployer"


def test_register_and_describe(ok, read):
    result = ok(DEPLOYER, "register", "one", "--flavor=local", "--folder", "/tmp/elsewhere")
    assert result.stdout == ""
    assert result.stderr == "Registered the model deployer 'one'.\n"
    described = read(DEPLOYER, "describe", "one")
    assert described["name"] == "one"
    assert described["flavor"] == "local"
    assert described["active"] is True
    assert described["config"] == {"folder": "/tmp/elsewhere"}


def test_without_a_name_the_active_one_is_meant(ok, read):
    ok(DEPLOYER, "register", "one", "--flavor=local")
    ok(DEPLOYER, "register", "two", "--flavor=local")
    assert ok(DEPLOYER, "get").stdout == "one\n"
    assert read(DEPLOYER, "describe")["name"] == "one"


@pytest.mark.parametrize("command", ["get", "describe"])
def test_no_active_deployer(fails, command):
    message, hint = fails(DEPLOYER, command)
    assert message == "The active stack 'default' has no model deployer."
    assert "stackkit model-deployer register" in hint


def test_list_marks_the_active_one(ok, read):
    ok(DEPLOYER, "register", "one", "--flavor=local")
    ok(DEPLOYER, "register", "two", "--flavor=local")
    assert [(row["name"], row["active"]) for row in read(DEPLOYER, "list")] == [("one", True), ("two", False)]
    header, one, two = ok(DEPLOYER, "list").stdout.splitlines()
    assert header.split() == ["ACTIVE", "NAME", "ID", "FLAVOR", "CONFIG"]
    assert one.startswith("➜")
    assert not two.startswith("➜")


def test_an_empty_list_says_what_to_do(ok):
    result = ok(DEPLOYER, "list")
    assert result.stdout == ""
    assert "stackkit model-deployer register" in result.stderr


def test_update_and_unset(ok, read):
    ok(DEPLOYER, "register", "one", "--flavor=local")
    ok(DEPLOYER, "update", "one", "--folder=/tmp/a")
    assert read(DEPLOYER, "describe", "one")["config"] == {"folder": "/tmp/a"}
    ok(DEPLOYER, "update", "one", "--folder=")
    assert read(DEPLOYER, "describe", "one")["config"] == {"folder": None}


def test_update_of_what_is_no_attribute(ok, fails):
    ok(DEPLOYER, "register", "one", "--flavor=local")
    message, hint = fails(DEPLOYER, "update", "one", "--foldr=/tmp/a")
    assert message == "'foldr' is no field of the local model deployer."
    assert hint == "Did you mean 'folder'?"


def test_update_of_nothing_is_wrong_usage(ok, run):
    ok(DEPLOYER, "register", "one", "--flavor=local")
    assert run(DEPLOYER, "update", "one").exit_code == 2


def test_rename_copy_delete(ok, read):
    ok(DEPLOYER, "register", "one", "--flavor=local", "--folder=/tmp/a")
    ok(DEPLOYER, "rename", "one", "uno")
    ok(DEPLOYER, "copy", "uno", "due")
    assert {row["name"]: row["config"] for row in read(DEPLOYER, "list")} == {
        "uno": {"folder": "/tmp/a"},
        "due": {"folder": "/tmp/a"},
    }
    ok(DEPLOYER, "delete", "uno")
    assert [row["name"] for row in read(DEPLOYER, "list")] == ["due"]


@pytest.mark.parametrize("kind", ["artifact-store", "orchestrator"])
def test_the_other_types(ok, read, kind):
    ok(kind, "register", "mine", "--flavor=local")
    assert [(row["name"], row["active"]) for row in read(kind, "list")] == [("default", True), ("mine", False)]
    assert read(kind, "describe")["name"] == "default"
    assert read(kind, "describe", "mine")["flavor"] == "local"
    assert ok(kind, "get").stdout == "default\n"
    ok(kind, "rename", "mine", "ours")
    ok(kind, "copy", "ours", "theirs")
    ok(kind, "delete", "ours")
    assert [row["name"] for row in read(kind, "list")] == ["default", "theirs"]


def test_a_hint_names_commands_that_the_type_has(ok, run, fails, read, tmp_path):
    store = ("artifact-store", "register", "disk", "--flavor=local", f"--path={tmp_path}/one")
    ok(*store)
    _, hint = fails(*store)
    command = hint.rpartition("stackkit ")[2].rstrip(".").split()
    ok(*command, f"--path={tmp_path}/two")
    assert read("artifact-store", "describe", "disk")["config"] == {"path": f"{tmp_path}/two"}


@pytest.mark.parametrize(
    ("kind", "option"), [("artifact-store", "path"), (DEPLOYER, "folder")], ids=["artifact-store", DEPLOYER]
)
def test_a_folder_is_the_one_that_was_meant_wherever_one_works_later(ok, read, monkeypatch, tmp_path, kind, option):
    monkeypatch.chdir(tmp_path)
    ok(kind, "register", "mine", "--flavor=local", f"--{option}=here/2026")
    monkeypatch.chdir("/")
    assert read(kind, "describe", "mine")["config"] == {option: f"{tmp_path}/here/2026"}


def test_help_of_register_lists_the_attributes_of_the_flavor(ok):
    shown = ok(DEPLOYER, "register", "--flavor=local", "--help").stdout
    assert "Attributes of local" in shown
    assert "--folder" in shown
    assert "--folder" not in ok(DEPLOYER, "register", "--help").stdout


def test_flavors(ok, read):
    installed = {row["name"] for row in read(DEPLOYER, "flavor", "list")}
    assert "local" in installed
    result = ok(DEPLOYER, "flavor", "register", "stackkit.model_deployers.memory.MemoryModelDeployerFlavor")
    assert "'memory'" in result.stderr
    assert {row["name"] for row in read(DEPLOYER, "flavor", "list")} == installed | {"memory"}
    ok(DEPLOYER, "flavor", "delete", "memory")
    assert {row["name"] for row in read(DEPLOYER, "flavor", "list")} == installed


@pytest.mark.parametrize("option", ["--workers=2", "--env.A=b"])
def test_a_field_of_the_servers_is_no_attribute_of_their_deployer(ok, fails, read, option):
    field = option[2:].partition("=")[0].partition(".")[0]
    message, hint = fails(DEPLOYER, "register", "one", "--flavor=local", option)
    assert message == f"{field!r} is no attribute of a local model deployer, but a field of each of its servers."
    assert f"models deploy … -c {field}=…" in hint
    assert read(DEPLOYER, "list") == []
    ok(DEPLOYER, "register", "one", "--flavor=local")
    assert fails(DEPLOYER, "update", "one", option)[0] == message


def test_description_of_a_flavor(memory, ok, read):
    described = read(DEPLOYER, "flavor", "describe", "memory")
    assert described["attributes"] == [
        {
            "name": "platform",
            "type": "text",
            "required": False,
            "default": "memory",
            "description": "The platform's name.",
        },
        {
            "name": "updates_in_place",
            "type": "bool",
            "required": False,
            "default": False,
            "description": "Whether a running server can go over to a new revision.",
        },
    ]
    fields = {field["name"]: field for field in described["service_fields"]}
    assert fields["model_name"]["required"] is True
    assert fields["replicas"]["default"] == 1
    assert fields["behaviour"]["type"] == "one of 'run', 'hang', 'fail', 'crash', 'never_stop'"
    assert fields["model_version"]["type"] == "text | none"
    shown = ok(DEPLOYER, "flavor", "describe", "memory").stdout.splitlines()
    assert ["FIELD", "TYPE", "REQUIRED", "DEFAULT", "DESCRIPTION"] in [line.split() for line in shown]


def test_formats_agree(ok, read):
    ok(DEPLOYER, "register", "one", "--flavor=local")
    as_json = read(DEPLOYER, "list")
    header, line = ok(DEPLOYER, "list", "-o", "csv").stdout.splitlines()
    assert header.split(",") == list(as_json[0])
    assert line.startswith("one,true,")
    assert json.dumps(as_json[0]["id"])[1:-1] in ok(DEPLOYER, "list", "-o", "yaml").stdout
