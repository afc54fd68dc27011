"""The verbs on the in-memory platform, for breaking them, and what must be true of it and of the table afterwards."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from stackkit import Client
from stackkit.errors import NotFoundError
from stackkit.model_deployers import ServiceState, Target
from stackkit.model_deployers.memory import MemoryModelDeployer

FLAVOR = "stackkit.model_deployers.memory.MemoryModelDeployerFlavor"
NAMES = {"model_name": "iris", "pipeline_name": "training", "timeout": 20}

Verb = Callable[[MemoryModelDeployer], Any]


def deploy(deployer: MemoryModelDeployer) -> None:
    deployer.deploy_model(**NAMES, model_uri="one")


def start(deployer: MemoryModelDeployer) -> None:
    deployer.start_model_server("training/iris", timeout=20)


def stop(deployer: MemoryModelDeployer) -> None:
    deployer.stop_model_server("training/iris", timeout=20)


def replace(deployer: MemoryModelDeployer) -> None:
    deployer.deploy_model(**NAMES, model_uri="two", replace=True)


def roll_back(deployer: MemoryModelDeployer) -> None:
    deployer.rollback_model_server("training/iris", to=1, timeout=20)


def split(deployer: MemoryModelDeployer) -> None:
    deployer.update_model_server("training/iris", canary=20, model_uri="two", timeout=20)


def promote(deployer: MemoryModelDeployer) -> None:
    with suppress(NotFoundError):  # it is through
        deployer.promote_model_server("training/iris", timeout=20)


def abort(deployer: MemoryModelDeployer) -> None:
    with suppress(NotFoundError):  # it is through
        deployer.abort_model_server("training/iris", timeout=20)


def delete(deployer: MemoryModelDeployer) -> None:
    for service in deployer.find_model_server(refresh=False):
        deployer.delete_model_server(service, timeout=20)


# what is done before, what is broken, and what is so once it was asked for again
VERBS: dict[str, tuple[list[Verb], Verb, ServiceState | None]] = {
    "deploy": ([], deploy, ServiceState.ACTIVE),
    "start": ([deploy, stop], start, ServiceState.ACTIVE),
    "stop": ([deploy], stop, ServiceState.INACTIVE),
    "replace": ([deploy], replace, ServiceState.ACTIVE),
    "rollback": ([deploy, replace], roll_back, ServiceState.ACTIVE),
    "canary": ([deploy], split, ServiceState.ACTIVE),
    "promote": ([deploy, split], promote, ServiceState.ACTIVE),
    "abort": ([deploy, split], abort, ServiceState.ACTIVE),
    "stop beside a canary": ([deploy, split], stop, ServiceState.INACTIVE),
    "delete": ([deploy], delete, None),
}


def truth(client: Client, deployer: MemoryModelDeployer) -> None:
    """Compare what the table says after one look with what the platform has."""
    services = {service.id: service for service in client.servers.find()}
    running = {name for name, server in deployer.platform.servers.items() if server.running}
    assert running <= set(services), "servers that no row names"
    for service in services.values():
        assert service.is_running == (service.id in running), f"{service}: {service.status}"
        if service.is_running and not service.status.message:
            assert service.status.target is Target.ACTIVE
            server = deployer.platform.servers[service.id]
            assert server.revision == service.revision
            assert (server.canary and server.canary.revision) == (service.canary and service.canary.revision)
        named = [each["number"] for each in client.servers.revisions(service.id)]
        assert named[-1] == (service.canary.revision if service.canary else service.revision)
