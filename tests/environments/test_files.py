from __future__ import annotations

import errno
import os
import shutil
import socket
from pathlib import Path

import pytest

from stackkit.environments.files import digest_files, format_size, list_files
from stackkit.errors import ModelError


def digest(path: Path) -> str:
    return digest_files(list_files(path))


def test_a_folder_lists_its_files_in_order_under_one_name(model_folder: Path) -> None:
    files = list_files(model_folder)
    assert [(file.name, file.size) for file in files] == [("model/MLmodel", 12), ("model/data/model.pkl", 7)]


def test_a_file_lists_itself(model_file: Path) -> None:
    assert [file.name for file in list_files(model_file)] == ["model.joblib"]


def test_digest_does_not_depend_on_place_or_time(model_folder: Path, tmp_path: Path) -> None:
    before = digest(model_folder)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(model_folder, elsewhere)
    os.utime(elsewhere / "MLmodel", (1, 1))
    assert digest(elsewhere) == before


def test_digest_ignores_what_is_no_part_of_the_model(model_folder: Path) -> None:
    before = digest(model_folder)
    (model_folder / "data" / "__pycache__").mkdir()
    (model_folder / "data" / "__pycache__" / "code.pyc").write_bytes(b"bytecode")
    (model_folder / ".DS_Store").write_bytes(b"icons")
    (model_folder / "empty").mkdir()
    assert digest(model_folder) == before


def change_a_byte(folder: Path) -> None:
    (folder / "data" / "model.pkl").write_bytes(b"Weights")


def rename_a_file(folder: Path) -> None:
    (folder / "data" / "model.pkl").rename(folder / "data" / "model2.pkl")


def move_a_file(folder: Path) -> None:
    (folder / "data" / "model.pkl").rename(folder / "model.pkl")


def add_an_empty_file(folder: Path) -> None:
    (folder / "extra").touch()


def move_a_byte_between_files(folder: Path) -> None:
    (folder / "MLmodel").write_text("flavors: {}\nw")
    (folder / "data" / "model.pkl").write_bytes(b"eights")


@pytest.mark.parametrize(
    "change", [change_a_byte, rename_a_file, move_a_file, add_an_empty_file, move_a_byte_between_files]
)
def test_digest_changes_with_names_and_contents(model_folder: Path, change) -> None:
    before = digest(model_folder)
    change(model_folder)
    assert digest(model_folder) != before


def test_a_file_and_a_folder_with_only_that_file_differ(model_file: Path) -> None:
    assert digest(model_file) != digest(model_file.parent)


def test_names_that_are_no_utf8_are_digested(model_folder: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(model_folder) + b"/\xff.bin")).touch()
    except OSError as error:
        pytest.skip(f"this file system refuses such names: {error}")
    assert len(digest(model_folder)) == 64


def test_links_inside_the_folder_are_followed(model_folder: Path, tmp_path: Path) -> None:
    (model_folder / "latest.pkl").symlink_to("data/model.pkl")
    (model_folder / "again").symlink_to("data", target_is_directory=True)
    spelled_out = tmp_path / "spelled-out"
    shutil.copytree(model_folder, spelled_out, symlinks=False)
    assert digest(model_folder) == digest(spelled_out)


def test_the_model_itself_may_be_a_link(model_folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(model_folder)
    assert digest(link) == digest(model_folder)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("../../secret", "leads out of the model's folder"),
        ("/etc", "leads out of the model's folder"),
        ("nowhere", "leads nowhere"),
        ("link", "leads nowhere"),
        ("../data", "leads back to a folder that it lies in"),
        ("..", "leads back to a folder that it lies in"),
    ],
)
def test_links_that_cannot_be_followed_are_refused(model_folder: Path, target: str, words: str) -> None:
    (model_folder.parent / "secret").write_text("not part of it")
    (model_folder / "data" / "link").symlink_to(target)
    with pytest.raises(ModelError, match=words) as refusal:
        list_files(model_folder)
    assert "data/link" in refusal.value.message
    assert refusal.value.hint


def test_a_named_pipe_is_refused(model_folder: Path) -> None:
    os.mkfifo(model_folder / "pipe")
    with pytest.raises(ModelError, match=r"pipe is neither a file nor a folder"):
        list_files(model_folder)


def test_a_socket_is_refused(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model_folder)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(ModelError, match=r"socket is neither a file nor a folder"):
            list_files(model_folder)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refusal:
        list_files(tmp_path / "missing.joblib")
    assert refusal.value.message == f"There is no model at {tmp_path / 'missing.joblib'}."
    assert refusal.value.hint


def test_a_path_through_a_file_leads_nowhere(model_file: Path) -> None:
    with pytest.raises(ModelError, match="There is no model at"):
        list_files(model_file / "inside")


@pytest.mark.parametrize("leftover", [None, "__pycache__", ".DS_Store"])
def test_an_empty_folder_is_refused(tmp_path: Path, leftover: str | None) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    if leftover:
        (folder / leftover).touch()
    with pytest.raises(ModelError, match=r"is empty\.") as refusal:
        list_files(folder)
    assert refusal.value.hint


def test_a_file_that_may_not_be_read(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # simulated, since tests may run as root, whom no permission stops
    def denied(self: Path, *args: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ModelError, match=r"permission denied for .*MLmodel") as refusal:
        digest(model_folder)
    assert "chmod" in (refusal.value.hint or "")


def test_a_folder_that_may_not_be_listed(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(ModelError, match=r"permission denied for .*churn"):
        list_files(model_folder)


def test_a_file_that_goes_away_meanwhile(model_folder: Path) -> None:
    files = list_files(model_folder)
    (model_folder / "MLmodel").unlink()
    with pytest.raises(ModelError, match="changed while it was being copied; deploy it again"):
        digest_files(files)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_999, "1.0 MB"),
        (1_234_000_000, "1.2 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert format_size(size) == text
