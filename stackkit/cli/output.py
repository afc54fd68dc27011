"""Printing data on stdout: as a table for people, or as JSON, YAML or CSV for programs."""

from __future__ import annotations

import csv
import io
import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from .text import printable

if TYPE_CHECKING:
    from rich.console import Console

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "yaml", "csv"]),
    default="table",
    show_default=True,
    help="How to print the data.",
)

_NEVER_FOLDED = ("id", "uuid", "state", "prediction_url", "name", "model_name", "field")
"""What people copy from a table: half of a name or a URL on each of two lines is of no use."""

_NARROWEST = 16
"""To how many cells a terminal's table may fold its other columns before it becomes one card a row."""


def as_text(value: Any) -> str:
    """A value as a table shows it."""
    if value is None or value == "" or value == {} or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"  # 60 and 60.0 are one setting
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if isinstance(value, dict):
        return printable(json.dumps(value, default=_jsonable, ensure_ascii=False)) if without_blanks(value) else "-"
    if isinstance(value, list):
        return ", ".join(as_text(item) for item in value)
    return printable(str(value))


def without_blanks(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that hold something; what they hold is left as it is."""
    return {name: value for name, value in fields.items() if value is not None and value not in ({}, [])}


@dataclass(frozen=True)
class Column:
    """A column of a table: the field it shows, what stands above it, and how its values are written."""

    field: str
    header: str = ""
    text: Callable[[Any], str] = as_text

    @property
    def title(self) -> str:
        return self.header or self.field.upper()


@dataclass(frozen=True)
class Section:
    """A table that follows the properties in a description."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]


def columns_of(*fields: str) -> list[Column]:
    """A column for each field, named as the field is."""
    return [Column(field) for field in fields]


def print_list(
    rows: Iterable[Mapping[str, Any]], output: str, *, columns: Sequence[Column], fields: Sequence[str], empty: str
) -> None:
    """Print rows: ``columns`` of them as a table, or all ``fields`` in the other formats.

    For an empty table ``empty``, which says what to do next, goes to stderr.
    """
    found = [{field: row[field] for field in fields} for row in rows]
    if output == "csv":
        _print_csv(found, fields)
    elif output != "table":
        _print_document(found, output)
    elif found:
        _print_table(columns, found)
    else:
        click.echo(empty, err=True)


def print_details(
    values: Mapping[str, Any],
    output: str,
    *,
    properties: Mapping[str, Any] | None = None,
    sections: Sequence[Section] = (),
) -> None:
    """Print one thing: ``values`` in full, or as a table of its ``properties`` (by default the values themselves)
    followed by the ``sections`` that are not empty.
    """
    if output == "csv":
        _print_csv([values], list(values))
    elif output != "table":
        _print_document(values, output)
    else:
        shown = properties if properties is not None else {field.upper(): value for field, value in values.items()}
        pairs = [{"property": name, "value": value} for name, value in shown.items()]
        _print_table(columns_of("property", "value"), pairs)
        for section in sections:
            if section.rows:
                click.echo(f"\n{section.title}")
                _print_table(section.columns, section.rows)


def _print_document(data: Any, output: str) -> None:
    text = json.dumps(data, default=_jsonable, indent=2, ensure_ascii=False)
    if output == "yaml":
        import yaml

        text = yaml.safe_dump(json.loads(text), sort_keys=False, allow_unicode=True).rstrip("\n")
    click.echo(text)


def _print_csv(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    writer.writerows([_csv_value(row[field]) for field in fields] for row in rows)
    click.echo(text.getvalue(), nl=False)


def _csv_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return _jsonable(value)
    if isinstance(value, dict | list | bool):
        return json.dumps(value, default=_jsonable, ensure_ascii=False)
    return value


def _jsonable(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value)


def _print_table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> None:
    cells = [[column.text(row[column.field]) for column in columns] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, cells)
    else:
        _print_plain([[column.title for column in columns], *cells])


def _print_rich(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    """As a table where that can be read on a terminal of this width, or else one card a row, as psql does it."""
    from rich.console import Console

    console = Console()
    titles = [column.title for column in columns]
    if not _fits(columns, titles, cells, console.width):
        titles = [title.replace("_", "_\n") for title in titles]
        if not _fits(columns, titles, cells, console.width, narrowest=_NARROWEST):
            _print_cards([column.title for column in columns], cells, console)
            return
    _print_framed(columns, titles, cells, console)


def _fits(
    columns: Sequence[Column],
    titles: Sequence[str],
    cells: Sequence[Sequence[str]],
    width: int,
    *,
    narrowest: int | None = None,
) -> bool:
    """Whether a table has room in ``width`` cells, where no column is folded to fewer than ``narrowest``."""
    needed = 2 * len(columns)  # the spaces around and between them
    for column, texts in zip(columns, zip(titles, *cells, strict=True), strict=True):
        widest = max(_width(line) for text in texts for line in text.split("\n"))
        needed += widest if narrowest is None or column.field in _NEVER_FOLDED else min(widest, narrowest)
    return needed <= width


def _print_framed(
    columns: Sequence[Column], titles: Sequence[str], cells: Sequence[Sequence[str]], console: Console
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, collapse_padding=True)
    for column, title in zip(columns, titles, strict=True):
        table.add_column(Text(title), overflow="fold", no_wrap=column.field in _NEVER_FOLDED)
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    console.print(table)


def _print_cards(titles: Sequence[str], cells: Sequence[Sequence[str]], console: Console) -> None:
    """Every value whole: what is longer than a line is left to the terminal, which copies it as one."""
    from rich.text import Text

    room = max(map(len, titles)) + 2
    for line in cells:
        console.print()
        for title, cell in zip(titles, line, strict=True):
            value = cell.replace("\n", "\n" + " " * room)
            console.print(Text.assemble((title.ljust(room), "bold"), value), soft_wrap=True)
    console.print()


def _print_plain(lines: Sequence[Sequence[str]]) -> None:
    """Aligned, and every value whole and on its row's line, for scripts to read."""
    flat = [[" ".join(cell.split("\n")) for cell in line] for line in lines]
    widths = [max(map(_width, column)) for column in zip(*flat, strict=True)]
    for line in flat:
        padded = [cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)]
        click.echo("  ".join(padded).rstrip())


def _width(text: str) -> int:
    """How many cells a terminal gives to ``text``."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
