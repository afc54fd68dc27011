"""What is swept, what stays, and for whom."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from stackkit.environments import sweeping
from stackkit.environments.files import list_files
from stackkit.environments.keeping import keep_copy
from stackkit.errors import ModelError

OURS, THEIRS = "sqlite:////home/stackkit.db", "postgresql+psycopg://team/stackkit"


@pytest.fixture
def digest(model_file: Path, models_folder: Path) -> str:
    """The digest of a model that is kept, and that nobody has said to need."""
    return f"sha256:{keep_copy(model_file, list_files(model_file), models_folder, lambda text: None).digest}"


def nothing(digests: Collection[str]) -> Collection[str]:
    return ()


def everything(digests: Collection[str]) -> Collection[str]:
    return digests


def kept(models_folder: Path) -> list[str]:
    return [f"sha256:{path.name}" for path in models_folder.iterdir()]


def test_what_nobody_needs_goes(models_folder: Path, digest: str) -> None:
    assert sweeping.sweep(models_folder, OURS, nothing) == [digest]
    assert kept(models_folder) == []
    assert sweeping.sweep(models_folder, OURS, nothing) == []


def test_what_is_named_stays(models_folder: Path, digest: str) -> None:
    assert sweeping.sweep(models_folder, OURS, everything) == []
    assert kept(models_folder) == [digest]


def test_what_was_noted_and_never_named_goes(models_folder: Path, digest: str) -> None:
    sweeping.note_user(digest, models_folder, OURS)
    assert sweeping.sweep(models_folder, OURS, nothing) == [digest]


@pytest.mark.parametrize("by", ["a note", "a sweep of its own"])
def test_what_another_database_needs_stays(models_folder: Path, digest: str, by: str) -> None:
    if by == "a note":
        sweeping.note_user(digest, models_folder, THEIRS)
    else:
        sweeping.sweep(models_folder, THEIRS, everything)
    sweeping.note_user(digest, models_folder, OURS)
    assert sweeping.sweep(models_folder, OURS, nothing) == []
    assert sweeping.sweep(models_folder, THEIRS, nothing) == [digest]


def test_nothing_goes_while_a_deploy_has_not_written_its_row(models_folder: Path, digest: str) -> None:
    with sweeping.holding(models_folder), sweeping.holding(models_folder):
        assert sweeping.sweep(models_folder, OURS, nothing) == []
    assert sweeping.sweep(models_folder, OURS, nothing) == [digest]


def test_a_deploy_waits_for_a_sweep_and_tells_one_that_takes_for_ever(
    models_folder: Path, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "_LOCK_SECONDS", 0.05)

    def hold_meanwhile(digests: Collection[str]) -> Collection[str]:
        with pytest.raises(ModelError, match="removing models"), sweeping.holding(models_folder):
            pass
        return digests

    assert sweeping.sweep(models_folder, OURS, hold_meanwhile) == []
    with sweeping.holding(models_folder):
        pass


def test_what_is_not_kept_is_neither_noted_nor_swept(models_folder: Path) -> None:
    sweeping.note_user("sha256:" + "0" * 64, models_folder, OURS)
    assert sweeping.sweep(models_folder, OURS, nothing) == []
    assert not models_folder.exists()


def test_foreign_files_among_the_models_stay(models_folder: Path, digest: str) -> None:
    (models_folder / "notes").mkdir()
    (models_folder / "README").write_text("mine")
    sweeping.sweep(models_folder, OURS, nothing)
    assert sorted(path.name for path in models_folder.iterdir()) == ["README", "notes"]
