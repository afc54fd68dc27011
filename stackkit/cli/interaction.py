"""What is said to a person on the terminal: questions, and what is being waited for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from .durations import Seconds
from .text import printable

yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
timeout_option = click.option(
    "--timeout",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="How long to wait.  [default: the flavor's]",
)


def note(text: str) -> None:
    """Say on stderr what was done: stdout is for data alone."""
    click.echo(printable(text), err=True)


def is_interactive() -> bool:
    """Whether there is a person to ask: one who types, and sees stderr, wherever stdout leads."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm_deletion(what: str, yes: bool) -> None:
    """Ask before ``what`` is deleted; exits with 1 when the answer is no. A no-op with --yes or without a terminal."""
    if yes or not is_interactive():
        return
    if not click.confirm(f"Delete {what}?", err=True):
        note("Nothing was deleted.")
        raise click.exceptions.Exit(1)


@contextmanager
def waiting(text: str) -> Iterator[Callable[[str], None]]:
    """Show ``text`` with a spinner while the block runs; gives what changes the text. Silent without a terminal."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.text import Text

    def shown(text: str) -> Text:
        return Text(f"{printable(text)} …")

    with Console(stderr=True).status(shown(text)) as status:
        yield lambda text: status.update(shown(text))
