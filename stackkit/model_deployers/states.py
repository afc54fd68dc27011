"""What an observation means for a row: the one place that decides which state is written down.

A pure function of what was asked for, what was recorded and what the platform says, so that every combination can
be tested without a platform.
"""

from __future__ import annotations

from dataclasses import dataclass

from .config import Observation, ServiceState, Target

_SERVING = (ServiceState.ACTIVE, ServiceState.SCALED_TO_ZERO)


@dataclass(frozen=True)
class Settled:
    """The state and message to record."""

    state: ServiceState
    message: str


def settle(target: Target, recorded: ServiceState, message: str, revision: int, observation: Observation) -> Settled:
    """What is true of a service that nobody is working on, given what its platform says.

    A server that should run and does not is in error, with the words that tell why; a start, stop or deletion that
    was interrupted is told as such. An error's message stays until something else is seen.
    """
    if observation.state is ServiceState.INACTIVE:
        return _absent(target, recorded, message, observation)
    if observation.state in _SERVING and target is not Target.ACTIVE:
        what = "stop" if target is Target.INACTIVE else "deletion"
        return Settled(observation.state, f"Its {what} was interrupted: it still runs.")
    if observation.state in _SERVING and observation.revision not in (None, revision):
        return Settled(
            observation.state, f"Its update was interrupted: it still serves revision {observation.revision}."
        )
    if observation.state is ServiceState.ERROR:
        return Settled(ServiceState.ERROR, observation.message or message or "The platform reports an error.")
    return Settled(observation.state, observation.message)


def _absent(target: Target, recorded: ServiceState, message: str, observation: Observation) -> Settled:
    if target is Target.INACTIVE:
        return Settled(ServiceState.INACTIVE, "")
    if target is Target.DELETED:
        return Settled(ServiceState.INACTIVE, "Its deletion was interrupted: delete it again.")
    if recorded is ServiceState.ERROR:
        return Settled(ServiceState.ERROR, message)
    if recorded is ServiceState.PENDING_STARTUP:
        told = "Its start was interrupted: start it again."
    else:
        told = "The server has died: start it again."
    return Settled(ServiceState.ERROR, f"{told} {observation.message}".strip())
