"""Reading what the containers of an endpoint have written, in CloudWatch Logs.

SageMaker keeps one log group for each endpoint's name, and in it one stream for each instance that ever served it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from .clients import Clients
from .errors import is_missing
from .names import endpoint_name

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

_POLL_SECONDS = 2.0
_STREAMS = 20  # the newest instances: a tail is not asked of those long gone
_MOST_EVENTS = 10_000  # in one answer of GetLogEvents
_LATE_MS = 15_000  # how much later than its own time an event may come in

Event = Mapping[str, Any]


def read_log(
    clients: Clients,
    service_id: str,
    *,
    follow: bool,
    tail: int | None,
    alive: Callable[[], bool],
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """The lines of the log, oldest first: all or the last ``tail``, and with ``follow`` those to come while ``alive``.

    Nothing when there is no log yet. Raises PlatformUnavailableError.
    """
    group = f"/aws/sagemaker/Endpoints/{endpoint_name(service_id)}"
    newest, last = 0, Counter[tuple[str, int, str]]()
    with clients.calling("The log cannot be read"):
        for event in _all(clients.logs, group) if tail is None else _tail(clients.logs, group, max(tail, 1)):
            if event["timestamp"] > newest:
                newest, last = event["timestamp"], Counter()
            last[_key(event)] += 1
            if tail != 0:
                yield _line(event)
    if not follow:
        return
    seen: dict[str, int] = {}
    start = newest
    while True:
        still_alive = alive()
        with clients.calling("The log cannot be read"):
            for event in _all(clients.logs, group, start):
                if event["eventId"] in seen:
                    continue
                seen[event["eventId"]] = event["timestamp"]
                if last[_key(event)] > 0:
                    last[_key(event)] -= 1
                    continue
                yield _line(event)
        if not still_alive:
            return
        # events of several instances come in out of order: look again at those that are not long past
        start = max(start, max(seen.values(), default=0) - _LATE_MS)
        seen = {event_id: at for event_id, at in seen.items() if at >= start}
        wait(_POLL_SECONDS)


def _all(logs: CloudWatchLogsClient, group: str, start: int = 0) -> Iterator[Event]:
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=start)
    try:
        for page in pages:
            yield from sorted(page.get("events", []), key=lambda event: event["timestamp"])
    except ClientError as error:
        if not is_missing(error):
            raise


def _tail(logs: CloudWatchLogsClient, group: str, tail: int) -> list[Event]:
    events: list[Event] = []
    try:
        streams = logs.describe_log_streams(
            logGroupName=group, orderBy="LastEventTime", descending=True, limit=_STREAMS
        )["logStreams"]
        for stream in streams:
            name = stream["logStreamName"]
            page = logs.get_log_events(
                logGroupName=group, logStreamName=name, startFromHead=False, limit=min(tail, _MOST_EVENTS)
            )
            events += [{**event, "logStreamName": name} for event in page["events"]]
    except ClientError as error:
        if not is_missing(error):
            raise
    return sorted(events, key=lambda event: event["timestamp"])[-tail:]


def _line(event: Event) -> str:
    return str(event["message"]).rstrip("\n")


def _key(event: Event) -> tuple[str, int, str]:
    return event["logStreamName"], event["timestamp"], event["message"]
