from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import stackkit
from stackkit import Client
from stackkit.cli.groups import Group
from stackkit.cli.main import cli

HEAVY = {
    "alembic",
    "cryptography",
    "fsspec",
    "importlib.metadata",
    "mlflow",
    "numpy",
    "pandas",
    "pydantic",
    "requests",
    "rich",
    "sqlalchemy",
    "yaml",
}


def modules_after(*args: str) -> set[str]:
    """The modules that are loaded once a command has run."""
    program = (
        "import sys\n"
        "from stackkit.cli.main import cli\n"
        "try:\n    cli(sys.argv[1:], prog_name='stackkit')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program, *args], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def all_commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from all_commands(command, (*path, name))


COMMANDS = dict(all_commands(cli))


def test_version(run):
    assert run("--version").stdout == f"stackkit, version {stackkit.__version__}\n"


@pytest.mark.parametrize(
    "args",
    [("--help",), ("--version",), ("model-deployer", "--help"), ("model-deployer", "models", "deploy", "--help")],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(args):
    assert modules_after(*args) & HEAVY == set()


def test_list_imports_only_what_it_needs(ok, home):
    ok("model-deployer", "register", "local", "--flavor=local")
    loaded = modules_after("model-deployer", "models", "list")
    assert "sqlalchemy" in loaded
    assert (
        loaded & {"alembic", "cryptography", "fsspec", "mlflow", "numpy", "pandas", "requests", "rich", "yaml"} == set()
    )


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_and_option_has_help(path):
    command = COMMANDS[path]
    assert command.help
    assert command.get_short_help_str(limit=100).endswith(".")
    assert not command.get_short_help_str(limit=100).endswith("...")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(run, path):
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: stackkit {' '.join(path)}")


def test_summaries_of_commands_that_are_not_loaded_are_theirs():
    for path, command in COMMANDS.items():
        parent = COMMANDS[path[:-1]] if len(path) > 1 else cli
        assert isinstance(parent, Group)
        shown = parent.get_help(click.Context(parent)).replace("\n", " ")
        assert command.get_short_help_str(limit=100) in " ".join(shown.split())


@pytest.mark.parametrize(
    ("args", "suggested"),
    [
        (("stak", "list"), "'stack'"),
        (("model-deployer", "modles", "list"), "'models'"),
        (("model-deployer", "models", "lst"), "'list'"),
        (("stack", "list", "--ouput=json"), "'--output'"),
    ],
)
def test_a_wrong_name_exits_with_2_and_suggests_the_right_one(run, args, suggested):
    result = run(*args)
    assert result.exit_code == 2
    assert suggested in result.stderr


def test_the_reference_names_only_commands_that_are_there():
    reference = Path(__file__).parents[2] / "docs" / "cli.md"
    lines = [
        line.split() for line in reference.read_text(encoding="utf-8").splitlines() if line.startswith("stackkit ")
    ]
    named = set()
    for words in lines:
        length = next((length for length in (5, 4, 3, 2) if tuple(words[1:length]) in COMMANDS), None)
        assert length is not None, words
        named.add(tuple(words[1:length]))
    assert len(named) > 25
    assert not [path for path in named if isinstance(COMMANDS[path], click.Group)]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch):
    """Make ``stackkit stack get`` end with an exception."""

    def breaking(error: BaseException) -> None:
        def fail(client: Client) -> None:
            raise error

        monkeypatch.setattr(Client, "active_stack", property(fail))

    return breaking


def test_an_unexpected_error_is_one_line(run, broken):
    broken(RuntimeError("the sky fell\nparameters: hunter2"))
    result = run("stack", "get")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        "Error: unexpected RuntimeError: the sky fell; run it again as 'stackkit --debug …' to see where.\n"
    )


@pytest.mark.parametrize("by", ["option", "variable"])
def test_debug_shows_where(run, broken, monkeypatch, by):
    broken(RuntimeError("the sky fell"))
    if by == "variable":
        monkeypatch.setenv("STACKKIT_DEBUG", "1")
    result = run(*(["--debug"] if by == "option" else []), "stack", "get")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "raise error" in result.stderr


def test_an_error_cannot_steer_the_terminal(run, broken):
    broken(stackkit.errors.StackkitError("\x1b]0;pwned\x07 is wrong", "Write \x1b[2J"))
    assert "\x1b" not in run("stack", "get").stderr


def test_lines_of_a_message_are_kept(run, broken):
    broken(stackkit.errors.DeploymentError("It did not start.\nThe end of its log:\n  boom"))
    assert run("stack", "get").stderr == "Error: It did not start.\nThe end of its log:\n  boom\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()], ids=repr)
def test_cancelling_exits_with_130(run, broken, error):
    broken(error)
    result = run("stack", "get")
    assert result.exit_code == 130
    assert result.stderr == "Cancelled.\n"


@pytest.mark.parametrize("output", ["table", "json", "yaml", "csv"])
def test_a_reader_that_has_gone_is_no_error(home, stackkit_command, output):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*stackkit_command, "stack", "list", "-o", output],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert done.stderr == ""


def test_a_terminal_without_the_marks_is_no_error(deploy, stackkit_command):
    deploy()
    done = subprocess.run(
        [*stackkit_command, "model-deployer", "models", "list"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "iris" in done.stdout


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("stackkit mod", {"model", "model-deployer"}),
        ("stackkit model-deployer models get", {"get-url"}),
        ("stackkit model-deployer register one --port --fl", {"--flavor"}),
        ("stackkit stack list --output ", {"table", "json", "yaml", "csv"}),
    ],
)
def test_a_shell_can_complete(home, stackkit_command, line, completed):
    environment = {
        **os.environ,
        "_STACKKIT_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
    }
    done = subprocess.run(stackkit_command, env=environment, capture_output=True, text=True, check=True)
    assert {word.removeprefix("plain,") for word in done.stdout.split()} == completed
    assert done.stderr == ""
