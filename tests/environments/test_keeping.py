"""What is kept is whole, is what its digest says, and stays so."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from stackkit.environments import keeping
from stackkit.environments.files import list_files
from stackkit.environments.keeping import KeptModel, discard, keep_copy, workspace
from stackkit.errors import ModelError


def keep(source: Path, models_folder: Path) -> KeptModel:
    return keep_copy(source, list_files(source), models_folder, lambda text: None)


def kept_files(models_folder: Path) -> list[str]:
    return sorted(str(path.relative_to(models_folder)) for path in models_folder.rglob("*") if path.is_file())


def test_a_folder_keeps_its_layout(model_folder: Path, models_folder: Path) -> None:
    kept = keep(model_folder, models_folder)
    assert kept.path == models_folder / kept.digest / "model"
    assert kept_files(kept.path) == ["MLmodel", "data/model.pkl"]
    assert (kept.path / "data" / "model.pkl").read_bytes() == b"weights"


def test_a_file_keeps_its_name(model_file: Path, models_folder: Path) -> None:
    kept = keep(model_file, models_folder)
    assert kept.path == models_folder / kept.digest / "model.joblib"
    assert kept.path.read_bytes() == b"the first training"


def test_a_file_reached_by_a_link_is_kept_as_a_file(model_file: Path, models_folder: Path) -> None:
    link = model_file.parent / "current.joblib"
    link.symlink_to(model_file)
    kept = keep(link, models_folder)
    assert kept.path.name == "current.joblib"
    assert not kept.path.is_symlink()


def test_links_in_a_folder_are_kept_as_files(model_folder: Path, models_folder: Path) -> None:
    (model_folder / "best.pkl").symlink_to("data/model.pkl")
    kept = keep(model_folder, models_folder)
    assert not (kept.path / "best.pkl").is_symlink()
    assert (kept.path / "best.pkl").read_bytes() == b"weights"


def test_what_is_kept_survives_a_rewrite_of_the_same_inode(model_file: Path, models_folder: Path) -> None:
    kept = keep(model_file, models_folder)
    with model_file.open("r+b") as opened:
        opened.truncate()
        opened.write(b"the second")
    assert kept.path.read_bytes() == b"the first training"
    assert keep(model_file, models_folder).digest != kept.digest


def test_what_is_kept_is_read_only_and_keeps_its_other_rights(model_folder: Path, models_folder: Path) -> None:
    (model_folder / "MLmodel").chmod(0o750)
    kept = keep(model_folder, models_folder)
    modes = {path.name: path.stat().st_mode & 0o777 for path in kept.path.rglob("*") if path.is_file()}
    assert modes["MLmodel"] == 0o550
    assert not any(mode & 0o222 for mode in modes.values())


def test_only_the_owner_sees_the_models(model_file: Path, models_folder: Path) -> None:
    keep(model_file, models_folder)
    assert models_folder.stat().st_mode & 0o777 == 0o700


def test_the_same_model_is_copied_once(model_file: Path, models_folder: Path) -> None:
    told: list[str] = []
    for _ in range(2):
        keep_copy(model_file, list_files(model_file), models_folder, told.append)
    assert told == ["copying 18 bytes"]


def test_what_a_model_wrote_beside_its_files_does_not_count(model_folder: Path, models_folder: Path) -> None:
    kept = keep(model_folder, models_folder)
    (kept.path / "cache.bin").write_bytes(b"written by the model")
    keep(model_folder, models_folder)
    assert (kept.path / "cache.bin").exists()


@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_a_damaged_copy_is_made_again(model_folder: Path, models_folder: Path, damage: str) -> None:
    kept = keep(model_folder, models_folder)
    weights = kept.path / "data" / "model.pkl"
    weights.unlink()
    if damage == "truncated":
        weights.write_bytes(b"wei")
    assert keep(model_folder, models_folder) == kept
    assert weights.read_bytes() == b"weights"
    assert sorted(path.name for path in models_folder.iterdir()) == [kept.digest]


def test_two_at_once_both_succeed(model_folder: Path, models_folder: Path) -> None:
    both_copy = Barrier(2, timeout=30)  # neither goes on before both have found that nothing is kept
    files = list_files(model_folder)
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(keep_copy, model_folder, files, models_folder, lambda text: both_copy.wait() and None)
            for _ in range(2)
        ]
    first, second = (run.result() for run in runs)
    assert first == second
    assert kept_files(first.path) == ["MLmodel", "data/model.pkl"]
    assert [path.name for path in models_folder.iterdir()] == [first.digest]


KILLED_BEFORE_THE_RENAME = """
import os, signal, sys
from pathlib import Path
from stackkit.environments import keeping
from stackkit.environments.files import list_files
keeping._put_into_place = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
source = Path(sys.argv[1])
keeping.keep_copy(source, list_files(source), Path(sys.argv[2]), lambda text: None)
"""


def test_an_interrupted_copy_is_neither_used_nor_left_behind(model_folder: Path, models_folder: Path) -> None:
    command = [sys.executable, "-c", KILLED_BEFORE_THE_RENAME, str(model_folder), str(models_folder)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (abandoned,) = models_folder.iterdir()
    assert abandoned.name.startswith(".partial-")
    assert (abandoned / "content" / "model" / "MLmodel").exists()

    kept = keep(model_folder, models_folder)
    assert [path.name for path in models_folder.iterdir()] == [kept.digest]


def test_a_workspace_in_use_is_left_alone(models_folder: Path) -> None:
    with workspace(models_folder) as first, workspace(models_folder) as second:
        assert first.exists()
        assert second.exists()
    assert list(models_folder.iterdir()) == []


def test_a_source_that_changes_meanwhile(model_folder: Path, models_folder: Path) -> None:
    def train_again(text: str) -> None:
        (model_folder / "data" / "model.pkl").write_bytes(b"WEIGHTS")

    with pytest.raises(ModelError) as refusal:
        keep_copy(model_folder, list_files(model_folder), models_folder, train_again)
    assert refusal.value.message.endswith("changed while it was being copied; deploy it again.")
    assert list(models_folder.iterdir()) == []


def test_a_source_that_goes_away_meanwhile(model_folder: Path, models_folder: Path) -> None:
    with pytest.raises(ModelError, match="changed while it was being copied"):
        keep_copy(model_folder, list_files(model_folder), models_folder, lambda text: shutil.rmtree(model_folder))
    assert list(models_folder.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(model_file: Path, models_folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(keeping, "_reflink", lambda reader, writer: False)
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(ModelError) as refusal:
        keep(model_file, models_folder)
    assert refusal.value.message == f"The disk that holds {models_folder} is full: the model needs 18 bytes."
    assert "STACKKIT_HOME" in (refusal.value.hint or "")
    assert list(models_folder.iterdir()) == []


def test_a_models_folder_that_cannot_be_made(model_file: Path) -> None:
    with pytest.raises(ModelError, match="cannot be kept in") as refusal:
        keep(model_file, model_file / "models")
    assert "STACKKIT_HOME" in (refusal.value.hint or "")


def test_a_copy_where_blocks_cannot_be_shared(
    model_file: Path, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(keeping.fcntl, "ioctl", unable)
    assert keep(model_file, models_folder).path.read_bytes() == b"the first training"


def test_a_discarded_copy_is_gone_and_can_be_made_again(model_folder: Path, models_folder: Path) -> None:
    kept = keep(model_folder, models_folder)
    discard(f"sha256:{kept.digest}", models_folder)
    assert list(models_folder.iterdir()) == []
    discard(f"sha256:{kept.digest}", models_folder)
    assert keep(model_folder, models_folder) == kept
    assert kept_files(kept.path) == ["MLmodel", "data/model.pkl"]
