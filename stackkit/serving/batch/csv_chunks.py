"""CSV cut between its rows, each part below the line of column names: what a request for these rows would hold."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO

from ..payloads import Payload, Shape
from .chunks import Chunk
from .errors import BatchError
from .lines import BYTE_ORDER_MARK, Lines, lines_of, to_bytes


@dataclass(frozen=True)
class CsvChunk(Chunk):
    """Some of the rows, none of which should have more values than ``width``."""

    place: Lines
    width: int = 0

    def diagnose(self) -> str | None:
        begin = 0
        reader = csv.reader(self.place.lines)
        for values in reader:
            where = f"line {self.place.first + begin + 1}"
            if len(values) > self.width:
                return _misfit(where, len(values), self.width)
            try:
                to_bytes(values).decode()
            except UnicodeDecodeError:
                return f"{where}: it is not valid UTF-8."
            begin = reader.line_num
        return None


def chunks(content: IO[bytes], size: int) -> Iterator[CsvChunk]:
    """Chunks of ``size`` lines, or a few more where the last row goes on.

    Raises BatchError when there are no rows, or when the first row of a chunk has more values than there are names.
    """
    csv.field_size_limit(sys.maxsize)  # its guard against long values is one for servers
    with lines_of(content) as text:
        header = _header(text)
        names = _count(header.lines)
        read = header.first + len(header.lines)
        width = 0
        while lines := list(islice(text, size)):
            place = Lines(read, lines, _complete(lines, text))
            read += len(lines)
            if not place.rows:
                continue
            values = _count(lines[place.start(0) :])
            width = width or max(names, values)
            # one value more than names is a label to pandas, when the first row has it: the file's, not a chunk's
            if values != width and max(values, width) > names:
                raise BatchError(_misfit(place.of(0), values, width))
            data = Payload(Shape.CSV, to_bytes([*header.lines, *lines]))
            yield CsvChunk(data, place.rows, place, width=width)
    if not width:
        raise BatchError("There are no rows below the line of column names.")


def _header(text: Iterator[str]) -> Lines:
    before = 0
    while lines := list(islice(text, 1)):
        lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK) if before == 0 else lines[0]
        if not lines[0].isspace():
            _complete(lines, text)
            return Lines(before, lines)
        before += 1
    raise BatchError("The file is empty: expected a line of column names.")


def _complete(lines: list[str], rest: Iterator[str]) -> Sequence[int] | None:
    """Add to ``lines`` those in which the last row goes on; the line in which each row begins, None when each line is
    a row of its own.
    """
    if not any('"' in line for line in lines):
        return None
    given = len(lines)

    def source() -> Iterator[str]:
        yield from lines[:given]
        for line in rest:
            lines.append(line)
            yield line

    starts = []
    begin = 0
    reader = csv.reader(source())
    for _ in reader:
        if reader.line_num > begin + 1 or not lines[begin].isspace():
            starts.append(begin)
        begin = reader.line_num
        if begin >= given:
            break
    return starts


def _count(lines: Sequence[str]) -> int:
    """How many values the row has that the lines begin with."""
    return len(next(csv.reader(lines)))


def _misfit(where: str, values: int, width: int) -> str:
    return f"{where}: the row has {values} values, where {width} are expected."
