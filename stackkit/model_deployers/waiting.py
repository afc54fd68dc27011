"""Waiting until a platform has a service where an operation brings it: the one place that polls and times out."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from ..errors import DeploymentError, DeploymentTimeoutError, PlatformUnavailableError, StackkitError
from .config import SERVING, Observation, ServiceState
from .leases import Lease
from .operation import Operation
from .service import Service

if TYPE_CHECKING:
    from .base import BaseModelDeployer

Verb = Literal["start", "update", "split", "promote", "abort", "stop"]

_DID_NOT = {"split": "start its canary", "promote": "promote its canary", "abort": "abort its canary"}

_POLL_SECONDS = (0.02, 1.0)
_REPEAT_SECONDS = 5.0
_LOG_LINES = 20
_ENDED = (ServiceState.ERROR, ServiceState.INACTIVE)


def observe(deployer: BaseModelDeployer, service: Service) -> Observation:
    """What the platform says of one service now. Raises PlatformUnavailableError."""
    return deployer.do_check([service]).get(service.id, Observation(ServiceState.INACTIVE))


def await_arrival(
    deployer: BaseModelDeployer,
    lease: Lease,
    operation: Operation,
    verb: Verb,
    *,
    again: Callable[[Operation], None] | None = None,
    checked: Service | None = None,
) -> Observation:
    """Ask the platform until the service is where the verb brings it, calling ``again`` now and then until then.

    ``checked`` is what the platform is asked about when that is not the operation's own service, which bears the
    revision that is waited for.

    Raises DeploymentError when it is in error or gone instead, with the end of its log, DeploymentTimeoutError when
    it takes too long, and LeaseLostError.
    """
    service = operation.service
    did_not = _DID_NOT.get(verb, verb)
    pause, longest = _POLL_SECONDS
    repeat = time.monotonic() + _REPEAT_SECONDS
    while True:
        lease.check()
        try:
            observation = observe(deployer, checked or service)
        except PlatformUnavailableError as error:
            observation = Observation(ServiceState.UNKNOWN, error.message)  # it may be back before the deadline
        if _arrived(verb, service, observation):
            return observation
        ended = observation.state in _ENDED and verb != "stop"
        given_up = observation.update_error if verb in ("update", "split", "promote") else None
        if given_up is not None or ended:
            reason = given_up or observation.message or "it ended by itself"
            raise DeploymentError(
                f"The service {service.name!r} did not {did_not}: {reason}{_log_tail(deployer, service)}",
                f"See its log: stackkit model-deployer models logs {service.id[:8]}.",
            )
        if operation.remaining() == 0:
            waited = observation.message or observation.state.value
            raise DeploymentTimeoutError(
                f"The service {service.name!r} did not {did_not} in time; it was still waiting for: {waited}"
                f"{_log_tail(deployer, service) if verb != 'stop' else ''}",
                "Give it more time with --timeout (timeout=…), or see its log: "
                f"stackkit model-deployer models logs {service.id[:8]}.",
            )
        if again is not None and time.monotonic() >= repeat:
            with suppress(PlatformUnavailableError):  # as for the look: it may be back before the deadline
                again(operation)
            repeat = time.monotonic() + _REPEAT_SECONDS
        state = observation.state.value.replace("_", " ")
        said = observation.message or (f"revision {service.revision}" if observation.state in SERVING else state)
        operation.progress(f"waiting for {service.name}: {said}")
        time.sleep(min(pause, operation.remaining()))
        pause = min(pause * 1.3, longest)


def _arrived(verb: Verb, service: Service, observation: Observation) -> bool:
    if verb == "stop":
        return observation.state is ServiceState.INACTIVE
    alone = observation.canary is None and observation.revision == service.revision
    if verb == "abort":  # what became of the server itself is another matter
        return alone or (observation.canary is None and observation.state in _ENDED)
    if verb in ("update", "promote"):
        return observation.state in SERVING and alone
    answers = verb == "start" or observation.canary == service.revision
    return observation.state in SERVING and answers


def _log_tail(deployer: BaseModelDeployer, service: Service) -> str:
    try:
        lines = list(deployer.do_logs(service, follow=False, tail=_LOG_LINES))
    except StackkitError:
        return ""
    return "\nThe end of its log:\n" + "\n".join(f"  {line}" for line in lines) if lines else ""
