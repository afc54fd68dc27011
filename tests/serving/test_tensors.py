from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stackkit.serving.errors import BadRequestError, InvalidInputError
from stackkit.serving.signature import Tensor
from stackkit.serving.tensors import cast_tensor, from_cells


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("float64", [1, 2.5, "3", None]),
        ("float32", [1, 2.5]),
        ("int64", [1, 2.0, 2**53]),
        ("int64", ["1", 2, True]),
        ("float64", ["1", 2, True]),
        ("uint8", [0, 255]),
        ("bool", [True, 0, 1]),
        ("str", ["a", "bc"]),
        ("str", ["a", 1, 2.5, True, 2**70]),
        ("object", ["a", None, 1]),
        ("object", [1, 2.5]),
    ],
)
def test_what_loses_nothing_is_cast(dtype: str, values: list[Any]) -> None:
    array = cast_tensor(values, Tensor(dtype, (-1,)))
    assert array.dtype.kind == np.dtype(dtype).kind
    expected = np.array(np.array(values, dtype=object), dtype=dtype)
    np.testing.assert_array_equal(array, expected)
    assert array.dtype == expected.dtype
    assert repr(array.tolist()) == repr(expected.tolist())  # 1 is not 1.0


@pytest.mark.parametrize("values", [[[1], [1, 2]], [["a", 1]], "a", []])
def test_objects_come_in_any_shape(values: Any) -> None:
    array = cast_tensor(values, Tensor("object", (-1,)))
    assert (array.dtype, array.tolist()) == (np.dtype(object), values)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("int64", [1, 1.5]),
        ("int64", [1, None]),
        ("int64", ["1.5"]),
        ("int64", [2**53 + 1, 1.0, 2**62]),
        ("uint8", [-1]),
        ("uint8", [256]),
        ("float32", [1e300]),
        ("bool", ["false"]),
        ("bool", [None]),
        ("bool", [2]),
        ("str", [None, "a"]),
        ("str", [["a"], ["a", "b"]]),
        ("str", [b"\xff"]),
        ("float64", ["98765x"]),
        ("float64", [[1.0], [1.0, 2.0]]),
    ],
)
def test_what_would_change_is_refused(dtype: str, values: list[Any]) -> None:
    with pytest.raises(BadRequestError) as caught:
        cast_tensor(values, Tensor(dtype, (-1,)))
    assert "98765" not in caught.value.message


def test_the_row_is_named() -> None:
    with pytest.raises(BadRequestError, match="A value in row 1 of x is not of type int64"):
        cast_tensor([[1, 2], [3, 4.5]], Tensor("int64", (-1, 2), "x"))
    with pytest.raises(BadRequestError, match="A value in row 1 of x is not of type text"):
        cast_tensor([["a", "b"], ["c", None]], Tensor("str", (-1, 2), "x"))


@pytest.mark.parametrize("values", [[1.0, 2.0], [[1.0, 2.0, 3.0]], [[[1.0, 2.0]]]])
def test_another_shape_is_refused(values: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"where the model's signature has \(-1, 2\)"):
        cast_tensor(values, Tensor("float64", (-1, 2)))


def test_flat_cells_are_shaped() -> None:
    tensor = Tensor("float64", (-1, 2, 2))
    assert from_cells([[1, 2, 3, 4], [5, 6, 7, 8]], tensor).shape == (2, 2, 2)
    assert from_cells([1, 2], Tensor("float64", (-1, 1))).tolist() == [[1.0], [2.0]]
    with pytest.raises(InvalidInputError):
        from_cells([[1, 2, 3]], tensor)
