"""Many processes that want the same at once, on every database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer, ServiceState


@pytest.mark.faults
@pytest.mark.all_databases
def test_fifty_processes_that_deploy_the_same_get_one_server(
    deployer: BaseModelDeployer, models: dict[str, str], tmp_path: Path
) -> None:
    code = (
        "import sys; from stackkit.model_deployers import LocalModelDeployer as L;"
        "print(L.get_active_model_deployer().deploy_model(model_name='m', model_uri=sys.argv[1]).id)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, models["one"]], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        for _ in range(50)
    ]
    answers = {process.communicate(timeout=120)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0] * 50
    (service,) = deployer.find_model_server()
    assert answers == {service.id}
    assert service.is_running
    started = [line for line in service.logs() if "worker 0 started" in line]
    assert len(started) == 1


@pytest.mark.faults
@pytest.mark.all_databases
def test_processes_that_start_and_stop_one_server_take_turns(
    client: Client, deployer: BaseModelDeployer, models: dict[str, str], tmp_path: Path
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=models["one"])
    code = (
        "import sys; from stackkit.model_deployers import LocalModelDeployer as L;"
        "getattr(L.get_active_model_deployer(), sys.argv[1])('m', timeout=120)"
    )
    verbs = ["start_model_server", "stop_model_server"] * 5
    running = [subprocess.Popen([sys.executable, "-c", code, verb], cwd=tmp_path) for verb in verbs]
    assert [process.wait(120) for process in running] == [0] * 10
    steps = [
        (event["action"], event["outcome"], event["actor"])
        for event in client.servers.history(service.id)
        if event["action"] in ("start", "stop")
    ][1:]  # the first start was the deploy's
    # what one began it has finished before the next began anything
    begun, done = steps[::2], steps[1::2]
    assert [(action, "done", actor) for action, _, actor in begun] == done
    assert all(outcome == "begun" for _, outcome, _ in begun)
    # and each found what the one before had left
    actions = [action for action, _, _ in done]
    assert actions == ["stop", "start"] * (len(actions) // 2) + ["stop"] * (len(actions) % 2)
    assert actions
    seen = deployer.get_model_server(service)
    assert seen.status.state is (ServiceState.ACTIVE if actions[-1] == "start" else ServiceState.INACTIVE)
    assert seen.status.message == ""
