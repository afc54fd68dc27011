"""The input file as chunks, whatever its format."""

from __future__ import annotations

import importlib
import json
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import IO, Any

from .. import payloads
from ..errors import RequestError
from ..payloads import Payload, Shape
from . import csv_chunks
from .chunks import Chunk, Rows
from .errors import BatchError, first_line
from .files import FileFormat
from .lines import Lines, lines_of, to_bytes


def chunks(file_format: FileFormat, content: IO[bytes], size: int, chat_keys: Collection[str] = ()) -> Iterator[Chunk]:
    """The file's rows, ``size`` at a time; JSON is read whole before the first of them.

    ``chat_keys`` are those of a model that takes chat requests. Raises BatchError for what is malformed or has no
    rows, RequestError for a document that is no request, and what reading the file raises.
    """
    match file_format:
        case FileFormat.CSV:
            return csv_chunks.chunks(content, size)
        case FileFormat.JSON_LINES:
            return _json_lines(content, size)
        case FileFormat.JSON:
            return _json(content, size, chat_keys)
        case FileFormat.PARQUET:
            return _parquet(content, size)


def _json_lines(content: IO[bytes], size: int) -> Iterator[Chunk]:
    read, is_empty = 0, True
    with lines_of(content) as text:
        while lines := list(islice(text, size)):
            place = Lines(read, lines)
            read += len(lines)
            if place.rows:
                is_empty = False
                yield Chunk(_decode_lines(place), place.rows, place)
    if is_empty:
        raise BatchError("There are no rows in the file.")


def _decode_lines(place: Lines) -> Payload:
    try:
        return payloads.decode_json_lines(to_bytes(place.lines))
    except RequestError:
        for number, line in enumerate(place.lines, place.first + 1):
            if line.isspace():
                continue
            try:
                json.loads(to_bytes([line]))
            except json.JSONDecodeError as error:
                raise BatchError(f"line {number}: it is not valid JSON: {error.msg} at column {error.colno}.") from None
            except (ValueError, RecursionError) as error:
                raise BatchError(f"line {number}: it cannot be read: {first_line(error)}.") from None
        raise


def _json(content: IO[bytes], size: int, chat_keys: Collection[str]) -> Iterator[Chunk]:
    body = content.read()
    if not body.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        data, params = payloads.decode_json(body, chat_keys)
        yield Chunk(data, None, None, params)
        return
    rows: Sequence[Any] = payloads.load_json(body)
    if not rows:
        raise BatchError("There are no rows in the file.")
    shape = Shape.RECORDS if all(isinstance(row, dict) for row in rows) else Shape.INSTANCES
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        yield Chunk(Payload(shape, part), len(part), Rows(first, len(part)))


def _parquet(content: IO[bytes], size: int) -> Iterator[Chunk]:
    pyarrow, parquet = import_parquet()
    try:
        file = parquet.ParquetFile(content)
    except (pyarrow.ArrowException, OSError) as error:
        raise BatchError(f"The file is not a Parquet file: {first_line(error)}") from None
    first = 0
    try:
        for batch in file.iter_batches(batch_size=size):
            frame = pyarrow.Table.from_batches([batch]).to_pandas()
            yield Chunk(Payload(Shape.PARQUET, frame), len(frame), Rows(first, len(frame)))
            first += len(frame)
    except pyarrow.ArrowException as error:
        raise BatchError(f"rows from {first + 1}: the Parquet file cannot be read: {first_line(error)}") from None
    if not first:
        raise BatchError("There are no rows in the file.")


def import_parquet() -> tuple[Any, Any]:
    """pyarrow and its Parquet part. Raises BatchError where it is not installed."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "pyarrow":
            raise
        raise BatchError(
            "Parquet needs pyarrow, which is not installed where the model runs.", "pip install pyarrow"
        ) from None
