"""PyTorch programs: TorchScript (torch.jit.save) and exported ones (torch.export.save), run on the CPU."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import InvalidInputError, MissingLibraryError
from ..payloads import Payload, column_names, to_array, to_columns, to_rows
from ..signature import Casting


class TorchModel:
    """Calls a module with one float32 tensor, or, when the input is named, with one for each keyword argument.

    A table is one tensor: its columns are features, not arguments.
    """

    signature = None
    chat_keys: frozenset[str] = frozenset()

    def __init__(self, name: str, module: Any, arguments: Mapping[str, bool], positional: int = 0) -> None:
        """``arguments`` says of each argument whether it is required; the first ``positional`` go without name."""
        import torch

        self.name = name
        self._torch = torch
        self._module = module
        self._arguments = arguments
        self._positional = positional

    def predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        with self._torch.inference_mode():
            if data.is_tabular or column_names(data) is None:
                return self._plain(self._module(self._tensor(to_rows(data))))
            columns = to_columns(data)
            self._check_names(columns)
            named = {name: self._tensor(columns[name]) for name in self._arguments if name in columns}
            positional = [named.pop(name) for name in list(named)[: self._positional]]
            return self._plain(self._module(*positional, **named))

    def _check_names(self, given: Collection[str]) -> None:
        required = {name for name, is_required in self._arguments.items() if is_required}
        if not required <= set(given) <= self._arguments.keys():
            raise InvalidInputError(f"The model's inputs are {', '.join(self._arguments)}.")

    def _tensor(self, values: Any) -> Any:
        return self._torch.from_numpy(to_array(values, "float32"))

    def _plain(self, output: Any) -> Any:
        if isinstance(output, self._torch.Tensor):
            return output.tolist()
        if isinstance(output, Mapping):
            return {name: self._plain(value) for name, value in output.items()}
        if isinstance(output, list | tuple):
            return [self._plain(value) for value in output]
        return output


def load(reference: str, format_name: str, _casting: Casting) -> TorchModel:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise MissingLibraryError("PyTorch", format_name, "torch") from error
    name = Path(reference).stem
    if format_name == "torch_export":
        program = torch.export.load(reference)
        positional, _ = program.call_spec.in_spec.children()
        arguments = dict.fromkeys(program.graph_signature.user_inputs, True)
        return TorchModel(name, program.module(), arguments, positional.num_children)
    jit: Any = torch.jit  # in part untyped
    module = jit.load(reference, map_location="cpu").eval()
    declared = [argument for argument in module.forward.schema.arguments if argument.name != "self"]
    return TorchModel(name, module, {each.name: not each.has_default_value() for each in declared})
