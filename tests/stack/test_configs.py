"""Configurations: mistakes explained, secrets taken out and put back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator

from stackkit.errors import InvalidConfigError
from stackkit.stack import configs
from stackkit.stack.configs import Config, Folder


class Resources(BaseModel, extra="forbid"):
    cpu: float = 1
    memory: str = "1Gi"


class Login(BaseModel):
    user: str
    password: SecretStr


class Example(Config):
    host: str
    port: int = 80
    token: SecretStr | None = None
    env: dict[str, SecretStr] = Field(default_factory=dict)
    logins: list[Login] = Field(default_factory=list)
    resources: Resources = Resources()
    even: int = 0

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("it has to be even")
        return value


def wrong(**values: Any) -> InvalidConfigError:
    with pytest.raises(InvalidConfigError) as caught:
        configs.parse(Example, values, "the example deployer")
    assert "\n" not in caught.value.message
    return caught.value


def test_values_answer_as_attributes_and_by_key() -> None:
    config = configs.parse(Example, {"host": "h", "port": "8080"}, "the example")
    assert (config.port, config["port"]) == (8080, 8080)
    with pytest.raises(KeyError):
        config["model_fields"]


def test_an_unknown_field_and_the_nearest() -> None:
    error = wrong(host="h", prot=1)
    assert error.message == "'prot' is no field of the example deployer."
    assert error.hint == "Did you mean 'port'?"


def test_an_unknown_field_and_all_there_are() -> None:
    assert str(wrong(host="h", zzz=1).hint).startswith("Its fields: host, port, token")


def test_an_unknown_field_within_a_field() -> None:
    error = wrong(host="h", resources={"memroy": "2Gi"})
    assert error.message == "'resources.memroy' is no field of the example deployer."
    assert error.hint == "Did you mean 'resources.memory'?"


def test_a_missing_field() -> None:
    error = wrong()
    assert error.message == "The example deployer needs the field 'host'."
    assert error.hint == "Give it: host=…."


def test_an_ill_typed_field() -> None:
    assert wrong(host="h", port="many").message.startswith("The field 'port' of the example deployer is wrong: ")


def test_a_fields_own_check() -> None:
    assert wrong(host="h", even=3).message == "The field 'even' of the example deployer is wrong: it has to be even."


def test_all_mistakes_are_told_at_once() -> None:
    message = wrong(prot=1, port="many").message
    assert all(part in message for part in ("'prot' is no field", "needs the field 'host'", "'port' of"))


def test_a_mistake_shows_no_value() -> None:
    for values in (
        {"token": ["hunter2"]},
        {"port": "hunter2"},
        {"env": "hunter2"},
        {"logins": [{"password": "hunter2"}]},
    ):
        error = wrong(host="h", **values)
        assert "hunter2" not in str(error)
        assert error.__cause__ is None


class Typed(Config):
    name: str = ""
    maybe: str | None = None
    short: Annotated[str, Field(max_length=9)] | None = None
    token: SecretStr | None = None
    count: int = 0
    names: list[str] = Field(default_factory=list)
    mode: Literal["run", "stop"] = "run"
    file: Path | None = None
    folder: Folder | None = None


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("name", "8080", "8080"),
        ("name", "null", "null"),
        ("maybe", "[1]", "[1]"),
        ("short", "7", "7"),
        ("token", "123", "123"),
        ("count", "3", 3),
        ("count", "many", "many"),
        ("names", '["a"]', ["a"]),
        ("mode", "run", "run"),
        ("file", "2026", "2026"),
        ("folder", "2026", "2026"),
        ("unknown", "3", "3"),
    ],
)
def test_a_text_from_the_command_line(field: str, text: str, value: object) -> None:
    assert configs.parse_text(Typed, field, text) == value


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ("here", "{tmp_path}/here"),
        ("/there", "/there"),
        ("~/mine", "{tmp_path}/home/mine"),
        ("{{paths.one}}", "{{paths.one}}"),
    ],
)
def test_a_folder_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, folder: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert Typed(folder=given).folder == folder.replace("{tmp_path}", str(tmp_path))


SECRETS = {
    "host": "h",
    "token": "t0ken",
    "env": {"A": "in A", "a key/with: any.text ü": "odd", "X": "{{vault.x}}"},
    "logins": [{"user": "ann", "password": "pw of ann"}, {"user": "ben", "password": "pw of ben"}],
}


def test_secrets_are_taken_out_and_put_back() -> None:
    plain = configs.plain(configs.parse(Example, SECRETS, "the example"))
    found: dict[str, str] = {}
    stored = configs.conceal(plain, "private", found)
    text = json.dumps(stored)
    assert not any(value in text for value in found.values())
    assert sorted(found.values()) == ["in A", "odd", "pw of ann", "pw of ben", "t0ken"]
    assert stored["token"] == "{{private.token}}"
    assert stored["env"]["X"] == "{{vault.x}}"
    assert configs.references(stored) == {("vault", "x"), *(("private", key) for key in found)}

    def look_up(secret: str, key: str) -> str:
        return found[key] if secret == "private" else "from the vault"

    revealed = configs.reveal(stored, look_up)
    assert revealed == {
        **SECRETS,
        "env": {**SECRETS["env"], "X": "from the vault"},
        "port": 80,
        "even": 0,
        "resources": {"cpu": 1.0, "memory": "1Gi"},
    }


def test_keys_with_dots_do_not_collide() -> None:
    found: dict[str, str] = {}
    value = {"a": {"b": SecretStr("nested")}, "a.b": SecretStr("dotted"), "a%2Eb": SecretStr("quoted")}
    stored = configs.conceal(value, "private", found)
    assert configs.reveal(stored, lambda secret, key: found[key]) == {
        "a": {"b": "nested"},
        "a.b": "dotted",
        "a%2Eb": "quoted",
    }


def test_clear_and_repr() -> None:
    config = configs.parse(Example, SECRETS, "the example")
    clear = configs.clear(config)
    assert (clear["token"], clear["logins"][1]["password"]) == ("t0ken", "pw of ben")
    assert "t0ken" not in repr(config)
    assert "t0ken" not in str(configs.plain(config))


def test_what_may_be_shown() -> None:
    stored = {"a": f"{{{{{configs.PRIVATE}1-1.a}}}}", "b": ["{{ vault.key }}"], "c": "{{ a template }}", "d": 1}
    assert configs.masked_private(stored) == {
        "a": configs.MASK,
        "b": ["{{vault.key}}"],
        "c": "{{ a template }}",
        "d": 1,
    }
