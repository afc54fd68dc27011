"""What an observation means for a row: the one place that decides which state is written down.

A pure function of what was asked for, what was recorded and what the platform says, so that every combination can
be tested without a platform.
"""

from __future__ import annotations

from dataclasses import dataclass

from .config import ABORTED, PROMOTED, SERVING, Canary, Observation, ServiceState, Target


@dataclass(frozen=True)
class Settled:
    """The state and message to record."""

    state: ServiceState
    message: str


def settle(
    target: Target,
    recorded: ServiceState,
    message: str,
    revision: int,
    observation: Observation,
    canary: Canary | None = None,
) -> Settled:
    """What is true of a service that nobody is working on, given what its platform says.

    A server that should run and does not is in error, with the words that tell why; a start, stop or deletion that
    was interrupted is told as such, and so is a canary that does not answer, or that nobody asked for. An error's
    message stays until something else is seen.
    """
    if observation.state is ServiceState.INACTIVE:
        return _absent(target, recorded, message, observation)
    if observation.state in SERVING and target is not Target.ACTIVE:
        what, again = ("stop", "Stop") if target is Target.INACTIVE else ("deletion", "Delete")
        return Settled(observation.state, f"Its {what} was interrupted: it still runs. {again} it again.")
    if observation.state in SERVING and (told := _of_canary(revision, canary, observation)):
        return Settled(observation.state, told)
    if observation.state in SERVING and observation.revision not in (None, revision):
        return Settled(
            observation.state,
            f"Its update was interrupted: it still serves revision {observation.revision}. Start it, to have revision "
            f"{revision} served, or roll it back.",
        )
    if observation.state is ServiceState.ERROR:
        return Settled(ServiceState.ERROR, observation.message or message or "The platform reports an error.")
    return Settled(observation.state, observation.message)


def _of_canary(revision: int, canary: Canary | None, observation: Observation) -> str:
    """What is not as it should be with a canary; nothing when all is well."""
    if canary is None:
        if observation.canary in (None, revision):
            return ""
        return f"Revision {observation.canary} answers a part of its requests, and nobody asked for that: abort it."
    if canary.percent == ABORTED:
        return f"The abort of its canary, revision {canary.revision}, was interrupted: abort it again."
    if observation.revision == canary.revision:
        return f"The promotion of revision {canary.revision} was interrupted: it serves already. Promote it again."
    if canary.percent == PROMOTED:
        return f"The promotion of revision {canary.revision} was interrupted: promote it again, or abort it."
    if observation.canary != canary.revision:
        why = observation.update_error or observation.message or "nobody says that it does"
        return f"Its canary, revision {canary.revision}, does not answer: {why}"
    return ""


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
