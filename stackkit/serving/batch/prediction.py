"""The model called with chunk after chunk of a file, and what it answers written to another."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from ..cells import UnfitCellError
from ..errors import RequestError
from ..models import Model
from ..signature import DataType, Signature
from . import files, inputs, outputs
from .chunks import Chunk
from .errors import BatchError, ModelBrokenError, first_line

Report = Callable[[int, float | None], None]
"""Told after each chunk how many rows are done, and what part of the input's bytes, None when it has no size."""


def predict_file(
    model: Model, source: Path, target: Path, *, params: Mapping[str, Any] | None, chunk_size: int, report: Report
) -> int:
    """Write the model's predictions for the rows in ``source`` to ``target``; gives how many they are.

    The model is called with ``chunk_size`` rows at a time, and with ``params``, which take the place of those of the
    same name that a JSON request in ``source`` has. ``target`` is there when all is written, and unchanged when
    anything is raised: BatchError for rows that do not fit, for predictions that cannot be written and for what the
    model raises, OSError for the files.
    """
    done = 0
    with files.reading(source) as (content, file), files.replacing(target) as result:
        size = source.stat().st_size
        with (
            closing(outputs.output(files.file_format(target), result, model.signature)) as writer,
            closing(_chunks(model, source, content, chunk_size)) as chunks,
        ):
            for chunk in chunks:
                predictions = _predict(model, source, chunk, params)
                done += _write(writer, predictions, source, chunk)
                report(done, file.tell() / size if size else None)
    return done


def read_params(given: Sequence[tuple[str, str]], signature: Signature | None) -> dict[str, Any] | None:
    """The values that ``given`` names and text stand for: text where the signature says text, dates or bytes, else
    JSON, or again the text when it is no JSON. None when nothing is given.

    Raises BatchError for a name that the signature does not have.
    """
    if not given:
        return None
    declared = {param.name: param for param in (signature and signature.params) or ()}
    values = {}
    for name, text in given:
        if signature is not None and name not in declared:
            names = ", ".join(declared) or "none"
            raise BatchError(f"The model has no parameter {name}.", f"Its signature declares: {names}.")
        param = declared.get(name)
        is_text = param and not param.is_list and param.type in (DataType.STRING, DataType.BINARY, DataType.DATETIME)
        values[name] = text if is_text else _json_or_text(text)
    return values


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _chunks(model: Model, source: Path, content: IO[bytes], size: int) -> Generator[Chunk]:
    try:
        yield from inputs.chunks(files.file_format(source), content, size, model.chat_keys)
    except BatchError as error:
        raise BatchError(f"{source}: {error.message}", error.hint) from error
    except RequestError as error:
        raise BatchError(f"{source}: {error.message}") from error
    except (EOFError, OSError, zlib.error) as error:
        raise BatchError(f"{source} cannot be read: {first_line(error)}.") from error


def _predict(model: Model, source: Path, chunk: Chunk, params: Mapping[str, Any] | None) -> Any:
    given = chunk.params
    if params is not None:
        given = {**given, **params} if isinstance(given, Mapping) else params
    try:
        return model.predict(chunk.data, given)
    except UnfitCellError as error:
        where = f"row {error.row + 1}" if chunk.place is None else chunk.place.of(error.row)
        wrong = f"the value of {error.column.name} is not of type {error.column.type}: {error.reason}."
        raise BatchError(f"{source}: {where}: {wrong}") from error
    except RequestError as error:
        if (found := chunk.diagnose()) is not None:
            raise BatchError(f"{source}: {found}") from error
        raise BatchError(f"{_whole(source, chunk)}: {error.message}") from error
    except (ValueError, TypeError) as error:
        raise BatchError(f"{_whole(source, chunk)}: the model refused the input: {first_line(error)}") from error
    except (Exception, SystemExit) as error:  # a model that calls exit() has predicted nothing
        told = f"the model failed with {type(error).__name__}: {first_line(error)}"
        raise ModelBrokenError(f"{_whole(source, chunk)}: {told}") from error


def _write(writer: outputs.Output, predictions: Any, source: Path, chunk: Chunk) -> int:
    try:
        return writer.write(predictions, chunk)
    except BatchError as error:
        raise BatchError(f"{_whole(source, chunk)}: {error.message}", error.hint) from error
    except (TypeError, ValueError, RecursionError) as error:
        message = f"the predictions cannot be written: {first_line(error)}"
        raise BatchError(f"{_whole(source, chunk)}: {message}") from error


def _whole(source: Path, chunk: Chunk) -> str:
    return str(source) if chunk.place is None else f"{source}: {chunk.place}"
