"""JSON schemas of what a model takes, made from its signature, and an example of a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .cells import LARGEST_FLOAT32
from .signature import Column, DataType, Param, Signature

Schema = dict[str, Any]

_DAY = "20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-]0[0-9]:[0-5][0-9])?"
_DATE = f"^{_DAY}(T{_TIME})?$"

_NUMBER: Schema = {"type": "number"}
_FLOAT: Schema = {"type": "number", "minimum": -LARGEST_FLOAT32, "maximum": LARGEST_FLOAT32}
_INTEGER: Schema = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
_LONG: Schema = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
_DECIMAL_TEXT: Schema = {"type": "string", "pattern": r"^-?[0-9]{1,15}(\.[0-9]{1,15})?$"}
_INTEGER_TEXT: Schema = {"type": "string", "pattern": "^-?[0-9]{1,9}$"}
_BOOLEAN: Schema = {"type": "boolean"}
_NULL: Schema = {"type": "null"}
_BASE64: Schema = {
    "type": "string",
    "contentEncoding": "base64",
    "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}

_CELLS: dict[DataType, list[Schema]] = {
    DataType.BOOLEAN: [_BOOLEAN, {"type": "number", "enum": [0, 1]}],
    DataType.INTEGER: [_INTEGER, _INTEGER_TEXT, _BOOLEAN],
    DataType.LONG: [_LONG, _INTEGER_TEXT, _BOOLEAN],
    DataType.FLOAT: [_FLOAT, _DECIMAL_TEXT, _BOOLEAN],
    DataType.DOUBLE: [_NUMBER, _DECIMAL_TEXT, _BOOLEAN],
    DataType.STRING: [{"type": "string"}, {"type": "number"}, _BOOLEAN, _NULL],
    DataType.BINARY: [_BASE64],
    DataType.DATETIME: [{"type": "string", "pattern": _DATE}, _LONG],
}
"""What is taken for each type: its own values, and those that become such without losing anything."""

_NULLABLE = (DataType.FLOAT, DataType.DOUBLE, DataType.BINARY, DataType.DATETIME)

_PARAMS: dict[DataType, Schema] = {
    DataType.BOOLEAN: _BOOLEAN,
    DataType.INTEGER: {"type": "integer"},
    DataType.LONG: {"type": "integer"},
    DataType.FLOAT: _NUMBER,
    DataType.DOUBLE: _NUMBER,
    DataType.STRING: {"type": "string"},
    DataType.BINARY: _BASE64,
    DataType.DATETIME: {"type": "string", "pattern": _DATE},
}

_TYPES = {
    "float64": DataType.DOUBLE,
    "float32": DataType.FLOAT,
    "int64": DataType.LONG,
    "int32": DataType.INTEGER,
    "bool": DataType.BOOLEAN,
}
"""The columns' types that take what a tensor of such numbers takes."""

_EXAMPLES: dict[DataType, Any] = {
    DataType.BOOLEAN: True,
    DataType.INTEGER: 1,
    DataType.LONG: 1,
    DataType.FLOAT: 0.5,
    DataType.DOUBLE: 0.5,
    DataType.STRING: "text",
    DataType.BINARY: "Ynl0ZXM=",
    DataType.DATETIME: "2024-01-02T03:04:05",
}


def request_schema(signature: Signature | None) -> Schema:
    """The body of a scoring request: each way in which the model's input can be sent, exactly one at a time."""
    data = _forms(signature)
    params = {"params": _params(signature.params)} if signature is not None and signature.params else {}
    return {
        "oneOf": [
            {
                "type": "object",
                "title": key,
                "properties": {key: schema, **params, **{other: False for other in data if other != key}},
                "required": [key],
            }
            for key, schema in data.items()
        ]
    }


def request_example(signature: Signature | None) -> Any:
    """A scoring request that the model can answer: the one that it was saved with, or one made from its signature."""
    if signature is None or signature.example is not None:
        return {"inputs": []} if signature is None else signature.example
    if signature.tensors is not None:
        arrays = {tensor.name: _zeros(tensor.shape) for tensor in signature.tensors}
        return {"inputs": arrays.get(None, arrays)}
    if signature.columns is not None:
        row = {column.name: _EXAMPLES[column.type] for column in signature.columns}
        return {"dataframe_records": [row]} if None not in row else {"inputs": [_values(signature.columns)]}
    return {"inputs": []}


def _forms(signature: Signature | None) -> dict[str, Schema]:
    columns = signature.columns if signature is not None else None
    tensors = signature.tensors if signature is not None else None
    if tensors is not None:
        arrays = {str(tensor.name): _array(tensor.shape, tensor.dtype) for tensor in tensors}
        nameless = tensors[0].name is None
        schema = _array(tensors[0].shape, tensors[0].dtype) if nameless else _object(arrays, list(arrays))
        return {"inputs": schema, "instances": schema} if nameless else {"inputs": schema}
    if columns is not None and columns[0].name is not None:
        rows = {"type": "array", "items": _row(columns), "minItems": 1}
        return {"dataframe_records": rows, "dataframe_split": _split(columns), "instances": rows, "inputs": rows}
    anything: Schema = {"type": "array"}
    split = _object({"columns": {"type": "array"}, "index": {"type": "array"}, "data": {"type": "array"}}, ["data"])
    return {"dataframe_records": anything, "dataframe_split": split, "instances": {}, "inputs": {}}


def _row(columns: Sequence[Column]) -> Schema:
    properties = {str(column.name): _cell(column) for column in columns}
    return _object(properties, [str(column.name) for column in columns if column.required])


def _split(columns: Sequence[Column]) -> Schema:
    size = {"minItems": len(columns), "maxItems": len(columns)}
    row = {"type": "array", "prefixItems": [_cell(column) for column in columns], **size}
    data = {"type": "array", "items": row, "minItems": 1}
    properties: dict[str, Schema] = {"columns": {"const": [column.name for column in columns]}, "data": data}
    return _object(properties, ["columns", "data"]) | {"additionalProperties": False}


def _cell(column: Column) -> Schema:
    """Null is taken for any float or date, and shown where the model says that it can do without the value."""
    is_nullable = not column.required and column.type in _NULLABLE
    return {"anyOf": [*_CELLS[column.type], _NULL] if is_nullable else _CELLS[column.type]}


def _params(params: Sequence[Param]) -> Schema:
    properties = {}
    for param in params:
        schema = {"anyOf": [_PARAMS[param.type], _NULL]}
        properties[param.name] = {"type": "array", "items": schema} if param.is_list else schema
    return {"anyOf": [_object(properties, []), _NULL]}


def _array(shape: Sequence[int], dtype: str) -> Schema:
    """Rectangular arrays cannot be said in a schema: axes of any length after the first are shown with length one."""
    schema: Schema = {"anyOf": _CELLS[_TYPES[dtype]]} if dtype in _TYPES else {}
    for place, size in reversed(list(enumerate(shape))):
        schema = {"type": "array", "items": schema, "minItems": 1 if size == -1 else size}
        if size != -1 or place:
            schema["maxItems"] = max(size, 1)
    return schema


def _zeros(shape: Sequence[int]) -> Any:
    return [_zeros(shape[1:]) for _ in range(max(shape[0], 1))] if shape else 0


def _values(columns: Sequence[Column]) -> list[Any]:
    return [_EXAMPLES[column.type] for column in columns]


def _object(properties: dict[str, Schema], required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required}
