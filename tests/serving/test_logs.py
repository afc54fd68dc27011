from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from stackkit.serving.logs import LogWriter, RotatingFile


def test_the_file_is_rotated_between_lines_and_old_pieces_go(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    file = RotatingFile(path, max_bytes=20, backups=2)
    for number in range(8):
        file.write(b"line %d....\n" % number)
    file.close()
    pieces = {each.name: each.read_text() for each in tmp_path.iterdir() if each.is_file()}
    assert pieces == {
        "server.log": "line 7....\n",
        "server.log.1": "line 6....\n",
        "server.log.2": "line 5....\n",
    }


def test_one_write_may_fill_several_pieces(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "log", max_bytes=4, backups=5)
    file.write(b"1\n2\n3\n4\n5\n")
    file.close()
    assert [(tmp_path / name).read_text() for name in ("log.2", "log.1", "log")] == ["1\n2\n", "3\n4\n", "5\n"]


def test_without_backups_the_file_begins_anew(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "log", max_bytes=3, backups=0)
    file.write(b"1\n2\n")
    file.close()
    assert (tmp_path / "log").read_text() == "2\n"
    assert not (tmp_path / "log.1").exists()


def test_an_existing_file_goes_on(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("old\n")
    file = RotatingFile(tmp_path / "log", max_bytes=100, backups=1)
    file.write(b"new\n")
    file.close()
    assert (tmp_path / "log").read_text() == "old\nnew\n"


def test_other_descriptors_lead_to_the_newest_piece(tmp_path: Path) -> None:
    other = os.open(os.devnull, os.O_WRONLY)
    file = RotatingFile(tmp_path / "log", max_bytes=4, backups=1, also=(other,))
    file.write(b"1\n2\n3\n")
    os.write(other, b"crash\n")
    file.close()
    os.close(other)
    assert (tmp_path / "log").read_text() == "3\ncrash\n"


def test_lines_are_written_in_order_and_closing_waits_for_them() -> None:
    written: list[bytes] = []
    writer = LogWriter(written.append)
    for number in range(100):
        writer.put(b"%d\n" % number)
    writer.close()
    assert b"".join(written).split() == [b"%d" % number for number in range(100)]


def test_a_slow_disk_costs_lines_and_holds_up_nobody() -> None:
    written: list[bytes] = []
    is_writing, may_write = threading.Event(), threading.Event()

    def write(data: bytes) -> None:
        is_writing.set()
        may_write.wait()
        written.append(data)

    writer = LogWriter(write)
    writer.put(b"first\n")
    is_writing.wait()
    for _ in range(100):
        writer.put(b"x" * ((1 << 20) - 1) + b"\n")
    may_write.set()
    writer.close()
    assert written[0] == b"first\n"
    assert len(b"".join(written)) < 5 << 20
    assert b"96 log lines were dropped" in b"".join(written)


def test_a_full_disk_ends_nothing() -> None:
    written: list[bytes] = []
    failed = threading.Event()

    def write(data: bytes) -> None:
        if not failed.is_set():
            failed.set()
            raise OSError(28, "No space left on device")
        written.append(data)

    writer = LogWriter(write)
    writer.put(b"lost\n")
    failed.wait()
    writer.put(b"kept\n")
    writer.close()
    assert written == [b"kept\n"]


def test_a_file_that_cannot_be_rotated_goes_on(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "log", max_bytes=4, backups=1)
    file.write(b"1\n2\n")
    (tmp_path / "log.1").mkdir()
    (tmp_path / "log.1" / "in the way").touch()
    with pytest.raises(OSError, match=r"log\.1"):
        file.write(b"3\n")
    (tmp_path / "log.1" / "in the way").unlink()
    (tmp_path / "log.1").rmdir()
    file.write(b"4\n")
    file.close()
    assert (tmp_path / "log.1").read_text() == "1\n2\n"
    assert (tmp_path / "log").read_text() == "4\n"
