from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stackkit.environments.interpreters import find_python

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def write_python(path: Path, version: str) -> Path:
    """What answers as an interpreter of that version does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\necho {path}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))


def test_this_one(tmp_path: Path) -> None:
    assert find_python(HERE) == sys.executable


def test_none() -> None:
    assert find_python("3.99") is None


def test_one_on_the_path(tmp_path: Path) -> None:
    found = write_python(tmp_path / "bin" / "python3.99", "3.99")
    assert find_python("3.99") == str(found)


def test_the_newest_of_pyenv(tmp_path: Path) -> None:
    for patch in ("2", "10", "9"):
        write_python(tmp_path / "pyenv" / "versions" / f"3.99.{patch}" / "bin" / "python3.99", "3.99")
    assert find_python("3.99") == str(tmp_path / "pyenv/versions/3.99.10/bin/python3.99")


def test_a_shim_with_nothing_behind_it_is_none(tmp_path: Path) -> None:
    shim = write_python(tmp_path / "bin" / "python3.99", "3.99")
    shim.write_text("#!/bin/sh\necho 'python3.99: command not found' >&2\nexit 127\n")
    assert find_python("3.99") is None
    behind = write_python(tmp_path / "pyenv" / "versions" / "3.99.0" / "bin" / "python3.99", "3.99")
    assert find_python("3.99") == str(behind)
