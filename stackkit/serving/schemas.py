"""JSON schemas of what a model takes, made from its signature, and an example of a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .cells import LARGEST_FLOAT32
from .signature import Column, DataType, Param, Signature, Tensor

Schema = dict[str, Any]

_DAY = "20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-]0[0-9]:[0-5][0-9])?"
DATE = f"^{_DAY}(T{_TIME})?$"

_NUMBER: Schema = {"type": "number"}
_FLOAT: Schema = {"type": "number", "minimum": -LARGEST_FLOAT32, "maximum": LARGEST_FLOAT32}
_INTEGER: Schema = {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
_LONG: Schema = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
_DECIMAL_TEXT: Schema = {"type": "string", "pattern": r"^-?[0-9]{1,15}(\.[0-9]{1,15})?$"}
_INTEGER_TEXT: Schema = {"type": "string", "pattern": "^-?[0-9]{1,9}$"}
_BOOLEAN: Schema = {"type": "boolean"}
NULL: Schema = {"type": "null"}
BASE64: Schema = {
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
    DataType.STRING: [{"type": "string"}, {"type": "number"}, _BOOLEAN, NULL],
    DataType.BINARY: [BASE64],
    DataType.DATETIME: [{"type": "string", "pattern": DATE}, _LONG],
}
"""What is taken for each type: its own values, and those that become such without losing anything."""

_NULLABLE = (DataType.FLOAT, DataType.DOUBLE, DataType.DATETIME, DataType.STRING)
"""The types in which null is a value like others; among STRING's cells it stands already."""

_PARAMS: dict[DataType, Schema] = {
    DataType.BOOLEAN: _BOOLEAN,
    DataType.INTEGER: {"type": "integer"},
    DataType.LONG: {"type": "integer"},
    DataType.FLOAT: _NUMBER,
    DataType.DOUBLE: _NUMBER,
    DataType.STRING: {"type": "string"},
    DataType.BINARY: BASE64,
    DataType.DATETIME: {"type": "string", "pattern": DATE},
}

_TYPES = {
    "float64": DataType.DOUBLE,
    "float32": DataType.FLOAT,
    "int64": DataType.LONG,
    "int32": DataType.INTEGER,
    "bool": DataType.BOOLEAN,
}
"""The columns' types that take what a tensor of such numbers takes."""

