"""A caller that dies at each point of a verb, on the in-memory platform: the next look is true, and the verb goes on.

Its thread hangs there for good, which is all that others see of a process that was killed. What a killed process of
its own leaves on a real platform, ``test_kill_anywhere`` and the flavors' own suites show.
"""

from __future__ import annotations

import threading
import uuid
from contextlib import suppress

import pytest
from killing import Points
from memory_verbs import FLAVOR, VERBS, delete, truth

from stackkit import Client
from stackkit.model_deployers import leases
from stackkit.model_deployers.memory import MemoryModelDeployer
from stackkit.stack import ComponentType


@pytest.fixture
def deployer(client: Client) -> MemoryModelDeployer:
    client.flavors.register(ComponentType.MODEL_DEPLOYER, FLAVOR)
    attributes = {"platform": f"memory-{uuid.uuid4()}", "updates_in_place": True}
    client.register_component(ComponentType.MODEL_DEPLOYER, "memory", "memory", attributes)
    return memory(client)


def memory(client: Client) -> MemoryModelDeployer:
    loaded = client.model_deployer("memory")
    assert isinstance(loaded, MemoryModelDeployer)
    return loaded


class DeadCaller(threading.Thread):
    """Does a verb as far as to a point, and hangs there until ``bury``."""

    def __init__(self, verb: str, deployer: MemoryModelDeployer, at: int) -> None:
        super().__init__(daemon=True)
        self._verb = VERBS[verb][1]
        self._deployer = deployer
        self._points = Points(at, self._die, anywhere=False)
        self._over, self._buried = threading.Event(), threading.Event()
        self.died = False

    def run(self) -> None:
        with suppress(BaseException), self._points.put_into(self._deployer):
            self._verb(self._deployer)
        self._over.set()

    def await_end(self) -> bool:
        """Wait until it has died (True) or is through with the verb."""
        self.start()
        assert self._over.wait(60)
        return self.died

    def bury(self) -> None:
        self._buried.set()
        self.join(60)

    def _die(self) -> None:
        self.died = True
        for owner in list(leases._at_work):
            leases.retire(owner)
        self._over.set()
        self._buried.wait()
        raise SystemExit


@pytest.mark.faults
@pytest.mark.parametrize("verb", VERBS)
def test_a_caller_that_dies_at_each_point(verb: str, client: Client, deployer: MemoryModelDeployer) -> None:
    before, operation, finally_state = VERBS[verb]
    at = 0
    while True:
        for each in before:
            each(deployer)
        at += 1
        caller = DeadCaller(verb, memory(client), at)
        try:
            if not caller.await_end():
                break
            truth(client, deployer)
            operation(deployer)
            truth(client, deployer)
            services = list(deployer.find_model_server())
            assert [service.status.state for service in services] == ([] if finally_state is None else [finally_state])
            assert all(service.status.message == "" for service in services), f"dead at point {at}"
            delete(deployer)
            assert not deployer.platform.servers
        finally:
            caller.bury()
    assert at > 10, "the points are in place"
