from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from stackkit.serving.app import App
from stackkit.serving.metrics import (
    BATCH_ROWS,
    IN_FLIGHT,
    LOAD_SECONDS,
    REGION,
    REQUESTS,
    RESTARTS,
    Memory,
    Metrics,
    reset_gauges,
)


@pytest.fixture
def memory() -> Memory:
    descriptor = Memory.create(3)
    try:
        return Memory(descriptor)
    finally:
        os.close(descriptor)


def value(memory: Memory, sample: str) -> float | None:
    found = re.search(f"^{re.escape(sample)} (.*)$", memory.expose().decode(), re.M)
    return None if found is None else float(found[1])


def test_every_region_is_added_up(memory: Memory) -> None:
    for region in (0, 1, 2):
        Metrics(memory, region).sample(REQUESTS, route="/ping", status="200").add(region + 1)
    Metrics(memory, 1).sample(REQUESTS, route="/ping", status="503").add(1)
    assert value(memory, 'stackkit_http_requests_total{route="/ping",status="200"}') == 6
    assert value(memory, 'stackkit_http_requests_total{route="/ping",status="503"}') == 1


def test_the_longest_load_is_the_one_that_counts(memory: Memory) -> None:
    for region, seconds in ((1, 2.5), (2, 4.0)):
        Metrics(memory, region).sample(LOAD_SECONDS).set(seconds)
    assert value(memory, "stackkit_model_load_seconds") == 4


def test_a_histogram_is_cumulative(memory: Memory) -> None:
    for region, rows in ((1, 1), (1, 2), (2, 3), (2, 1_000_000)):
        Metrics(memory, region).histogram(BATCH_ROWS).observe(rows)
    buckets = {
        bound: value(memory, f'stackkit_batch_rows_bucket{{le="{bound}"}}') for bound in (1, 2, 4, 65536, "+Inf")
    }
    assert buckets == {1: 1, 2: 2, 4: 3, 65536: 3, "+Inf": 4}
    assert value(memory, "stackkit_batch_rows_count") == 4
    assert value(memory, "stackkit_batch_rows_sum") == 1_000_006


def test_a_process_goes_on_counting_where_the_one_before_it_ended(memory: Memory) -> None:
    for _ in range(2):
        metrics = Metrics(memory, 1)
        metrics.sample(RESTARTS).add(1)
        metrics.sample(IN_FLIGHT).add(1)
    assert value(memory, "stackkit_worker_restarts_total") == 2
    assert value(memory, "stackkit_http_requests_in_flight") == 1
    reset_gauges(memory, 1)
    assert value(memory, "stackkit_http_requests_in_flight") == 0
    assert value(memory, "stackkit_worker_restarts_total") == 2


def test_metrics_of_another_version_are_left_out(memory: Memory) -> None:
    metrics = Metrics(memory, 1)
    metrics._append("stackkit_of_the_future", 1)
    metrics._append("stackkit_batch_rows", 3)
    metrics.sample(RESTARTS).add(1)
    text = memory.expose().decode()
    assert "future" not in text
    assert "stackkit_batch_rows_sum" not in text
    assert value(memory, "stackkit_worker_restarts_total") == 1


def test_a_region_that_is_full_is_never_overrun(memory: Memory) -> None:
    metrics = Metrics(memory, 1)
    with pytest.raises(MemoryError):
        for number in range(REGION):
            metrics.sample(REQUESTS, route=f"/{number}", status="200").add(1)
    assert list(memory.region(2)) == [0] * REGION
    assert value(memory, 'stackkit_http_requests_total{route="/7",status="200"}') == 1


def test_every_line_is_prometheus_text(memory: Memory) -> None:
    Metrics(memory, 0).sample(REQUESTS, route="/ping", status="200").add(1)
    Metrics(memory, 0).histogram(BATCH_ROWS).observe(3)
    text = memory.expose().decode()
    assert text.endswith("\n")
    comment = r"# (HELP \w+ .+|TYPE \w+ (counter|gauge|histogram))"
    sample = r'\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [0-9.e+]+'
    assert [line for line in text.splitlines() if not re.fullmatch(f"{comment}|{sample}", line)] == []


def test_its_errors_are_json(make_app: Callable[..., App], call: Callable[..., Any]) -> None:
    reply = call(make_app(lambda data: data), "/metrics")
    assert (reply.status, reply.content["error_code"]) == (405, "BAD_REQUEST")


def test_requests_are_counted_by_route_and_status(make_app: Callable[..., App], call: Callable[..., Any]) -> None:
    app = make_app(lambda data: data)
    for _ in range(3):
        call(app, body={"inputs": [1]})
    call(app, body=b"{}")
    call(app, "/secret/path", method="GET")
    reply = call(app, "/metrics", method="GET")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = reply.body.decode().splitlines()
    for expected in (
        'stackkit_http_requests_total{route="/invocations",status="200"} 3',
        'stackkit_http_requests_total{route="/invocations",status="400"} 1',
        'stackkit_http_requests_total{route="none",status="404"} 1',
        'stackkit_http_request_duration_seconds_count{route="/invocations"} 4',
        "stackkit_batch_rows_count 3",
        "stackkit_http_requests_in_flight 1",
        "stackkit_queue_depth 0",
    ):
        assert expected in lines
    assert "secret" not in reply.body.decode()
