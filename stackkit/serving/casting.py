"""From a request's payload to the input that a model's signature asks for: the same cast for every payload shape.

What would change a value is refused; see ``cells`` and ``tensors`` for what that means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .columns import cast_table, gather
from .errors import BadRequestError, InvalidInputError
from .payloads import Payload, Shape, to_array, to_frame
from .signature import Signature, Tensor
from .tensors import cast_tensor, from_cells


def cast_payload(payload: Payload, signature: Signature) -> Any:
    """A Table where the signature has columns, an array or a dict of them where it has tensors. Without inputs in
    the signature, what MLflow makes of the payload: a frame of a table, arrays of everything else.

    Raises BadRequestError for values that do not fit, InvalidInputError for inputs that are missing.
    """
    if (columns := signature.columns) is not None:
        return cast_table(payload, columns)
    if (tensors := signature.tensors) is not None:
        return _tensors(payload, tensors)
    return _as_it_came(payload)


def _tensors(payload: Payload, tensors: Sequence[Tensor]) -> Any:
    if tensors[0].name is None:
        return _unnamed_tensor(payload, tensors[0])
    names = [str(tensor.name) for tensor in tensors]
    value = payload.value
    found: Mapping[Any, Any]
    if payload.is_file:
        found = {name: values.to_numpy() for name, values in to_frame(payload).items()}
    elif isinstance(value, Mapping) and not payload.is_tabular:
        found = value
    else:
        found = gather(payload, names)[0]
    if missing := [name for name in names if name not in found]:
        expected = ", ".join(map(str, tensors))
        raise InvalidInputError(
            f"The input does not fit the model's signature: {expected}. It lacks {', '.join(missing)}."
        )
    cast_one = from_cells if payload.is_tabular else cast_tensor
    arrays = {name: cast_one(found[name], tensor) for name, tensor in zip(names, tensors, strict=True)}
    if payload.shape is Shape.INSTANCES and len({len(array) for array in arrays.values() if array.ndim}) > 1:
        raise BadRequestError(f"The columns of {payload.shape} are not lists of one length.")
    return arrays


def _unnamed_tensor(payload: Payload, tensor: Tensor) -> Any:
    value = payload.value
    if not payload.is_tabular:
        if value is None:
            raise InvalidInputError(f"The input is null, where the model takes an array: {tensor}.")
        if isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(row, Mapping) for row in value)):
            raise BadRequestError(f"The input has names, and the model takes one array without: {tensor}.")
        return cast_tensor(value, tensor)
    if payload.is_file:
        return cast_tensor(to_frame(payload).to_numpy(), tensor)
    columns = list(gather(payload, None)[0].values())
    if not columns or not columns[0]:
        raise InvalidInputError("The input has no rows.")
    if len(columns) == 1:
        return from_cells(columns[0], tensor)
    return cast_tensor([list(row) for row in zip(*columns, strict=True)], tensor)


def _as_it_came(payload: Payload) -> Any:
    value = payload.value
    if payload.is_tabular:
        return to_frame(payload)
    if payload.shape is Shape.INSTANCES and isinstance(value, list) and value and isinstance(value[0], Mapping):
        if any(not isinstance(row, Mapping) or row.keys() != value[0].keys() for row in value):
            raise BadRequestError(f"The rows of {payload.shape} do not all have the same names.")
        # MLflow makes an array of each value first, which stays to be seen where they are objects
        return {name: to_array([to_array(row[name]) for row in value]) for name in value[0]}
    if isinstance(value, list) and all(isinstance(row, Mapping) for row in value):
        return [{name: to_array(cell) for name, cell in row.items()} for row in value]
    if not isinstance(value, Mapping):
        return to_array(value)
    arrays = {name: to_array(values) for name, values in value.items()}
    lengths = {array.shape[:1] for array in arrays.values()}
    if payload.shape is Shape.INSTANCES and (len(lengths) > 1 or () in lengths):
        raise BadRequestError(f"The columns of {payload.shape} are not lists of one length.")
    return arrays
