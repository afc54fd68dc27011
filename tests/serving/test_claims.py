from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from stackkit.serving import claims
from stackkit.serving.claims import ClaimError, Launch, Phase, ServerState, WorkerPhase, WorkerState

LAUNCH = Launch(token="t", model="/models/m.joblib", epoch=3, revision=2, workers=2, preferred_port=8000)
STATE = ServerState(
    token="t",
    revision=2,
    phase=Phase.READY,
    pid=1,
    host="127.0.0.1",
    port=8000,
    error=None,
    since=1.5,
    workers=(WorkerState(slot=0, pid=7, phase=WorkerPhase.READY, restarts=1),),
)

HOLD = """
import sys
from pathlib import Path
from stackkit.serving import claims
claims.hold_lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    claims.write_launch(tmp_path, LAUNCH)
    claims.write_state(tmp_path, STATE)
    assert claims.read_launch(tmp_path) == LAUNCH
    assert claims.read_state(tmp_path) == STATE


def test_files_are_private_and_nothing_else_is_left(tmp_path: Path) -> None:
    claims.write_launch(tmp_path, LAUNCH)
    claims.write_state(tmp_path, STATE)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.is_file()} == {
        "launch.json": 0o600,
        "state.json": 0o600,
    }


def test_fields_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "launch.json").write_text(json.dumps({**asdict(LAUNCH), "later": 1}))
    assert claims.read_launch(tmp_path) == LAUNCH


def test_fields_with_a_default_may_be_absent(tmp_path: Path) -> None:
    (tmp_path / "launch.json").write_text('{"token": "t", "model": "m"}')
    assert claims.read_launch(tmp_path) == Launch(token="t", model="m")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file"),
        ('{"token": "t", "mod', "Unterminated string"),
        ("[]", "JSON object"),
        ('{"token": "t"}', "model is missing"),
        ('{"token": "t", "model": 3}', "model is ill-typed"),
        ('{"token": "t", "model": "m", "port": "80"}', "port is ill-typed"),
        ('{"token": "t", "model": "m", "workers": true}', "workers is ill-typed"),
        ('{"token": "t", "model": "m", "workers": 0}', "workers is not between"),
        ('{"token": "t", "model": "m", "gpus": "0,1"}', "gpus names 2 devices, and there are 1 workers"),
    ],
)
def test_a_launch_that_is_not_ours_is_refused_by_its_field(tmp_path: Path, text: str | None, reason: str) -> None:
    if text is not None:
        (tmp_path / "launch.json").write_text(text)
    with pytest.raises(ClaimError, match=reason):
        claims.read_launch(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        b"\xff",
        '{"token": "t"}',
        json.dumps({**asdict(STATE), "phase": "dancing"}),
        json.dumps({**asdict(STATE), "workers": {}}),
        json.dumps({**asdict(STATE), "workers": [{"slot": 0}]}),
    ],
)
def test_a_state_that_is_torn_or_foreign_is_none(tmp_path: Path, text: str | bytes | None) -> None:
    if text is not None:
        (tmp_path / "state.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert claims.read_state(tmp_path) is None
    assert (tmp_path / "state.json").exists() == (text is not None)


def test_nobody_holds_what_is_not_there(tmp_path: Path) -> None:
    assert claims.lock_holder(tmp_path) is None
    assert claims.lock_holder(tmp_path / "absent") is None
    (tmp_path / "lock").touch()
    assert claims.lock_holder(tmp_path) is None


def test_a_lock_that_cannot_be_asked_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(ClaimError, match="cannot be asked"):
        claims.lock_holder(tmp_path)


def test_the_holder_is_known_as_long_as_it_lives(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert claims.lock_holder(tmp_path) == holder.pid
        with pytest.raises(claims.AlreadyRunningError, match=str(holder.pid)) as caught:
            claims.hold_lock(tmp_path)
        assert caught.value.pid == holder.pid
        holder.kill()
    assert claims.lock_holder(tmp_path) is None


def test_the_lock_is_free_again_when_its_descriptor_is_closed(tmp_path: Path) -> None:
    os.close(claims.hold_lock(tmp_path))
    os.close(claims.hold_lock(tmp_path))
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        claims.hold_lock(tmp_path)


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims.write_state(tmp_path, STATE)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        claims.write_state(tmp_path, replace(STATE, phase=Phase.FAILED))
    assert claims.read_state(tmp_path) == STATE
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["state.json"]
