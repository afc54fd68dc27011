"""CSV cut into chunks: what pandas reads from the parts is what it reads from the whole."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackkit.serving.batch.csv_chunks import CsvChunk, chunks
from stackkit.serving.batch.errors import BatchError

VALUES = st.text(alphabet="ab1 ,\"\n\r'é\u2028", max_size=5)


def cut(content: bytes, size: int) -> list[CsvChunk]:
    return list(chunks(io.BytesIO(content), size))


def read(content: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content), dtype=object, keep_default_na=False)


def quoted(value: str, always: bool) -> str:
    doubled = value.replace('"', '""')
    return f'"{doubled}"' if always or set(value) & set(',"\r\n') else value


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=1, max_size=12),
    size=st.integers(1, 5),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    always=st.booleans(),
    blank=st.sampled_from(["", "\n", " \n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]),
)
def test_the_parts_are_the_whole(
    rows: list[list[str]], size: int, end: str, always: bool, blank: str, mark: str
) -> None:
    table = [["one", "the, second\n", '"three"'], *rows]
    lines = [",".join(quoted(value, always) for value in row) + end for row in table]
    content = (mark + blank.join(lines)).encode()
    found = cut(content, size)
    parts = [read(chunk.data.value) for chunk in found]
    assert [chunk.rows for chunk in found] == [len(part) for part in parts]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), read(content))
    assert len(found) > 1 or len(rows) <= size


def test_a_quote_inside_a_value_opens_nothing() -> None:
    found = cut(b'a,b\n5" pipe,1\n6,2\n7" pipe,3\n', 1)
    assert [chunk.rows for chunk in found] == [1, 1, 1]


def test_a_value_may_be_longer_than_the_readers_limit() -> None:
    csv.field_size_limit(10)
    (chunk,) = cut(b'a\n"xxxxxxxxxxxxxxx"\n', 9)
    assert chunk.rows == 1


def test_rows_are_found_in_their_lines() -> None:
    (chunk,) = cut(b'a,b\n\n1,"x\ny"\n\n2,z\n', 100)
    assert chunk.rows == 2
    assert str(chunk.place) == "lines 2 to 6"
    assert [chunk.place.of(row) for row in (0, 1)] == ["line 3", "line 6"]
    (plain,) = cut(b"\na\n\n1\n2\n", 100)
    assert [plain.place.of(row) for row in (0, 1)] == ["line 4", "line 5"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "The file is empty: expected a line of column names.", id="empty"),
        pytest.param(b"\n \n", "The file is empty: expected a line of column names.", id="blank"),
        pytest.param(b"a,b\n\n", "There are no rows below the line of column names.", id="header alone"),
        pytest.param(b"a,b\n1,2\n3,4\n5,6,7\n", "line 4: the row has 3 values, where 2 are expected.", id="too long"),
    ],
)
def test_what_cannot_be_cut(content: bytes, message: str) -> None:
    with pytest.raises(BatchError) as caught:
        cut(content, 2)
    assert caught.value.message == message


def test_labels_before_the_values_are_so_in_every_chunk() -> None:
    """One value more than names is a label to pandas."""
    labelled = b"a,b\nx,1,2\ny,3,4\n"
    assert [chunk.rows for chunk in cut(labelled, 1)] == [1, 1]
    with pytest.raises(BatchError, match="line 3: the row has 2 values, where 3 are expected"):
        cut(b"a,b\nx,1,2\n3,4\n", 1)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param(b"a,b\n1,2\n1,2,3\n", "line 3: the row has 3 values, where 2 are expected.", id="too long"),
        pytest.param(b"a,b\n1,2\n\n1,\xff\n", "line 4: it is not valid UTF-8.", id="no UTF-8"),
        pytest.param(b'a,b\n"1\n",2\n1,2,3\n', "line 4: the row has 3 values, where 2 are expected.", id="quoted"),
        pytest.param(b"a,b\n1,2\n", None, id="nothing"),
    ],
)
def test_the_row_that_cannot_be_read(content: bytes, found: str | None) -> None:
    (chunk,) = cut(content, 100)
    assert chunk.diagnose() == found
