"""The files that are read and written: their formats, and the output that is whole or not there."""

from __future__ import annotations

import gzip
import stat
from pathlib import Path

import pytest

from stackkit.serving.batch.errors import BatchError
from stackkit.serving.batch.files import FileFormat, check, file_format, reading, replacing


class Stop(BaseException):
    pass


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rows.csv", FileFormat.CSV),
        ("rows.CSV.GZ", FileFormat.CSV),
        ("a.b.json", FileFormat.JSON),
        ("rows.jsonl", FileFormat.JSON_LINES),
        ("rows.ndjson.gz", FileFormat.JSON_LINES),
        ("rows.parquet", FileFormat.PARQUET),
    ],
)
def test_the_suffix_says_the_format(name: str, expected: FileFormat) -> None:
    assert file_format(Path(name)) is expected


@pytest.mark.parametrize("name", ["rows", "rows.txt", "rows.gz", "rows.parquet.gz", ".csv", "csv"])
def test_other_suffixes_are_refused(name: str) -> None:
    with pytest.raises(BatchError, match="no suffix that names its format"):
        file_format(Path(name))


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("before")
    target.chmod(0o640)
    with replacing(target) as file:
        file.write(b"after")
        assert target.read_text() == "before"
    assert target.read_text() == "after"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Stop])
@pytest.mark.parametrize("before", [None, "before"])
def test_a_file_that_is_not_finished_leaves_nothing(
    tmp_path: Path, error: type[BaseException], before: str | None
) -> None:
    target = tmp_path / "out.csv.gz"
    if before is not None:
        target.write_text(before)
    with pytest.raises(error), replacing(target) as file:
        file.write(b"half")
        raise error
    assert [each.read_text() for each in tmp_path.iterdir()] == ([] if before is None else [before])


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    link = tmp_path / "out.csv"
    link.symlink_to("data/real.csv")
    with replacing(link) as file:
        file.write(b"x")
    assert link.is_symlink()
    assert (tmp_path / "data" / "real.csv").read_bytes() == b"x"


def test_compressed_bytes_depend_on_the_content_alone(tmp_path: Path) -> None:
    written = []
    for name in ("one.csv.gz", "two.csv.gz"):
        with replacing(tmp_path / name) as file:
            file.write(b"a\n1\n")
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    assert gzip.decompress(written[0]) == b"a\n1\n"


def test_reading_tells_how_far_it_is(tmp_path: Path) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"a\n1\n"))
    with reading(tmp_path / "in.csv.gz") as (content, file):
        assert content.read() == b"a\n1\n"
        assert file.tell() == (tmp_path / "in.csv.gz").stat().st_size


def test_files_that_can_be_used_are_left_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("a\n1\n")
    check(source, target)
    target.write_text("before")
    check(source, target)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("a\n1\n")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "same.csv").symlink_to("in.csv")
    for given, target, message in [
        ("gone.csv", "out.csv", f"There is no file {tmp_path}/gone.csv."),
        ("folder.csv", "out.csv", f"{tmp_path}/folder.csv is a folder."),
        ("in.csv", "in.csv", f"{source} is both input and output."),
        ("in.csv", "same.csv", f"{tmp_path}/same.csv is both input and output."),
        ("in.csv", "folder.csv", f"{tmp_path}/folder.csv is there and is no file."),
        ("in.csv", "nowhere/out.csv", f"There is no folder {tmp_path}/nowhere."),
        ("in.csv", "in.csv/out.csv", f"There is no folder {source}."),
    ]:
        with pytest.raises(BatchError) as caught:
            check(tmp_path / given, tmp_path / target)
        assert caught.value.message == message
        assert caught.value.hint
