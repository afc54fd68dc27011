"""The archive of a model: what SageMaker unpacks, byte for byte the same each time."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from stackkit_sagemaker.archive import archive

from stackkit.environments.files import list_files
from stackkit.errors import ModelError


def read(path: Path) -> bytes:
    with archive(list_files(path)) as opened:
        return opened.read()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "a model"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n", encoding="utf-8")
    (folder / "data" / f"{'long' * 40}.bin").write_bytes(os.urandom(3_000_001))
    (folder / "empty").touch()
    return folder


def test_a_folder_lies_in_it_without_the_folder(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(read(folder))) as opened:
        opened.extractall(tmp_path / "out", filter="data")
    unpacked = {path.relative_to(tmp_path / "out"): path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in unpacked.items()} == {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_a_file_lies_in_it_under_its_name(folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(read(folder / "MLmodel"))) as opened:
        assert opened.getnames() == ["MLmodel"]


def test_it_is_the_same_at_another_time_and_place(folder: Path, tmp_path: Path) -> None:
    first = read(folder)
    os.utime(folder / "MLmodel", (1, 1))
    (folder / "MLmodel").chmod(0o600)
    assert read(folder.rename(tmp_path / "elsewhere")) == first


@pytest.mark.parametrize("change", ["shorter", "longer", "gone"])
def test_a_file_that_changes_meanwhile_is_told(folder: Path, change: str) -> None:
    with archive(list_files(folder)) as opened:
        if change == "gone":
            (folder / "MLmodel").unlink()
        else:
            (folder / "MLmodel").write_text("" if change == "shorter" else "flavors: {a: b}\n", encoding="utf-8")
        with pytest.raises(ModelError, match="changed"):
            opened.read()


def test_what_is_read_is_told(folder: Path) -> None:
    told: list[int] = []
    files = list_files(folder)
    with archive(files, told.append) as opened:
        opened.read()
    assert sum(told) == sum(file.size for file in files)
    assert len(told) > 3
