"""Inference by the Open Inference Protocol (V2): a request's tensors to the model's input, its output to tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from .errors import BadRequestError, ModelFailedError
from .payloads import Payload, Shape, load_json
from .routing import Response
from .signature import Column, DataType, Signature

if TYPE_CHECKING:
    from .v2_tensors import Array

VERSION = "1"
"""The one version of its model that a server has."""

HEADER_LENGTH = "inference-header-content-length"
"""The header that says how long the JSON is in a body with binary data behind it."""

_LONGEST_LENGTH = 19
"""Digits of a length; Python refuses to read numbers that are very much longer."""

NAMELESS_OUTPUT = "predict"
"""What an output is called that has no name in the signature."""


class Inference:
    """One request for inference: arrays by name, and what is wanted of the reply."""

    def __init__(self, content: Mapping[str, Any], inputs: Mapping[str, Array]) -> None:
        self.inputs = inputs
        self.id = _typed(content, "id", str, "text")
        self.parameters = _typed(content, "parameters", dict, "an object") or {}
        self.outputs = _entries(content, "outputs") if _typed(content, "outputs", list, "a list") else None

    def params_of(self, signature: Signature | None) -> dict[str, Any] | None:
        """Those of the parameters that are the model's own; the others are the protocol's, or nobody's."""
        declared = {param.name for param in (signature.params if signature is not None else None) or ()}
        return {name: value for name, value in self.parameters.items() if name in declared} or None

    def wants_binary(self, output: Mapping[str, Any]) -> bool:
        parameters = output.get("parameters")
        default = self.parameters.get("binary_data_output", False)
        return (parameters.get("binary_data", default) if isinstance(parameters, dict) else default) is True


def read(body: bytes, header_length: str | None) -> Inference:
    """Read the body of a request for inference, whose JSON is ``header_length`` bytes long if binary data follows it.

    Raises BadRequestError.
    """
    from .v2_tensors import decode

    length = len(body)
    if header_length is not None:
        if not header_length.isdecimal() or len(header_length) > _LONGEST_LENGTH or int(header_length) > length:
            raise BadRequestError("Inference-Header-Content-Length is not the length of the JSON in the body.")
        length = int(header_length)
    content = load_json(body[:length])
    if not isinstance(content, dict):
        raise BadRequestError("The body must be a JSON object with inputs.")
    inputs: dict[str, Array] = {}
    place = length
    for entry in _entries(content, "inputs"):
        name = entry["name"]
        if name in inputs:
            raise BadRequestError(f"There are two inputs named {name}.")
        raw = None
        parameters = _typed(entry, "parameters", dict, "an object") or {}
        if (size := parameters.get("binary_data_size")) is not None:
            if type(size) is not int or not 0 <= size <= len(body) - place:
                raise BadRequestError(f"The binary data of the input {name} is not in the body.")
            raw = body[place : place + size]
            place += size
        inputs[name] = decode(entry, raw)
    if place != len(body):
        raise BadRequestError("The body holds binary data that belongs to no input.")
    return Inference(content, inputs)


def to_payload(inputs: Mapping[str, Array], signature: Signature | None) -> Payload:
    """The inputs as the model's signature names them: columns or tensors.

    Where a signature has columns, one matrix as wide as there are columns will do too. A single input without a
    counterpart in the signature is the model's whole input, whatever its name. Raises BadRequestError, also for an
    input that the signature does not have.
    """
    columns = signature.columns if signature is not None else None
    if columns is not None and columns[0].name is not None:
        return Payload(Shape.INPUTS, _columns(inputs, columns))
    tensors = signature.tensors if signature is not None else None
    is_known = signature is not None and not signature.is_partial
    if tensors is None or tensors[0].name is None:
        if len(inputs) == 1:
            (whole,) = map(_text, inputs.values())
            return Payload(Shape.INPUTS, whole if is_known and columns is None else whole.tolist())
        if not is_known:
            return Payload(Shape.INPUTS, {name: _text(values).tolist() for name, values in inputs.items()})
    elif len(tensors) == 1 and len(inputs) == 1 and tensors[0].name not in inputs:
        (whole,) = inputs.values()
        return Payload(Shape.INPUTS, {tensors[0].name: _text(whole)})
    else:
        _check_names(inputs, [str(tensor.name) for tensor in tensors])
    return Payload(Shape.INPUTS, {name: _text(values) for name, values in inputs.items()})


