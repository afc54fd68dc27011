from __future__ import annotations

import pytest

from stackkit.store.schema import HEAD


def test_current_of_nothing_changes_nothing(read, home):
    assert read("db", "current") == {
        "database": f"sqlite:///{home / 'stackkit.db'}",
        "revision": None,
        "newest": HEAD,
    }
    assert not home.exists()


def test_upgrade_makes_the_database_and_then_does_nothing(ok, read):
    result = ok("db", "upgrade")
    assert (result.stdout, result.stderr) == ("", f"Upgraded the schema: none → {HEAD}\n")
    assert read("db", "current")["revision"] == HEAD
    assert ok("db", "upgrade").stderr == f"The schema is {HEAD} already.\n"


def test_the_password_in_the_url_is_hidden(run, monkeypatch):
    monkeypatch.setenv("STACKKIT_DATABASE_URL", "postgresql+psycopg://me:hunter2@127.0.0.1:1/stackkit")
    result = run("db", "current")
    assert "me:***@" in result.output
    assert "hunter2" not in result.output


@pytest.mark.own_database
@pytest.mark.parametrize("database_url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
def test_an_empty_server_says_how_to_begin(settings, ok, fails):
    assert fails("stack", "list") == (
        "The database has no tables of stackkit's yet.",
        "Make them: stackkit db upgrade.",
    )
    ok("db", "upgrade")
    ok("stack", "list")