EXAMPLES: dict[DataType, Any] = {
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
    params = {"params": params_schema(signature.params)} if signature is not None and signature.params else {}
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
        row = {column.name: EXAMPLES[column.type] for column in signature.columns}
        return {"dataframe_records": [row]} if None not in row else {"inputs": [_values(signature.columns)]}
    return {"inputs": []}


def may_be_null(column: Column) -> bool:
    """Whether null is taken among the column's values, by a model that does not refuse it."""
    return column.type in _NULLABLE or (column.type is DataType.BINARY and not column.required)


def params_schema(params: Sequence[Param]) -> Schema:
    """The model's params: all of them may be left out."""
    properties = {}
    for param in params:
        schema = {"anyOf": [_PARAMS[param.type], NULL]}
        properties[param.name] = {"type": "array", "items": schema} if param.is_list else schema
    return {"anyOf": [object_schema(properties, []), NULL]}


def object_schema(properties: dict[str, Schema], required: list[str]) -> Schema:
    """An object with these properties, and perhaps with others."""
    return {"type": "object", "properties": properties, "required": required}


def _forms(signature: Signature | None) -> dict[str, Schema]:
    """The schema of what stands under each of the keys that the model's input may come under."""
    if signature is None:
        return _anything()
    if signature.has_type_hints:
        return {"inputs": _hinted(signature.columns)}
    if (tensors := signature.tensors) is not None:
        arrays = {str(tensor.name): _array(tensor, signature) for tensor in tensors}
        if tensors[0].name is not None:
            return {"inputs": object_schema(arrays, list(arrays))}
        schema = _array(tensors[0], signature)
        return {"inputs": schema, "instances": schema}
    columns = signature.columns
    if columns is None or columns[0].name is None:
        return _anything()
    rows = _rows(columns, signature, is_table=False)
    if len(columns) == 1:  # the values of the one column need no name
        cells = {
            "type": "array",
            "items": _cell(columns[0], signature),
            "minItems": 0 if signature.takes_no_rows else 1,
        }
        rows = {"anyOf": [rows, cells]}
    table = _rows(columns, signature, is_table=True)
    return {
        "dataframe_records": table,
        "dataframe_split": _split(columns, signature),
        "instances": rows,
        "inputs": rows,
    }


def _anything() -> dict[str, Schema]:
    """What any body must be like. What is in it is for the model to understand."""
    labels = {"type": ["array", "null"]}
    split = object_schema({"columns": labels, "index": labels, "data": {"type": ["array", "object"]}}, ["data"])
    records: Schema = {"type": "array"}
    return {
        "dataframe_records": records,
        "dataframe_split": split | {"additionalProperties": False},
        "instances": {},
        "inputs": {},
    }


def _hinted(columns: Sequence[Column] | None) -> Schema:
    """A list of what the type hint says; text, unlike numbers, is not made of anything else."""
    if columns is None or len(columns) != 1 or columns[0].name is not None:
        return {}
    is_text = columns[0].type is DataType.STRING
    return {"type": "array", "items": {"type": "string"} if is_text else {"anyOf": _CELLS[columns[0].type]}}


def _rows(columns: Sequence[Column], signature: Signature, *, is_table: bool) -> Schema:
    """A list of rows. A column that not all of them have is filled up with null, in a table and if its type has null;
    of every other optional column a schema cannot say that all the rows have it or none, but for all of these columns
    together, and for a single row.
    """
    rows: Schema = {"type": "array", "minItems": 1}
    names = [column.name for column in columns if not column.required and not (is_table and may_be_null(column))]
    row = object_schema(
        {str(column.name): _cell(column, signature) for column in columns},
        [str(column.name) for column in columns if column.required],
    )
    if not names:
        return rows | {"items": row}
    full = row | {"required": [*row["required"], *names]}
    bare = row | {"properties": row["properties"] | dict.fromkeys(names, False)}
    ways = [{"items": full}, {"items": bare}]
    return rows | {"anyOf": ways if len(names) == 1 else [*ways, {"items": row, "maxItems": 1}]}


def _split(columns: Sequence[Column], signature: Signature) -> Schema:
    cells = [_cell(column, signature) for column in columns]
    row = {"type": "array", "prefixItems": cells, "minItems": len(cells), "maxItems": len(cells)}
    data: Schema = {"type": "array", "minItems": 0 if signature.takes_no_rows else 1}
    # the values of a single column may stand without brackets of their own
    data |= {"items": row} if len(cells) > 1 else {"anyOf": [{"items": row}, {"items": cells[0]}]}
    properties: dict[str, Schema] = {"columns": {"const": [column.name for column in columns]}, "data": data}
    return object_schema(properties, ["columns", "data"]) | {"additionalProperties": False}


def _cell(column: Column, signature: Signature) -> Schema:
    """Null stands for a missing number or date, unless the model needs each of them."""
    is_taken = column.type is not DataType.STRING and may_be_null(column)
    is_taken = is_taken and (signature.takes_null or not column.required)
    return {"anyOf": [*_CELLS[column.type], NULL] if is_taken else _CELLS[column.type]}


def _array(tensor: Tensor, signature: Signature) -> Schema:
    """Rectangular arrays cannot be said in a schema: axes of any length after the first are shown with length one."""
    kind = _TYPES.get(tensor.dtype)
    has_null = kind in _NULLABLE and signature.takes_null
    schema: Schema = {} if kind is None else {"anyOf": [*_CELLS[kind], NULL] if has_null else _CELLS[kind]}
    may_be_empty = len(tensor.shape) == 1 and signature.takes_no_rows
    for place, size in reversed(list(enumerate(tensor.shape))):
        least = 0 if may_be_empty else 1
        schema = {"type": "array", "items": schema, "minItems": least if size == -1 else size}
        if size != -1 or place:
            schema["maxItems"] = max(size, 1)
    return schema


def _zeros(shape: Sequence[int]) -> Any:
    return [_zeros(shape[1:]) for _ in range(max(shape[0], 1))] if shape else 0


def _values(columns: Sequence[Column]) -> list[Any]:
    return [EXAMPLES[column.type] for column in columns]
