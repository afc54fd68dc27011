from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta, timezone

import pytest
import yaml

from stackkit.cli.output import Column, Section, as_text, columns_of, print_details, print_list

NOON = datetime(2026, 3, 1, 14, 0, 5, tzinfo=timezone(timedelta(hours=2)))
ROWS = [
    {"name": "a", "running": True, "at": NOON, "config": {"x": [1]}, "note": None},
    {"name": "a name, with more", "running": False, "at": None, "config": {}, "note": "first\nsecond"},
]
FIELDS = tuple(ROWS[0])


def listed(capsys: pytest.CaptureFixture[str], output: str, rows=ROWS) -> str:
    print_list(rows, output, columns=columns_of("name", "at", "note"), fields=FIELDS, empty="Make one.")
    return capsys.readouterr().out


def test_json_has_every_field_and_times_in_utc(capsys):
    rows = json.loads(listed(capsys, "json"))
    assert [tuple(row) for row in rows] == [FIELDS, FIELDS]
    assert rows[0] == {
        "name": "a",
        "running": True,
        "at": "2026-03-01T12:00:05+00:00",
        "config": {"x": [1]},
        "note": None,
    }


def test_yaml_says_the_same_as_json(capsys):
    assert yaml.safe_load(listed(capsys, "yaml")) == json.loads(listed(capsys, "json"))


def test_csv_has_a_header_and_a_line_for_each_row(capsys):
    rows = list(csv.DictReader(io.StringIO(listed(capsys, "csv"))))
    assert [tuple(row) for row in rows] == [FIELDS, FIELDS]
    assert rows[0] == {
        "name": "a",
        "running": "true",
        "at": "2026-03-01T12:00:05+00:00",
        "config": '{"x": [1]}',
        "note": "",
    }
    assert rows[1]["note"] == "first\nsecond"


def test_a_plain_table_is_aligned_and_cuts_nothing(capsys):
    assert listed(capsys, "table").splitlines() == [
        "NAME               AT                       NOTE",
        "a                  2026-03-01 12:00:05 UTC  -",
        "a name, with more  -                        first second",
    ]


def test_wide_characters_take_two_cells(capsys):
    rows = [{"mark": "✅", "name": "a"}, {"mark": "ab", "name": "b"}]
    print_list(rows, "table", columns=[Column("mark", "M"), Column("name")], fields=("mark", "name"), empty="")
    assert capsys.readouterr().out.splitlines() == ["M   NAME", "✅  a", "ab  b"]


@pytest.mark.parametrize(
    ("output", "shown"), [("table", ""), ("json", "[]\n"), ("yaml", "[]\n"), ("csv", "name,running,at,config,note\n")]
)
def test_nothing_to_list(capsys, output, shown):
    print_list([], output, columns=columns_of("name"), fields=FIELDS, empty="Make one.")
    captured = capsys.readouterr()
    assert captured.out == shown
    assert captured.err == ("Make one.\n" if output == "table" else "")


def test_details_are_properties_and_the_sections_that_have_rows(capsys):
    sections = [Section("History", columns_of("at"), [{"at": NOON}]), Section("Nothing", columns_of("at"), [])]
    print_details({"name": "a"}, "table", properties={"NAME": "a", "X": None}, sections=sections)
    assert capsys.readouterr().out.splitlines() == [
        "PROPERTY  VALUE",
        "NAME      a",
        "X         -",
        "",
        "History",
        "AT",
        "2026-03-01 12:00:05 UTC",
    ]


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_details_for_programs_are_the_values_alone(capsys, output):
    print_details({"name": "a", "n": 1}, output, properties={"OTHER": 2})
    assert yaml.safe_load(capsys.readouterr().out) == {"name": "a", "n": 1}


def test_details_as_csv_are_one_line(capsys):
    print_details({"name": "a", "n": 1}, "csv")
    assert capsys.readouterr().out == "name,n\na,1\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        (True, "yes"),
        (0, "0"),
        (["a", None], "a, -"),
        ({"a": "ü"}, '{"a": "ü"}'),
        ({"a": 0, "b": None}, '{"a": 0, "b": null}'),
        ({"a": None, "b": {}, "c": []}, "-"),
        (60.0, "60"),
        (0.5, "0.5"),
        (float("nan"), "nan"),
        ("\x1b[31mred\x9b", "�[31mred�"),
        ({"a": "\x9b31mred"}, '{"a": "�31mred"}'),
    ],
)
def test_text_of_a_value(value, text):
    assert as_text(value) == text
