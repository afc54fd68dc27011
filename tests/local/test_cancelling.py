"""Ctrl-C while a model loads: the server that was being started is stopped, the row says so, the exit code is 130."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from stackkit import Client
from stackkit.local.folders import ServerFolder
from stackkit.model_deployers import ServiceState
from stackkit.stack import ComponentType

STACKKIT = [sys.executable, "-P", "-c", "from stackkit.cli.main import main; main()"]


def test_a_cancelled_deploy_leaves_nothing_running(client: Client, home: Path, tmp_path: Path) -> None:
    client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(600)\n", encoding="utf-8")
    deploy = (
        "model-deployer",
        "models",
        "deploy",
        "--model-uri",
        f"{tmp_path}/slow.py:predict",
        "--model-name",
        "slow",
    )
    with subprocess.Popen([*STACKKIT, *deploy], stderr=subprocess.PIPE, text=True) as command:
        (folder,) = wait_for_server(home)
        command.send_signal(signal.SIGINT)
        assert command.wait(60) == 130
        assert command.stderr is not None
        assert command.stderr.read() == "Cancelled.\n"
    assert folder.holder() is None
    (service,) = client.servers.find()
    assert service.status.state is ServiceState.ERROR
    assert service.status.message == "Its start was cancelled."
    service.delete()


def wait_for_server(home: Path) -> list[ServerFolder]:
    deadline = time.monotonic() + 60
    while True:
        folders = [ServerFolder(path) for path in (home / "services").glob("*")]
        if alive := [folder for folder in folders if folder.holder()]:
            return alive
        assert time.monotonic() < deadline, "it did not start"
        time.sleep(0.02)
