"""An operation killed at its points, one after the other: the next look is true, and it can be asked for again."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from docker import DockerClient
from killed import OPERATIONS, Operations
from killing import numbers_of_points, settled
from stackkit_docker import containers
from stackkit_docker.containers import LABEL_SERVICE
from stackkit_docker.deployer import DockerModelDeployer

from stackkit import Client
from stackkit.local.probes import answers, base_url
from stackkit.model_deployers import Service, ServiceState

pytestmark = [pytest.mark.docker, pytest.mark.faults]

_HERE = Path(__file__).parent


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_its_points(
    operation: str,
    client: Client,
    deployer: DockerModelDeployer,
    engine: DockerClient,
    images: dict[str, str],
    home: Path,
) -> None:
    killed_at_its_points(operation, images["one"], images["two"], client, deployer, engine, home)


@pytest.mark.usefixtures("layers")
def test_an_update_within_the_container_killed_at_its_points(
    client: Client, deployer: DockerModelDeployer, engine: DockerClient, home: Path, tmp_path: Path
) -> None:
    models = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.py"
        path.write_text(f"def predict(rows):\n    return [{name!r} for row in rows]\n", encoding="utf-8")
        models.append(f"{path}:predict")
    killed_at_its_points("update", *models, client, deployer, engine, home)


def killed_at_its_points(
    operation: str,
    one: str,
    two: str,
    client: Client,
    deployer: DockerModelDeployer,
    engine: DockerClient,
    home: Path,
) -> None:
    before, finally_state = OPERATIONS[operation]
    named = (f"killed-{uuid.uuid4()}", one, two)
    operations = Operations(deployer, *named)
    for point in numbers_of_points(operation):
        for each in before:
            getattr(operations, each)()
        exit_code = run(home, operation, str(point), *named)
        if exit_code == 0:
            break
        assert exit_code == -9, f"at point {point} it ended with {exit_code}"
        truth(client, engine, named[0])
        getattr(operations, operation)()
        truth(client, engine, named[0])
        services = list(deployer.find_model_server())
        assert [service.status.state for service in services] == ([] if finally_state is None else [finally_state])
        if finally_state is ServiceState.ACTIVE:
            assert services[0].predict([0]) == ["two" if operation == "update" else "one"]
        volumes = [name for service in services for name in volumes_of(engine, service.id)]
        operations.delete()
        assert not volumes_there(engine).intersection(volumes), f"killed at point {point}"
        for service in services:
            assert not left_behind(engine, service.id), f"killed at point {point}"
    assert point > 4, "the points are in place"


def run(*arguments: str | Path) -> int:
    """The exit code of the process that kills itself."""
    support = _HERE.parents[2] / "tests" / "support"
    return subprocess.run(
        [sys.executable, str(_HERE / "support" / "killed.py"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(support)},
        timeout=120,
        check=False,
    ).returncode


def truth(client: Client, engine: DockerClient, name: str) -> None:
    """Compare what the table says after one look with what is on the engine.

    Raises AssertionError for a server that no row names, and for a row that says other than what is.
    """
    services = settled(client)
    ours = [each for each in containers.find(engine) if each.kept["config"]["model_name"] == name]
    alive = {each.service_id for each in ours if each.is_alive}
    serving = {each.service_id: each for each in ours if each.is_serving}
    assert alive <= set(services), f"servers that no row names: {alive - set(services)}"
    for service in services.values():
        state = service.status.state
        if state is ServiceState.ACTIVE:
            assert service.id in serving, f"{service} says active, and nothing of it serves"
            assert_it_serves_what_it_says(client, service)
        elif state is ServiceState.ERROR:
            one = serving.get(service.id)
            assert one is None or not answers(base_url("127.0.0.1", one.port or 0)).ready, (
                f"{service}: {service.status}"
            )
        else:
            assert state is ServiceState.INACTIVE, f"{service} cannot be asked: {service.status.message}"
            assert service.id not in alive, f"{service} says inactive, and it lives: {service.status}"


def assert_it_serves_what_it_says(client: Client, service: Service) -> None:
    deployer = client.model_deployer("docker")

    def said() -> int | None:
        return deployer.do_check([service])[service.id].revision

    while True:
        before, answer = said(), service.predict([0])
        if said() == before:  # else it has gone over meanwhile, which whoever was killed has told it to
            assert answer == [{1: "one", 2: "two"}[before or 0]]
            return


def left_behind(engine: DockerClient, service_id: str) -> list[str]:
    """The names of what the engine still has of a service."""
    mine = {"label": f"{LABEL_SERVICE}={service_id}"}
    found = [*engine.containers.list(all=True, filters=mine), *engine.networks.list(filters=mine)]
    return [str(each.name) for each in found]


def volumes_of(engine: DockerClient, service_id: str) -> list[str]:
    mine = engine.containers.list(all=True, filters={"label": f"{LABEL_SERVICE}={service_id}"})
    return [mount["Name"] for container in mine for mount in container.attrs["Mounts"]]


def volumes_there(engine: DockerClient) -> set[str]:
    return {each["Name"] for each in engine.api.volumes()["Volumes"] or ()}
