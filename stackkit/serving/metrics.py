"""What a server counts, in memory that its processes share, and the text in which Prometheus reads it.

Each process writes to a region of its own, so that no lock is needed; whichever worker is asked adds them up. A region
outlives its process: the counts go on when a worker is replaced. Standard library only.

A region is a row of entries: length of the key and number of values (two 32-bit integers), the key padded to 8 bytes,
the values as doubles. The key is the sample's name with its labels; a key of length 0 ends the row.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from .errors import RequestError
from .routing import Request, Response, RouteTable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REGION = 64 * 1024
"""Bytes of one process's region: some 300 combinations of route and status."""

_HEAD = struct.Struct("=II")
_DOUBLE = 8


@dataclass(frozen=True)
class Family:
    """A metric. Gauges speak of a process that lives: they are zero again when it ends."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    buckets: tuple[float, ...] = ()
    combine: Literal["sum", "max"] = "sum"


REQUESTS = Family("stackkit_http_requests_total", "counter", "Requests answered, by route and status.")
DURATION = Family(
    "stackkit_http_request_duration_seconds",
    "histogram",
    "Seconds from a request's head to the end of its reply, by route.",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
IN_FLIGHT = Family("stackkit_http_requests_in_flight", "gauge", "Requests that are being answered.")
QUEUE_DEPTH = Family("stackkit_queue_depth", "gauge", "Requests that wait for the model.")
BATCH_ROWS = Family(
    "stackkit_batch_rows",
    "histogram",
    "Rows in one call of the model.",
    (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384, 65536),
)
LOAD_SECONDS = Family("stackkit_model_load_seconds", "gauge", "Seconds that loading the model took.", combine="max")
RESTARTS = Family("stackkit_worker_restarts_total", "counter", "Workers that were replaced after they died.")

_FAMILIES = {
    family.name: family for family in (REQUESTS, DURATION, IN_FLIGHT, QUEUE_DEPTH, BATCH_ROWS, LOAD_SECONDS, RESTARTS)
}


def routes(metrics: Metrics, write_error: Callable[[RequestError], bytes]) -> RouteTable:
    """``/metrics``, whose answer is the whole server's, not this process's alone."""

    async def get(_: Request) -> Response:
        return Response(200, metrics.memory.expose(), CONTENT_TYPE)

    return RouteTable({"/metrics": {"GET": get}}, write_error)


class Sample:
    """One number, of a counter or a gauge."""

    def __init__(self, cells: memoryview[float], at: int) -> None:
        self._cells = cells
        self._at = at

    def add(self, amount: float) -> None:
        self._cells[self._at] += amount

    def set(self, value: float) -> None:
        self._cells[self._at] = value


class Histogram:
    """Counts of observed values by upper bound, and their sum."""

    def __init__(self, cells: memoryview[float], at: int, buckets: Sequence[float]) -> None:
        self._cells = cells
        self._at = at
        self._buckets = buckets

    def observe(self, value: float) -> None:
        self._cells[self._at + bisect_left(self._buckets, value)] += 1
        self._cells[self._at + len(self._buckets) + 1] += value


class Memory:
    """The regions of one server's processes, in a file without a name that they inherit by its descriptor."""

    def __init__(self, descriptor: int) -> None:
        """Map what ``create`` made. The descriptor may be closed afterwards."""
        self._map = mmap.mmap(descriptor, 0)

    @staticmethod
    def create(regions: int) -> int:
        """The descriptor of new memory, all zero. Raises OSError."""
        with tempfile.TemporaryFile(buffering=0) as file:
            file.truncate(regions * REGION)
            return os.dup(file.fileno())

    def region(self, number: int) -> memoryview:
        return memoryview(self._map)[number * REGION : (number + 1) * REGION]

    def expose(self) -> bytes:
        """All regions added up, as Prometheus' text. What a process of another version counts is left out."""
        totals: dict[str, list[float]] = {}
        for number in range(len(self._map) // REGION):
            for key, values in _read(self.region(number)):
                family = _FAMILIES.get(key.partition("{")[0])
                if family is None or len(values) != _width(family):
                    continue
                before = totals.get(key, [0.0] * len(values))
                totals[key] = [
                    a + b if family.combine == "sum" else max(a, b) for a, b in zip(before, values, strict=True)
                ]
        lines: list[str] = []
        for family in _FAMILIES.values():
            lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
            for key in sorted(totals):
                name, _, labels = key.partition("{")
                if name == family.name:
                    lines += _samples(family, labels.removesuffix("}"), totals[key])
        return "\n".join([*lines, ""]).encode()


class Metrics:
    """What one process counts. A region is written by one process at a time, each sample by one thread at a time."""

    def __init__(self, memory: Memory, region: int) -> None:
        """Go on with what the region holds."""
        self.memory = memory
        self._region = memory.region(region)
        self._cells = self._region.cast("d")
        self._found: dict[str, int] = {}
        self._end = 0
        for key, at, width in _entries(self._region):
            self._found[key] = at
            self._end = (at + width) * _DOUBLE
        reset_gauges(memory, region)

    @classmethod
    def alone(cls) -> Metrics:
        """Metrics of a process that shares them with no other."""
        descriptor = Memory.create(1)
        try:
            return cls(Memory(descriptor), 0)
        finally:
            os.close(descriptor)

    def sample(self, family: Family, **labels: str) -> Sample:
        """The counter or gauge with these labels. Their values are ours: routes and statuses, never what came in."""
        return Sample(self._cells, self._place(family, labels))

    def histogram(self, family: Family, **labels: str) -> Histogram:
        return Histogram(self._cells, self._place(family, labels), family.buckets)

    def _place(self, family: Family, labels: dict[str, str]) -> int:
        key = family.name
        if labels:
            key += "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
        if key not in self._found:
            self._found[key] = self._append(key, _width(family))
        return self._found[key]

    def _append(self, key: str, width: int) -> int:
        encoded = key.encode()
        start = self._end + _HEAD.size
        at = -(-(start + len(encoded)) // _DOUBLE)
        end = (at + width) * _DOUBLE
        if end + _HEAD.size > len(self._region):
            raise MemoryError("there is no room for more metrics")
        self._region[start : start + len(encoded)] = encoded
        # last, because it is what makes the entry visible to whoever reads at this moment
        _HEAD.pack_into(self._region, self._end, len(encoded), width)
        self._end = end
        return at


def reset_gauges(memory: Memory, region: int) -> None:
    """Set a region's gauges to zero: its process has ended, or begins."""
    view = memory.region(region)
    for key, at, width in _entries(view):
        family = _FAMILIES.get(key.partition("{")[0])
        if family is not None and family.kind == "gauge":
            view[at * _DOUBLE : (at + width) * _DOUBLE] = bytes(width * _DOUBLE)


def _entries(region: memoryview) -> Iterator[tuple[str, int, int]]:
    """Each entry's key, the place of its first value counted in doubles, and how many values it has."""
    offset = 0
    while offset + _HEAD.size <= len(region):
        length, width = _HEAD.unpack_from(region, offset)
        if not length:
            return
        start = offset + _HEAD.size
        at = -(-(start + length) // _DOUBLE)
        yield bytes(region[start : start + length]).decode("utf-8", "replace"), at, width
        offset = (at + width) * _DOUBLE


def _read(region: memoryview) -> Iterator[tuple[str, list[float]]]:
    for key, at, width in _entries(region):
        yield key, list(struct.unpack_from(f"={width}d", region, at * _DOUBLE))


def _width(family: Family) -> int:
    """How many values an entry has: of a histogram each bucket's count, those above all, and the sum."""
    return len(family.buckets) + 2 if family.kind == "histogram" else 1


def _samples(family: Family, labels: str, values: Sequence[float]) -> Iterator[str]:
    if family.kind != "histogram":
        yield f"{family.name}{'{' + labels + '}' if labels else ''} {values[0]:.16g}"
        return
    *counts, total = values
    bounds = [*(f"{bound:g}" for bound in family.buckets), "+Inf"]
    cumulative = list(accumulate(counts))
    prefix = f"{labels}," if labels else ""
    for bound, count in zip(bounds, cumulative, strict=True):
        yield f'{family.name}_bucket{{{prefix}le="{bound}"}} {count:.16g}'
    braces = f"{{{labels}}}" if labels else ""
    yield f"{family.name}_sum{braces} {total:.16g}"
    yield f"{family.name}_count{braces} {cumulative[-1]:.16g}"
