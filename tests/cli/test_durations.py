"""Lengths of time on the command line."""

from __future__ import annotations

from datetime import timedelta

import click
import pytest

from stackkit.cli.durations import Duration, Seconds


def test_seconds_have_an_end() -> None:
    assert Seconds(min=0).convert("1.5", None, None) == 1.5
    for text in ("nan", "inf", "-1", "soon"):
        with pytest.raises(click.BadParameter):
            Seconds(min=0).convert(text, None, None)


def test_a_duration_is_a_number_with_a_unit() -> None:
    assert Duration().convert("90m", None, None) == timedelta(minutes=90)
    for text, words in (("90", "no duration"), ("2w", "no duration"), ("99999999999d", "longer than")):
        with pytest.raises(click.BadParameter, match=words):
            Duration().convert(text, None, None)
