"""The settings: what the environment says, the home folder, the active stack's file."""

from __future__ import annotations

import stat
import uuid
from pathlib import Path

import pytest

from stackkit.errors import SettingsError
from stackkit.settings import Settings, write_atomically


def test_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STACKKIT_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Settings.load()
    assert settings.home == tmp_path / ".stackkit"
    assert settings.owns_database
    assert (settings.secret_key, settings.stack) == (None, None)
    assert not settings.home.exists()


def test_the_environment_is_read_when_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("STACKKIT_HOME", "~/models")
    monkeypatch.setenv("STACKKIT_DATABASE_URL", "postgresql+psycopg://ann:hunter2@h/db")
    monkeypatch.setenv("STACKKIT_SECRET_KEY", "hunter3")
    monkeypatch.setenv("STACKKIT_STACK", "prod")
    settings = Settings.load()
    assert settings.home == tmp_path / "models"
    assert (settings.secret_key, settings.stack, settings.owns_database) == ("hunter3", "prod", False)
    assert "hunter" not in repr(settings)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STACKKIT_DATABASE_URL", "STACKKIT_SECRET_KEY", "STACKKIT_STACK"):
        monkeypatch.setenv(name, "")
    settings = Settings.load()
    assert (settings.owns_database, settings.secret_key, settings.stack) == (True, None, None)


def test_a_home_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STACKKIT_HOME", "here")
    assert Settings.load().home == tmp_path / "here"


@pytest.mark.parametrize("home", ["", "~nobody-has-this-name/models"])
def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    def none(path: str) -> str:
        return path

    monkeypatch.setattr("os.path.expanduser", none)  # which gives back what it cannot tell
    monkeypatch.setenv("STACKKIT_HOME", home)
    with pytest.raises(SettingsError) as caught:
        Settings.load()
    assert "STACKKIT_HOME" in str(caught.value.hint)


def test_the_active_stack_is_kept(home: Path) -> None:
    settings = Settings.load()
    assert settings.read_active_stack() is None
    assert not home.exists()
    stack_id = str(uuid.uuid4())
    settings.write_active_stack(stack_id)
    assert settings.read_active_stack() == stack_id
    assert stat.S_IMODE((home / "config.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text", ["", "{", "null", "[]", '"x"', "{}", '{"active_stack": 7}', '{"active_stack": "x"}', "\udcff"]
)
def test_a_damaged_file_is_told_in_one_line(home: Path, text: str) -> None:
    home.mkdir()
    path = home / "config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError) as caught:
        Settings.load().read_active_stack()
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    assert f"rm {path}" in str(caught.value.hint)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, "first")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_atomically(path, "second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, "third")
    assert path.read_text() == "third"
