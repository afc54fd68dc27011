"""What an observation means for a row, in every combination that matters."""

from __future__ import annotations

import itertools

import pytest

from stackkit.model_deployers import Canary, Observation, ServiceState, Target
from stackkit.model_deployers.states import settle

S = ServiceState


@pytest.mark.parametrize(
    ("target", "recorded", "seen", "state", "message"),
    [
        (Target.ACTIVE, S.ACTIVE, S.ACTIVE, S.ACTIVE, ""),
        (Target.ACTIVE, S.PENDING_STARTUP, S.ACTIVE, S.ACTIVE, ""),
        (Target.ACTIVE, S.ERROR, S.ACTIVE, S.ACTIVE, ""),
        (Target.ACTIVE, S.ACTIVE, S.INACTIVE, S.ERROR, "The server has died"),
        (Target.ACTIVE, S.PENDING_STARTUP, S.INACTIVE, S.ERROR, "Its start was interrupted"),
        (Target.ACTIVE, S.ERROR, S.INACTIVE, S.ERROR, "as it was"),
        (Target.ACTIVE, S.ACTIVE, S.PENDING_STARTUP, S.PENDING_STARTUP, ""),
        (Target.ACTIVE, S.ACTIVE, S.SCALED_TO_ZERO, S.SCALED_TO_ZERO, ""),
        (Target.INACTIVE, S.INACTIVE, S.INACTIVE, S.INACTIVE, ""),
        (Target.INACTIVE, S.PENDING_SHUTDOWN, S.INACTIVE, S.INACTIVE, ""),
        (Target.INACTIVE, S.ERROR, S.INACTIVE, S.INACTIVE, ""),
        (Target.INACTIVE, S.PENDING_SHUTDOWN, S.ACTIVE, S.ACTIVE, "Its stop was interrupted"),
        (Target.INACTIVE, S.INACTIVE, S.PENDING_SHUTDOWN, S.PENDING_SHUTDOWN, ""),
        (Target.DELETED, S.PENDING_SHUTDOWN, S.INACTIVE, S.INACTIVE, "Its deletion was interrupted"),
        (Target.DELETED, S.PENDING_SHUTDOWN, S.ACTIVE, S.ACTIVE, "Its deletion was interrupted"),
    ],
)
def test_what_is_recorded(target: Target, recorded: S, seen: S, state: S, message: str) -> None:
    settled = settle(target, recorded, "as it was", 1, Observation(seen))
    assert settled.state is state
    assert settled.message.startswith(message)
    assert bool(settled.message) is bool(message)


def test_an_error_carries_the_platforms_words_and_keeps_the_old_ones_without_any() -> None:
    assert settle(Target.ACTIVE, S.ACTIVE, "", 1, Observation(S.ERROR, "out of memory")).message == "out of memory"
    assert settle(Target.ACTIVE, S.ERROR, "before", 1, Observation(S.ERROR)).message == "before"


def test_a_death_carries_the_platforms_words() -> None:
    settled = settle(Target.ACTIVE, S.ACTIVE, "", 1, Observation(S.INACTIVE, "Killed by a signal."))
    assert settled.message == "The server has died: start it again. Killed by a signal."


def test_an_older_revision_that_still_serves_is_told() -> None:
    settled = settle(Target.ACTIVE, S.PENDING_STARTUP, "", 2, Observation(S.ACTIVE, revision=1))
    assert settled.state is S.ACTIVE
    assert "still serves revision 1" in settled.message


@pytest.mark.parametrize(("target", "recorded"), list(itertools.product(Target, S)))
def test_settling_what_was_settled_changes_nothing(target: Target, recorded: S) -> None:
    for seen in S:
        observation = Observation(seen, "words")
        once = settle(target, recorded, "before", 1, observation)
        assert settle(target, once.state, once.message, 1, observation) == once


@pytest.mark.parametrize(("target", "recorded"), list(itertools.product(Target, S)))
def test_nothing_is_called_active_that_was_not_seen_active(target: Target, recorded: S) -> None:
    for seen in set(S) - {S.ACTIVE}:
        assert settle(target, recorded, "", 1, Observation(seen)).state is not S.ACTIVE


@pytest.mark.parametrize(
    ("canary", "seen", "told"),
    [
        (Canary(2, 20), Observation(S.ACTIVE, revision=1, canary=2), ""),
        (Canary(2, 20), Observation(S.SCALED_TO_ZERO, revision=1, canary=2), ""),
        (Canary(2, 20), Observation(S.ACTIVE, revision=1), "revision 2, does not answer"),
        (Canary(2, 20), Observation(S.ACTIVE, revision=1, update_error="no room"), "does not answer: no room"),
        (Canary(2, 100), Observation(S.ACTIVE, revision=1, canary=2), "promote it again, or abort it"),
        (Canary(2, 100), Observation(S.ACTIVE, revision=2), "it serves already"),
        (Canary(2, 0), Observation(S.ACTIVE, revision=1, canary=2), "abort it again"),
        (Canary(2, 0), Observation(S.ACTIVE, revision=1), "abort it again"),
        (None, Observation(S.ACTIVE, revision=1, canary=2), "nobody asked for that"),
        (None, Observation(S.ACTIVE, revision=2, canary=1), "still serves revision 2"),
    ],
)
def test_what_is_told_of_a_canary(canary: Canary | None, seen: Observation, told: str) -> None:
    settled = settle(Target.ACTIVE, S.ACTIVE, "", 1, seen, canary)
    assert settled.state is seen.state
    assert told in settled.message
    assert bool(settled.message) is bool(told)
