"""ONNX graphs, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..batching import join, rows_and_key
from ..errors import InvalidInputError, MissingLibraryError, ModelLoadError
from ..models import PreparedInput
from ..payloads import Payload, Shape, column_names, missing_names, to_array, to_columns, to_rows
from ..signature import Casting, Signature, Tensor

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}


class OnnxModel:
    """Feeds a graph by the names of its inputs, each cast to its declared type; a graph with one input takes a
    matrix as well. One output is the prediction, several are an object by their names.
    """

    chat_keys: frozenset[str] = frozenset()

    def __init__(self, name: str, session: Any, refusal: type[Exception]) -> None:
        self.name = name
        self._session = session
        self._refusal = refusal
        self._inputs = {declared.name: declared for declared in session.get_inputs()}
        # a graph that was exported with a free first axis was meant for any number of rows
        axes = [declared.shape[0] if declared.shape else 1 for declared in self._inputs.values()]
        self.is_rowwise = not any(isinstance(axis, int) for axis in axes)
        self._outputs = [output.name for output in session.get_outputs()]
        self.signature = Signature(_tensors(session.get_inputs()), _tensors(session.get_outputs()))

    def predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        return self.predict_prepared([self.prepare(data, params)])

    def prepare(self, data: Payload, params: Mapping[str, Any] | None) -> PreparedInput:
        feed = self._feed(data)
        return PreparedInput(feed, *rows_and_key(feed))

    def predict_prepared(self, inputs: Sequence[PreparedInput]) -> Any:
        try:
            outputs = self._session.run(None, join([each.value for each in inputs]))
        except self._refusal as error:
            raise InvalidInputError(f"The model refused the input: {error}") from error
        return outputs[0] if len(outputs) == 1 else dict(zip(self._outputs, outputs, strict=True))

    def _feed(self, data: Payload) -> dict[str, Any]:
        is_named = data.shape in (Shape.CSV, Shape.PARQUET) or column_names(data) is not None
        columns = to_columns(data) if is_named else {}
        if len(self._inputs) == 1 and not self._inputs.keys() <= columns.keys():
            (declared,) = self._inputs.values()
            return {declared.name: _cast(to_rows(data), declared)}
        if not is_named:
            raise InvalidInputError(f"The input must be named: {', '.join(self._inputs)}.")
        if lacking := missing_names(list(self._inputs), list(columns)):
            raise InvalidInputError(lacking)
        return {name: _cast(columns[name], declared) for name, declared in self._inputs.items()}


def _tensors(fields: Sequence[Any]) -> tuple[Tensor, ...] | None:
    """The graph's inputs or outputs as a signature has them; None when one of them is no tensor."""
    if any(field.type not in _DTYPES for field in fields):
        return None
    return tuple(
        Tensor(_DTYPES[field.type], tuple(size if isinstance(size, int) else -1 for size in field.shape), field.name)
        for field in fields
    )


def _cast(values: Any, declared: Any) -> Any:
    if declared.type not in _DTYPES:
        raise InvalidInputError(f"The model's input {declared.name} is of type {declared.type}, which JSON cannot say.")
    array = to_array(values, _DTYPES[declared.type])
    # a column of a table is flat; a graph made from one wants a matrix of one column
    return array.reshape(-1, 1) if array.ndim == 1 and len(declared.shape) == 2 and declared.shape[1] == 1 else array


def load(reference: str, format_name: str, _casting: Casting) -> OnnxModel:
    try:
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
    except ModuleNotFoundError as error:
        raise MissingLibraryError("onnxruntime", format_name, "onnx") from error
    try:
        session = onnxruntime.InferenceSession(reference, providers=onnxruntime.get_available_providers())
    except Exception as error:  # onnxruntime's errors have no root of their own
        raise ModelLoadError(f"{reference} cannot be loaded by onnxruntime: {error}") from error
    return OnnxModel(Path(reference).stem, session, InvalidArgument)
