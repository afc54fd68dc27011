from __future__ import annotations

import pytest


def test_values_are_shown_only_when_asked_for(ok, read):
    result = ok("secret", "create", "s3", "key=hunter2", "user=me")
    assert "hunter2" not in result.output
    assert read("secret", "get", "s3")["values"] == {"key": "********", "user": "********"}
    assert "hunter2" not in ok("secret", "get", "s3").output
    assert read("secret", "get", "s3", "--show-values")["values"] == {"key": "hunter2", "user": "me"}


def test_list_has_no_values(ok, read):
    ok("secret", "create", "s3", "key=hunter2", "user=me")
    rows = read("secret", "list")
    assert [(row["name"], row["keys"]) for row in rows] == [("s3", ["key", "user"])]
    assert "hunter2" not in str(rows)


def test_a_value_from_standard_input(ok, read):
    ok("secret", "create", "s3", "key=-", stdin="hunter2\n")
    assert read("secret", "get", "s3", "--show-values")["values"] == {"key": "hunter2"}


def test_a_value_from_a_file(ok, read, tmp_path):
    (tmp_path / "key").write_text("line\nline\n")
    ok("secret", "create", "s3", f"key=@{tmp_path / 'key'}")
    assert read("secret", "get", "s3", "--show-values")["values"] == {"key": "line\nline\n"}


def test_update_and_remove(ok, read):
    ok("secret", "create", "s3", "key=hunter2", "user=me")
    ok("secret", "update", "s3", "key=new", "--remove", "user")
    assert read("secret", "get", "s3", "--show-values")["values"] == {"key": "new"}


def test_delete(ok, read):
    ok("secret", "create", "s3", "key=hunter2")
    ok("secret", "delete", "s3")
    assert read("secret", "list") == []


@pytest.mark.parametrize(
    "args",
    [
        ("create", "s3"),
        ("create", "s3", "hunter2"),
        ("create", "s3", "a=-", "b=-"),
        ("create", "s3", "a=@/no/such/file"),
        ("update", "s3"),
    ],
    ids=" ".join,
)
def test_wrong_usage_repeats_no_value(run, args):
    result = run("secret", *args)
    assert result.exit_code == 2
    assert "hunter2" not in result.output


def test_a_secret_that_is_not_there(fails):
    message, hint = fails("secret", "get", "s3")
    assert message == "There is no secret 's3'."
    assert "stackkit secret list" in hint


def test_a_secret_that_is_used_cannot_be_deleted(ok, fails):
    ok("secret", "create", "place", "folder=/tmp/x")
    ok("model-deployer", "register", "one", "--flavor=local", "--folder={{place.folder}}")
    message, _ = fails("secret", "delete", "place")
    assert "'one'" in message