def _columns(inputs: Mapping[str, Array], columns: Sequence[Column]) -> dict[str, list[Any]]:
    names = [str(column.name) for column in columns]
    if len(inputs) == 1:
        ((name, values),) = inputs.items()
        if name not in names and values.ndim == 2 and values.shape[1] == len(names):
            inputs = {column: values[:, place] for place, column in enumerate(names)}
    _check_names(inputs, names)
    kinds = {column.name: column.type for column in columns}
    result = {}
    for name, values in inputs.items():
        if values.ndim != 1 and values.shape[1:] != (1,):
            raise BadRequestError(f"The input {name} is a column of the model's: its shape must be [-1] or [-1, 1].")
        flat = values.reshape(-1)
        result[name] = (flat if kinds[name] is DataType.BINARY else _text(flat)).tolist()
    return result


def _check_names(inputs: Mapping[str, Array], names: Sequence[str]) -> None:
    if unknown := [name for name in inputs if name not in names]:
        raise BadRequestError(f"The model has no input {', '.join(unknown)}; it has {', '.join(names)}.")


def _text(values: Array) -> Array:
    """Bytes that came in binary form as text, which most of them are; those that are not stay bytes."""
    if values.dtype.kind != "O":
        return values
    result = values.copy()
    flat = result.reshape(-1)
    for place, value in enumerate(flat):
        if isinstance(value, bytes):
            try:
                flat[place] = value.decode()
            except UnicodeDecodeError:
                return values
    return result


def write(predictions: Any, inference: Inference, name: str, signature: Signature | None) -> Response:
    """The reply to a request for inference. Raises BadRequestError for an output that there is not, ModelFailedError
    for predictions that the protocol has no form for.
    """
    from .v2_tensors import encode

    try:
        outputs = _outputs(predictions, signature)
        wanted = [{"name": each} for each in outputs] if inference.outputs is None else inference.outputs
        encoded = []
        for entry in wanted:
            if entry["name"] not in outputs:
                raise BadRequestError(f"The model has no output {entry['name']}; it has {', '.join(outputs)}.")
            encoded.append(encode(entry["name"], outputs[entry["name"]], is_binary=inference.wants_binary(entry)))
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelFailedError from error
    content: dict[str, Any] = {"model_name": name, "model_version": VERSION}
    if inference.id is not None:
        content["id"] = inference.id
    content["outputs"] = [entry for entry, _ in encoded]
    head = json.dumps(content, allow_nan=False).encode()
    if not any("binary_data_size" in entry.get("parameters", ()) for entry, _ in encoded):
        return Response(200, head)
    body = b"".join([head, *(raw for _, raw in encoded)])
    return Response(200, body, "application/octet-stream", {HEADER_LENGTH: str(len(head))})


def _outputs(predictions: Any, signature: Signature | None) -> dict[str, Array]:
    """Arrays by name: a frame's columns, a mapping's values, or the one output that the signature may have named."""
    if hasattr(predictions, "columns") and hasattr(predictions, "to_dict"):
        return {str(name): _array(values) for name, values in predictions.items()}
    if isinstance(predictions, Mapping):
        return {str(name): _array(values) for name, values in predictions.items()}
    declared = (signature.outputs if signature is not None else None) or ()
    name = declared[0].name if len(declared) == 1 else None
    return {name or NAMELESS_OUTPUT: _array(predictions)}


def _array(values: Any) -> Array:
    import numpy as np

    try:
        array = np.asarray(values)
    except ValueError:  # ragged: each row is an element
        array = np.empty(len(values), dtype=object)
        array[:] = values
    if array.dtype.kind == "O" and _has_gaps(array):
        array = array.astype("float64")
    return array.reshape(1) if array.ndim == 0 else array


def _has_gaps(array: Array) -> bool:
    """Whether it holds numbers, but for some that are missing."""
    missing = sum(value is None for value in array.flat)
    numbers = sum(isinstance(value, Real) and not isinstance(value, bool) for value in array.flat)
    return 0 < missing < array.size == missing + numbers


def _entries(content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list) or not entries:
        raise BadRequestError(f"The body must have a list of {key}.")
    if not all(isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries):
        raise BadRequestError(f"Each of {key} must be an object with a name.")
    return entries


def _typed(content: Mapping[str, Any], key: str, kind: type, words: str) -> Any:
    value = content.get(key)
    if not isinstance(value, kind | None):
        raise BadRequestError(f"{key} must be {words}.")
    return value
