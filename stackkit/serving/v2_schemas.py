"""JSON schemas of the Open Inference Protocol's (V2) bodies for one model, and an example of a request.

How many values there are is the product of a shape's sizes, which no schema can say: axes of any length are shown with
length one, that of the rows among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .cells import LARGEST_FLOAT32
from .schemas import BASE64, DATE, EXAMPLES, NULL, Schema, may_be_null, object_schema, params_schema
from .signature import Column, DataType, Signature, Tensor
from .v2 import COLUMN_DATATYPES, NAMELESS_INPUT, described
from .v2_inference import NAMELESS_OUTPUT

_VALUES: dict[str, Schema] = {
    "BOOL": {"type": "boolean"},
    **{f"UINT{bits}": {"type": "integer", "minimum": 0, "maximum": 2**bits - 1} for bits in (8, 16, 32, 64)},
    **{
        f"INT{bits}": {"type": "integer", "minimum": -(2 ** (bits - 1)), "maximum": 2 ** (bits - 1) - 1}
        for bits in (8, 16, 32, 64)
    },
    "FP16": {"type": "number", "minimum": -65504, "maximum": 65504},
    "FP32": {"type": "number", "minimum": -LARGEST_FLOAT32, "maximum": LARGEST_FLOAT32},
    "FP64": {"type": "number"},
    "BYTES": {"type": "string"},
}
"""One value of each datatype, in JSON."""

_TEXTS: dict[DataType, Schema] = {DataType.BINARY: BASE64, DataType.DATETIME: {"type": "string", "pattern": DATE}}
"""One value of the columns whose BYTES are not any text."""

_TEXT: Schema = {"type": "string"}
_SIZES: Schema = {"type": "array", "items": {"type": "integer"}}
_DESCRIBED = {"name": _TEXT, "datatype": {"enum": list(_VALUES)}, "shape": _SIZES}
_FIELDS: Schema = {"type": "array", "items": object_schema(_DESCRIBED, list(_DESCRIBED))}

METADATA = object_schema(
    {
        "name": _TEXT,
        "versions": {"type": "array", "items": _TEXT},
        "platform": _TEXT,
        "inputs": _FIELDS,
        "outputs": _FIELDS,
    },
    ["name", "versions", "platform", "inputs", "outputs"],
)
"""What is said of a model."""

INFERENCE = object_schema(
    {
        "model_name": _TEXT,
        "model_version": _TEXT,
        "id": _TEXT,
        "outputs": {
            "type": "array",
            "items": object_schema(_DESCRIBED | {"data": {"type": "array"}}, [*_DESCRIBED, "data"]),
        },
    },
    ["model_name", "model_version", "outputs"],
)
"""The reply to a request for inference, when none of its outputs is wanted in binary form."""

_ANY_INPUT = object_schema(
    {
        "name": _TEXT,
        "datatype": {"enum": list(_VALUES)},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "data": {"type": "array"},
    },
    [*_DESCRIBED, "data"],
)


def inference_schema(signature: Signature | None) -> Schema:
    """The body of a request for inference, without binary data: the inputs of one row, in the signature's order but for
    optional ones, which come last, so that they may be left out.
    """
    properties: dict[str, Schema] = {"id": {"type": ["string", "null"]}, "inputs": _inputs(signature)}
    if signature is not None and signature.params:
        properties["parameters"] = params_schema(signature.params)
    if signature is not None and signature.outputs:
        names = [field["name"] for field in described(signature.outputs, NAMELESS_OUTPUT)]
        wanted = object_schema({"name": {"enum": names}}, ["name"])
        properties["outputs"] = {"type": ["array", "null"], "items": wanted}
    return object_schema(properties, ["inputs"])


def inference_example(signature: Signature | None, scoring: Any) -> Any:
    """A request for inference that the model can answer, made from its signature; for a model without inputs in it,
    from a ``scoring`` request that it can answer, where that is rows of numbers.
    """
    fields = _uniform_inputs(signature)
    if fields:
        entries = described(fields, NAMELESS_INPUT)
        values = [_example(field) for field in fields][: len(entries)]
    else:
        rows = scoring.get("inputs") if isinstance(scoring, Mapping) else None
        row = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], list) else [0.0]
        entries = [{"name": NAMELESS_INPUT, "datatype": "FP64", "shape": [1, len(row)]}]
        values = [0.0]
    inputs = []
    for entry, value in zip(entries, values, strict=True):
        shape = _of_one_row(entry["shape"])
        inputs.append(entry | {"shape": shape, "data": [value] * math.prod(shape)})
    return {"inputs": inputs}


def _inputs(signature: Signature | None) -> Schema:
    fields = _uniform_inputs(signature)
    if signature is None or not fields:
        return {"type": "array", "items": _ANY_INPUT, "minItems": 1}
    is_named = fields[0].name is not None and not (len(fields) == 1 and isinstance(fields[0], Tensor))
    entries = described(fields, NAMELESS_INPUT)
    inputs = [
        _input(entry, _value(field, signature), is_named=is_named)
        for entry, field in zip(entries, fields, strict=False)  # what has no name is one entry
    ]
    required = sum(map(_is_required, fields[: len(entries)]))
    return {"type": "array", "prefixItems": inputs, "minItems": max(required, 1), "maxItems": len(inputs)}


def _uniform_inputs(signature: Signature | None) -> Sequence[Column | Tensor]:
    """What the signature says of each input, optional ones behind the others; nothing when it has columns of several
    types without names, for whose one tensor there is no one datatype.
    """
    if signature is None or signature.inputs is None:
        return ()
    columns = signature.columns
    is_mixed = columns is not None and columns[0].name is None and len({column.type for column in columns}) > 1
    return () if is_mixed else sorted(signature.inputs, key=_is_required, reverse=True)


def _is_required(field: Column | Tensor) -> bool:
    return isinstance(field, Tensor) or field.required


def _input(entry: Mapping[str, Any], value: Schema, *, is_named: bool) -> Schema:
    shape = _of_one_row(entry["shape"])
    count = math.prod(shape)
    data: Schema = {"type": "array", "items": value, "minItems": count, "maxItems": count}
    if len(shape) > 1:
        data = {"anyOf": [data, _nested(shape, value)]}
    properties: dict[str, Schema] = {
        "name": {"const": entry["name"]} if is_named else _TEXT,
        "datatype": {"const": entry["datatype"]},
        "shape": {"const": shape},
        "data": data,
    }
    return object_schema(properties, list(properties))


def _value(field: Column | Tensor, signature: Signature) -> Schema:
    """One value of an input. Null is a number that is missing, or text, unless the model needs each of them."""
    if isinstance(field, Tensor):
        (entry,) = described([field], NAMELESS_INPUT)
        value, is_nullable = _VALUES[entry["datatype"]], entry["datatype"].startswith("FP") and signature.takes_null
    else:
        value = _TEXTS.get(field.type, _VALUES[COLUMN_DATATYPES[field.type]])
        is_nullable = may_be_null(field) and (signature.takes_null or not field.required)
    return {"anyOf": [value, NULL]} if is_nullable and not signature.has_type_hints else value


def _example(field: Column | Tensor) -> Any:
    if isinstance(field, Column):
        return EXAMPLES[field.type]
    (entry,) = described([field], NAMELESS_INPUT)
    return {"BOOL": False, "BYTES": "text"}.get(entry["datatype"], 0)


def _of_one_row(shape: Sequence[int]) -> list[int]:
    return [1 if size == -1 else size for size in shape]


def _nested(shape: Sequence[int], value: Schema) -> Schema:
    for size in reversed(shape):
        value = {"type": "array", "items": value, "minItems": size, "maxItems": size}
    return value
