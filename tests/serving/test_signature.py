from __future__ import annotations

import json
from typing import Any

import pytest

from stackkit.serving.signature import Column, DataType, Param, Signature, SignatureError, Tensor


def test_columns_and_params_are_read() -> None:
    signature = Signature.from_mlflow(
        {
            "inputs": '[{"type": "long", "name": "i", "required": true},'
            ' {"type": "string", "name": "s", "optional": true}]',
            "outputs": '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]',
            "params": '[{"name": "k", "type": "long", "default": 3, "shape": null},'
            ' {"name": "tags", "type": "string", "default": ["x"], "shape": [-1]}]',
        }
    )
    assert signature.columns == (Column(DataType.LONG, "i"), Column(DataType.STRING, "s", required=False))
    assert signature.tensors is None
    assert signature.outputs == (Tensor("float64", (-1,)),)
    assert signature.params == (Param(DataType.LONG, "k", 3), Param(DataType.STRING, "tags", ["x"], is_list=True))
    assert list(map(str, signature.columns)) == ["i: long (required)", "s: string (optional)"]


def test_tensors_are_read() -> None:
    signature = Signature.from_mlflow(
        {"inputs": '[{"name": "x", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]'}
    )
    assert signature.tensors == (Tensor("float32", (-1, 2), "x"),)
    assert signature.columns is None


def test_a_part_of_what_is_nested_can_be_told() -> None:
    nested = '[{"type": "array", "items": {"type": "long"}, "name": "x", "required": true}]'
    params = '[{"name": "k", "type": "long", "default": 3, "shape": null}]'
    values = {"inputs": nested, "outputs": nested, "params": params}
    assert Signature.part_of_mlflow(values) == Signature(params=(Param(DataType.LONG, "k", 3),), is_partial=True)
    values["params"] = '[{"name": "k", "type": "object", "properties": {}}]'
    assert Signature.part_of_mlflow(values) == Signature(is_partial=True)


def test_nested_outputs_are_left_out() -> None:
    values = {"inputs": '[{"type": "long", "name": "i"}]', "outputs": '[{"type": "map", "values": {"type": "long"}}]'}
    assert Signature.from_mlflow(values).outputs is None


@pytest.mark.parametrize(
    "inputs",
    [
        "nothing",
        "{}",
        "[1]",
        json.dumps([{"type": "array", "items": {"type": "long"}, "name": "a"}]),
        json.dumps([{"type": "any", "name": "a"}]),
        json.dumps([{"type": "tensor", "name": "a"}]),
        json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": ["x"]}}]),
        json.dumps(
            [{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [1]}}, {"type": "long", "name": "a"}]
        ),
    ],
)
def test_what_is_not_known_is_refused(inputs: Any) -> None:
    with pytest.raises(SignatureError):
        Signature.from_mlflow({"inputs": inputs})
