"""The root command, and how whatever goes wrong is told: one line, a hint, and an exit code."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from typing import Any, NoReturn

import click

from .. import __version__
from ..errors import StackkitError
from .groups import Group
from .text import printable

EXIT_FAILED = 1
EXIT_CANCELLED = 130

_COMMANDS = {
    "model-deployer": ("stackkit.cli.model_deployers:model_deployer", "Deploy models, and manage their servers."),
    "stack": ("stackkit.cli.stacks:stack", "Combine components into stacks, and choose the active one."),
    "artifact-store": ("stackkit.cli.components:artifact_store", "Say where pipelines keep their artifacts."),
    "orchestrator": ("stackkit.cli.components:orchestrator", "Say what runs pipelines."),
    "secret": ("stackkit.cli.secrets:secret", "Keep passwords and keys encrypted."),
    "pipeline": ("stackkit.cli.runs:pipeline", "Look at pipeline runs."),
    "db": ("stackkit.cli.database:db", "Look at the database's schema, and upgrade it."),
    "model": ("stackkit.cli.model:model", "Make ready what a model needs to be served."),
    "environment": ("stackkit.cli.environment:environment", "Look at the models' own Python environments."),
    "serve": ("stackkit.cli.serve:serve", "Serve a model in the foreground, until Ctrl-C."),
    "predict": ("stackkit.cli.predict:predict", "Predict for every row of a file."),
    "status": ("stackkit.cli.status:status", "Show what stackkit uses here, and how many servers are running where."),
}


class RootGroup(Group):
    """Turns every error that leaves a command into a line on stderr and an exit code; a traceback needs --debug."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (KeyboardInterrupt, click.Abort):
            click.echo("Cancelled.", err=True)
            ctx.exit(EXIT_CANCELLED)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # whoever read our output has gone: click ends quietly
            if ctx.params["debug"]:
                click.echo(traceback.format_exc(), err=True, nl=False)
            _fail(ctx, error)


def _fail(ctx: click.Context, error: Exception) -> NoReturn:
    if isinstance(error, StackkitError):
        message, hint = error.message, error.hint
    else:
        # only the first line: those that follow may hold data, such as a statement's parameters
        first = next(iter(str(error).splitlines()), "")
        told = f"{type(error).__name__}: {first}" if first else type(error).__name__
        message, hint = f"unexpected {told}; run it again as 'stackkit --debug …' to see where.", None
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {printable(message)}", err=True)
    if hint:
        click.secho(f"Hint: {printable(hint)}", fg="cyan", err=True)
    ctx.exit(EXIT_FAILED)


@click.group(cls=RootGroup, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stackkit")
@click.option("--debug", is_flag=True, envvar="STACKKIT_DEBUG", show_envvar=True, help="Show tracebacks.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Deploy models, and know what is running where.

    Begin with a model deployer on this machine:

    \b
      stackkit model-deployer register local --flavor=local
      stackkit model-deployer models deploy --model-uri model.joblib --model-name iris
      stackkit model-deployer models list
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False  # click itself asks neither


def main() -> None:
    """The entry point: run the command that ``sys.argv`` names, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a mark that a terminal cannot show must not end a command
    cli(prog_name="stackkit")
