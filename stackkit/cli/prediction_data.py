"""What goes into a prediction request, and what comes out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click


def read_data(text: str | None, file: Path | None) -> Any:
    """The data of a request: JSON text, a .json or .csv file, or JSON on standard input.

    Raises click.UsageError when both or neither are given, and for what is not in its format.
    """
    if text is not None and file is not None:
        raise click.UsageError("Give --data or --input, not both.")
    if text is not None:
        return _parse(text, "--data")
    if file is None:
        if sys.stdin.isatty():
            raise click.UsageError("Give the data with --data or --input, or pipe it in.")
        return _parse(sys.stdin.read(), "standard input")
    if file.suffix.lower() == ".json":
        return _parse(_read(file), str(file))
    if file.suffix.lower() == ".csv":
        return _read_csv(file)
    raise click.UsageError(f"{file} is neither a .json nor a .csv file.")


def print_predictions(predictions: Any) -> None:
    """Print predictions on stdout as one line of JSON."""
    click.echo(json.dumps(predictions, default=_plain, ensure_ascii=False))


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"What {where} holds is no JSON: {error}.") from None


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file} cannot be read: {error}.") from None


def _read_csv(file: Path) -> Any:
    import pandas as pd

    try:
        return pd.read_csv(file)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise click.UsageError(f"{file} cannot be read as CSV: {error}.") from None


def _plain(value: Any) -> Any:
    """A flavor's own ``do_predict`` may give arrays, frames or numbers of numpy."""
    if tolist := getattr(value, "tolist", None):
        return tolist()
    if to_dict := getattr(value, "to_dict", None):
        return to_dict(orient="records")
    raise click.ClickException(f"The predictions hold a {type(value).__name__}, which cannot be printed as JSON.")
