"""Who is asked, and who is not."""

from __future__ import annotations

import io
import sys

import click
import pytest

from stackkit.cli.interaction import confirm_deletion, note, waiting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def sit_down(monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO) -> Terminal:
    """Have a person see stderr, whose stdout leads into a file."""
    seen = Terminal()
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", seen)
    return seen


def test_a_person_is_asked_wherever_stdout_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = sit_down(monkeypatch, Terminal("n\n"))
    with pytest.raises(click.exceptions.Exit):
        confirm_deletion("all of it", yes=False)
    assert "Delete all of it?" in seen.getvalue()


def test_yes_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = sit_down(monkeypatch, Terminal("n\n"))
    confirm_deletion("all of it", yes=True)
    assert seen.getvalue() == ""


def test_nobody_is_asked_where_nobody_types(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = sit_down(monkeypatch, io.StringIO("n\n"))
    confirm_deletion("all of it", yes=False)
    assert seen.getvalue() == ""


def test_no_name_and_no_platforms_words_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = sit_down(monkeypatch, Terminal())
    note("it is called \x1b]0;pwned\x07")
    with waiting("starting \x1b]0;pwned\x07") as progress:
        progress("waiting: \x1b]0;pwned\x07")
    assert "pwned" in seen.getvalue()
    assert "\x1b]0" not in seen.getvalue()
    assert "\x07" not in seen.getvalue()
