from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner
from pydantic import Field, SecretStr

from stackkit.cli.attributes import AttributeCommand, key_values, typed
from stackkit.stack.configs import Config


class Probe(Config):
    path: str = "/ping"
    seconds: int = 1


class Sample(Config):
    host: str = ""
    workers: int = 1
    token: SecretStr | None = None
    names: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    probe: Probe | None = None
    local: bool = False


def split(*args: str) -> Any:
    """What a command with one argument, an option and a flag makes of its line."""
    seen: dict[str, Any] = {}

    @click.command(cls=AttributeCommand)
    @click.argument("name")
    @click.option("-f", "--flavor")
    @click.option("--yes", is_flag=True)
    def command(**given: Any) -> None:
        seen.update(given)

    result = CliRunner().invoke(command, args)
    return seen if result.exit_code == 0 else result


@pytest.mark.parametrize(
    "args",
    [
        ("x", "--flavor=f", "--port=80", "--log-level=info"),
        ("--port", "80", "x", "--log-level", "info", "-f", "f"),
        ("--log-level=info", "--flavor", "f", "--port=80", "x"),
        ("--flavor", "f", "--port=80", "--log_level=info", "--", "x"),
    ],
)
def test_unknown_options_are_attributes_wherever_they_stand(args):
    assert split(*args) == {
        "name": "x",
        "flavor": "f",
        "yes": False,
        "attributes": {"port": "80", "log_level": "info"},
    }


def test_a_flag_takes_no_value():
    assert split("--yes", "x", "--a", "-1")["attributes"] == {"a": "-1"}


@pytest.mark.parametrize(
    ("word", "attributes"),
    [
        ("--a=", {"a": ""}),
        ("--a=b=c", {"a": "b=c"}),
        ("--my-env.MY-NAME=1", {"my_env.MY-NAME": "1"}),
    ],
)
def test_names_and_values_of_attributes(word, attributes):
    assert split("x", word)["attributes"] == attributes


@pytest.mark.parametrize("args", [("--a-b=1", "--a_b=2"), ("--a-b", "1", "--a-b"), ("--e.N=1", "--e.N=2")])
def test_an_attribute_that_is_given_twice_is_wrong_usage(args):
    result = split("x", *args)
    assert result.exit_code == 2
    assert f"{args[-1].partition('=')[0]} is given twice." in result.stderr


@pytest.mark.parametrize("args", [("x", "--local"), ("x", "--local", "--yes")])
def test_an_option_that_stands_alone_is_a_switch(args):
    assert split(*args)["attributes"] == {"local": None}
    assert typed(Sample, {"local": None}) == {"local": True}


@pytest.mark.parametrize("name", ["host", "env.A", "probe.seconds"])
def test_an_attribute_without_a_value_is_wrong_usage(name):
    with pytest.raises(click.UsageError, match=f"--{name}=VALUE"):
        typed(Sample, {name: None})


def test_values_are_read_by_the_type_of_their_field():
    values = typed(Sample, {"host": "1", "workers": "2", "names": '["a"]', "env": '{"A": "1"}', "token": "123"})
    assert values == {"host": "1", "workers": 2, "names": ["a"], "env": {"A": "1"}, "token": "123"}


def test_a_dotted_name_fills_one_key():
    values = typed(Sample, {"env.A.B": "1", "env.C": "2", "probe.seconds": "3"})
    assert values == {"env": {"A.B": "1", "C": "2"}, "probe": {"seconds": 3}}


def test_a_dotted_name_leaves_the_other_keys():
    assert typed(Sample, {"env.A": "1"}, {"env": {"A": "0", "B": "2"}}) == {"env": {"A": "1", "B": "2"}}


def test_a_dotted_name_beside_the_whole_field():
    assert typed(Sample, {"env": '{"B": "2"}', "env.A": "1"}) == {"env": {"A": "1", "B": "2"}}


def test_an_unknown_field_is_left_for_the_validation():
    assert typed(Sample, {"hots": "1", "hots2.x": "1"}) == {"hots": "1", "hots2": {"x": "1"}}


@pytest.mark.parametrize("given", [("hunter2",), ("=hunter2",), ("a=hunter2", "a=hunter2")])
def test_key_values_that_are_none_are_refused_without_repeating_them(given):
    with pytest.raises(click.BadParameter) as caught:
        key_values(click.Context(click.Command("x")), click.Argument(["values"]), given)
    assert "hunter2" not in caught.value.message
