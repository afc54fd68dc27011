"""The examples run as they stand, with real servers on this machine, and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stackkit import Client

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_example(name: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["plain_python.py", "training_pipeline.py"])
def test_an_example_runs_and_leaves_no_server(name: str, client: Client) -> None:
    assert "nothing is running any more" in run_example(name, dict(os.environ))
    assert not client.servers.find()
    services = client.settings.services_folder
    assert not services.exists() or list(services.iterdir()) == []


def test_without_a_home_an_example_uses_a_temporary_one(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "STACKKIT_HOME"}
    run_example("training_pipeline.py", {**environment, "HOME": str(mine)})
    assert not (mine / ".stackkit").exists()
