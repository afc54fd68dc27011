"""Arrays, cast to a tensor's dtype without loss and held against its shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .cells import DTYPES, cast
from .errors import BadRequestError, InvalidInputError
from .payloads import to_array
from .signature import Column, DataType, Tensor

if TYPE_CHECKING:
    import numpy as np

_EXACT_IN_DOUBLE = 2.0**53


def cast_tensor(values: Any, tensor: Tensor) -> np.ndarray[Any, Any]:
    """``values`` (nested lists, or an array) as an array of the tensor's dtype and shape.

    Raises BadRequestError for ragged lists and values that would lose something, InvalidInputError for another shape.
    """
    import numpy as np

    array = _cast(values, np.dtype(tensor.dtype), tensor)
    if array.dtype.kind == "O" and tensor.shape == (-1,):
        return array  # what has no dtype in common, be it ragged or not: infer_signature says no more of it
    fits = len(array.shape) == len(tensor.shape) and all(
        wanted in (-1, given) for wanted, given in zip(tensor.shape, array.shape, strict=True)
    )
    if not fits:
        raise InvalidInputError(
            f"The input {'' if tensor.name is None else tensor.name + ' '}has the shape {array.shape},"
            f" where the model's signature has {tensor.shape}."
        )
    return array


def from_cells(values: Sequence[Any], tensor: Tensor) -> np.ndarray[Any, Any]:
    """One column of a table as a tensor: its cells are numbers, or flat lists of each row's numbers.

    Raises as ``cast_tensor``.
    """
    import numpy as np

    array = to_array(values, object if np.dtype(tensor.dtype).kind in "OU" else None)
    row_shape = tensor.shape[1:]
    if -1 not in row_shape and array.shape[1:] != row_shape and array.size == len(array) * _product(row_shape):
        array = array.reshape(len(array), *row_shape)
    return cast_tensor(array, tensor)


def _cast(values: Any, target: np.dtype[Any], tensor: Tensor) -> np.ndarray[Any, Any]:
    import numpy as np

    if target.kind in "OU":  # each value by itself: numpy would make text of a number beside text
        objects = to_array(values, object)
        return objects if target.kind == "O" else _to_text(objects, tensor)
    given = to_array(values)
    if given.dtype == target:
        return given
    if given.dtype.kind in "OU":
        given = _from_objects(np.array(values, dtype=object), target, tensor)
    with np.errstate(invalid="ignore", over="ignore"):
        result = given.astype(target)
    lossy = _is_lossy(given, result)
    if lossy.any():
        row = int(np.argwhere(lossy)[0][0]) if lossy.ndim else 0
        raise _lossy(tensor, row, target.name)
    return result


def _to_text(objects: np.ndarray[Any, Any], tensor: Tensor) -> np.ndarray[Any, Any]:
    """Text, and numbers as text. Raises BadRequestError for null, lists and objects, which numpy would spell out."""
    import numpy as np

    unfit = np.array([not isinstance(value, str | int | float) for value in objects.flat], dtype=bool)
    if unfit.any():
        raise _lossy(tensor, int(np.argwhere(unfit.reshape(objects.shape))[0][0]) if objects.ndim else 0, "text")
    return objects.astype(str)


def _from_objects(objects: np.ndarray[Any, Any], target: np.dtype[Any], tensor: Tensor) -> np.ndarray[Any, Any]:
    """Numbers among text and null, taken as a column of them would be."""
    import numpy as np

    column = Column({"b": DataType.BOOLEAN, "f": DataType.DOUBLE, "c": DataType.DOUBLE}.get(target.kind, DataType.LONG))
    result = np.empty(objects.shape, dtype=DTYPES[column.type])
    for row, values in enumerate(objects if objects.ndim else [objects]):
        try:
            cells = cast(np.ravel(values).tolist(), column, as_text=False)
        except BadRequestError:
            raise _lossy(tensor, row, target.name) from None
        result[row if objects.ndim else ...] = np.reshape(cells, np.shape(values))
    return result


def _is_lossy(given: np.ndarray[Any, Any], result: np.ndarray[Any, Any]) -> Any:
    import numpy as np

    if result.dtype.kind == "f":
        return np.isfinite(given) & (np.abs(given) > np.finfo(result.dtype).max)
    if result.dtype.kind == "c":
        return np.zeros(given.shape, dtype=bool)
    lossy = given != result
    if given.dtype.kind == "f" and result.dtype.kind in "iu":
        # beyond it, what stands here may already differ from the integer that was sent
        lossy |= ~(np.abs(given) <= _EXACT_IN_DOUBLE)
    return lossy


def _lossy(tensor: Tensor, row: int, kind: str) -> BadRequestError:
    where = "" if tensor.name is None else f" of {tensor.name}"
    return BadRequestError(f"A value in row {row}{where} is not of type {kind}, and cannot be cast without loss.")


def _product(shape: Sequence[int]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result
