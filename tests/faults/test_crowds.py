"""Many processes that want the same at once, on every database."""

from __future__ import annotations

from multiprocessing.context import ForkServerContext

import pytest
from killing import CROWD_SECONDS, deploy_and_tell, running, start_or_stop

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer, ServiceState
from stackkit.settings import Settings


@pytest.mark.faults
@pytest.mark.all_databases
def test_fifty_processes_that_deploy_the_same_get_one_server(
    settings: Settings, deployer: BaseModelDeployer, models: dict[str, str], processes: ForkServerContext
) -> None:
    together, answers = processes.Barrier(50), processes.SimpleQueue()
    arguments = (settings, models["one"], together, answers)
    crowd = [processes.Process(target=deploy_and_tell, args=arguments) for _ in range(50)]
    with running(*crowd):
        for process in crowd:
            process.join(CROWD_SECONDS)
        assert [process.exitcode for process in crowd] == [0] * 50
    told = {answers.get() for _ in crowd}
    answers.close()
    (service,) = deployer.find_model_server()
    assert told == {service.id}
    assert service.is_running
    started = [line for line in service.logs() if "worker 0 started" in line]
    assert len(started) == 1


@pytest.mark.faults
@pytest.mark.all_databases
def test_processes_that_start_and_stop_one_server_take_turns(
    client: Client,
    settings: Settings,
    deployer: BaseModelDeployer,
    models: dict[str, str],
    processes: ForkServerContext,
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=models["one"])
    together = processes.Barrier(10)
    verbs = ["start_model_server", "stop_model_server"] * 5
    crowd = [processes.Process(target=start_or_stop, args=(settings, verb, together)) for verb in verbs]
    with running(*crowd):
        for process in crowd:
            process.join(CROWD_SECONDS)
        assert [process.exitcode for process in crowd] == [0] * 10
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
