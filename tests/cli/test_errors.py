"""Every mistake that is easily made ends with one clear line and what mends it."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from stackkit import Client

DEPLOYER = "model-deployer"
DEPLOY = (DEPLOYER, "models", "deploy", "--model-name", "iris", "--model-uri")


def test_unknown_flavor(fails):
    message, hint = fails(DEPLOYER, "register", "one", "--flavor=locla")
    assert message == "There is no model deployer flavor 'locla' here."
    assert hint == "Did you mean 'local'?"


def test_unknown_attribute(fails):
    message, hint = fails(DEPLOYER, "register", "one", "--flavor=local", "--foldr=hunter2")
    assert message == "'foldr' is no field of the local model deployer."
    assert hint == "Did you mean 'folder'?"


def test_missing_model(ok, fails, read, tmp_path):
    ok(DEPLOYER, "register", "local", "--flavor=local")
    message, hint = fails(*DEPLOY, str(tmp_path / "gone.joblib"))
    assert message == f"There is no model at {tmp_path / 'gone.joblib'}."
    assert hint
    assert read(DEPLOYER, "models", "list") == []


def test_a_folder_that_is_no_model(ok, fails, read, tmp_path):
    ok(DEPLOYER, "register", "local", "--flavor=local")
    (tmp_path / "notes.txt").write_text("no model")
    message, hint = fails(*DEPLOY, str(tmp_path))
    assert "is no model" in message
    assert hint
    assert read(DEPLOYER, "models", "list") == []


def test_name_taken(ok, fails):
    ok(DEPLOYER, "register", "local", "--flavor=local")
    message, hint = fails(DEPLOYER, "register", "local", "--flavor=local")
    assert message == "There is a model deployer 'local' already."
    assert "stackkit model-deployer update local" in hint


def test_deleting_a_deployer_that_has_servers(fails, deploy):
    deploy()
    message, hint = fails(DEPLOYER, "delete", "here")
    assert message.startswith("The model deployer 'here' still has ")
    assert "stackkit model-deployer models list --deployer here" in hint


@pytest.mark.parametrize("command", ["describe", "get-url", "start", "stop", "delete", "logs"])
def test_unknown_uuid(fails, command):
    message, hint = fails(DEPLOYER, "models", command, "4d1c8ecc-0000-4000-8000-000000000000")
    assert message == "There is no model server '4d1c8ecc-0000-4000-8000-000000000000'."
    assert "stackkit model-deployer models list" in hint


def test_ambiguous_prefix(fails, deploy):
    first_digits: dict[str, str] = {}
    for number in range(17):  # two of seventeen begin with the same one of sixteen digits
        uuid = deploy(f"model-{number}")
        if other := first_digits.get(uuid[0]):
            break
        first_digits[uuid[0]] = uuid
    message, hint = fails(DEPLOYER, "models", "describe", uuid[0])
    assert message.startswith(f"'{uuid[0]}' fits 2 model servers: ")
    assert uuid in message
    assert other in message
    assert hint == "Give more of the UUID."


def test_ambiguous_name(fails, deploy):
    deploy("iris", "--pipeline-name", "a")
    deploy("iris", "--pipeline-name", "b")
    message, _ = fails(DEPLOYER, "models", "stop", "iris")
    assert message.startswith("'iris' fits 2 model servers: ")


NOWHERE = "postgresql+psycopg://me:hunter2@127.0.0.1:1/stackkit"


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("sqlite:////no/such/folder/at-all.db", ("status",)),
        ("sqlite:////no/such/folder/at-all.db", ("db", "upgrade")),
        (NOWHERE, ("status",)),
        (NOWHERE, ("db", "current")),
        (NOWHERE, ("db", "upgrade")),
    ],
)
def test_a_database_that_cannot_be_reached(fails, monkeypatch, url, command):
    monkeypatch.setenv("STACKKIT_DATABASE_URL", url)
    message, hint = fails(*command)
    assert "cannot be used" in message
    assert "hunter2" not in f"{message}{hint}"
    assert "STACKKIT_DATABASE_URL" in hint


def test_what_is_no_database_url(fails, monkeypatch):
    monkeypatch.setenv("STACKKIT_DATABASE_URL", "hunter2")
    message, hint = fails("status")
    assert message == "STACKKIT_DATABASE_URL is no database URL."
    assert "postgresql+psycopg://" in hint


def test_a_newer_database(ok, fails, home):
    ok("stack", "list")
    Client().database.close()
    with contextlib.closing(sqlite3.connect(home / "stackkit.db")) as connection, connection:
        connection.execute("UPDATE stackkit_schema SET version_num = '9999'")
    fresh_database()
    message, hint = fails("stack", "list")
    assert message.startswith("The database has schema 9999, newer than this stackkit knows")
    assert "pip install --upgrade stackkit" in hint
    fails("db", "upgrade")


def test_a_damaged_home(ok, fails, home):
    ok("stack", "set", "default")
    (home / "config.json").write_text("{")
    message, hint = fails("stack", "get")
    assert str(home / "config.json") in message
    assert "stackkit stack set" in hint


def test_a_file_that_is_no_database(fails, home):
    home.mkdir()
    (home / "stackkit.db").write_text("this is no database, and long enough to be read as one " * 100)
    message, hint = fails("stack", "list")
    assert "is damaged or no database" in message
    assert hint


def test_a_home_that_cannot_be_made(fails, home):
    home.write_text("a file")
    message, hint = fails("stack", "list")
    assert message.startswith(f"The home folder {home} cannot be")
    assert "STACKKIT_HOME" in hint


def fresh_database() -> None:
    """Forget the database that this process has checked already, as a new process would."""
    from stackkit.store.database import _databases

    _databases.clear()
