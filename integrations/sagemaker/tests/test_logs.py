"""Reading an endpoint's log from CloudWatch."""

from __future__ import annotations

import time
from typing import Any

import pytest
from stackkit_sagemaker.clients import Clients
from stackkit_sagemaker.config import SageMakerModelDeployerConfig
from stackkit_sagemaker.logs import read_log

ID = "11111111-2222-4333-8444-555555555555"
GROUP = f"/aws/sagemaker/Endpoints/stackkit-{ID}"


class Log:
    """The log of an endpoint: what its instances write, at a time that is told."""

    def __init__(self, aws: Any) -> None:
        self._logs = aws.client("logs")
        self._start = int(time.time() * 1000) - 60_000
        self._logs.create_log_group(logGroupName=GROUP)
        for stream in ("one", "two"):
            self._logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)

    def write(self, stream: str, *events: tuple[int, str]) -> None:
        """Write messages, each at a number of milliseconds after the log's beginning."""
        found = [{"timestamp": self._start + at, "message": message} for at, message in events]
        self._logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=found)


@pytest.fixture
def log(aws: Any) -> Log:
    return Log(aws)


@pytest.fixture
def clients(attributes: dict[str, Any]) -> Clients:
    return Clients(SageMakerModelDeployerConfig(**attributes))


def read(clients: Clients, tail: int | None = None) -> list[str]:
    return list(read_log(clients, ID, follow=False, tail=tail, alive=lambda: True))


def test_there_may_be_none(clients: Clients, aws: Any) -> None:
    assert read(clients) == []
    assert read(clients, tail=3) == []


def test_what_several_instances_wrote_is_in_the_order_of_time(clients: Clients, log: Log) -> None:
    log.write("one", (1, "a"), (30, "d\n"))
    log.write("two", (10, "b"), (20, "c"))
    assert read(clients) == ["a", "b", "c", "d"]
    assert read(clients, tail=3) == ["b", "c", "d"]
    assert read(clients, tail=0) == []


@pytest.mark.parametrize(("tail", "shown"), [(None, ["a", "b", "b"]), (1, ["b"]), (0, [])], ids=str)
def test_following_shows_each_line_once(clients: Clients, log: Log, tail: int | None, shown: list[str]) -> None:
    log.write("one", (1, "a"), (5, "b"), (5, "b"))
    writes = [
        lambda: log.write("one", (5, "c"), (9_000, "e")),
        lambda: log.write("two", (7_000, "d, which came in late")),
        lambda: None,
    ]
    alive = [True, True, True, False]
    lines = read_log(
        clients, ID, follow=True, tail=tail, alive=lambda: alive.pop(0), wait=lambda seconds: writes.pop(0)()
    )
    expected = [*shown, "c", "e", "d, which came in late"]
    found = list(lines)
    assert found[-3:] == expected[-3:]
    # of equal lines of the very millisecond at which a tail begins, one more may be shown
    assert len(found) - len(expected) in ((0,) if tail is None else (0, 1))


def test_following_waits_for_a_log_that_is_not_there_yet(clients: Clients, aws: Any) -> None:
    writes = [lambda: Log(aws).write("one", (1, "a")), lambda: None]
    alive = [True, True, False]
    lines = read_log(
        clients, ID, follow=True, tail=10, alive=lambda: alive.pop(0), wait=lambda seconds: writes.pop(0)()
    )
    assert list(lines) == ["a"]
