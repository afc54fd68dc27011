from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackkit.serving import formats
from stackkit.serving.app import App

# scripting is deprecated, and what it made goes on being served
pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torch")


@pytest.fixture
def programs(folder: Path, requires: Callable[[str, str], None]) -> Path:
    """``scale`` doubles one tensor, ``combine`` takes a and b; each scripted (.pt) and exported (.pt2)."""
    if importlib.util.find_spec("torch") is None:
        requires("torch", "PyTorch is not installed")
    if (folder / "combine.pt2").exists():
        return folder
    import torch

    class Scale(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    class Combine(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"difference": a - b, "sum": a + b}

    rows = torch.export.Dim("rows")
    for name, module, arguments in (("scale", Scale(), ("x",)), ("combine", Combine(), ("a", "b"))):
        example = tuple(torch.ones(3, 2) for _ in arguments)
        torch.jit.trace(module, example, strict=False).save(str(folder / f"{name}.pt"))
        program = torch.export.export(module, example, dynamic_shapes={argument: {0: rows} for argument in arguments})
        torch.export.save(program, folder / f"{name}.pt2")
    return folder


@pytest.fixture(params=[".pt", ".pt2"])
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def app_of(serve_model: Callable[..., App]) -> Callable[[Path], App]:
    return lambda path: serve_model(formats.load(str(path)))


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [[1, 2], [3, 4]]},
        {"instances": [[1, 2], [3, 4]]},
        {"inputs": {"x": [[1, 2], [3, 4]]}},
        {"dataframe_split": {"columns": ["p", "q"], "data": [[1, 2], [3, 4]]}},
        {"dataframe_records": [{"p": 1, "q": 2}, {"p": 3, "q": 4}]},
    ],
)
def test_one_tensor(programs: Path, app_of: Any, suffix: str, call: Callable[..., Any], body: Any) -> None:
    reply = call(app_of(programs / f"scale{suffix}"), body=body)
    assert reply.content == {"predictions": [[2.0, 4.0], [6.0, 8.0]]}


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": {"b": [[1, 1]], "a": [[3, 4]]}},
        {"instances": [{"b": [1, 1], "a": [3, 4]}]},
    ],
)
def test_named_inputs_reach_their_arguments(
    programs: Path, app_of: Any, suffix: str, call: Callable[..., Any], body: Any
) -> None:
    reply = call(app_of(programs / f"combine{suffix}"), body=body)
    assert reply.content == {"predictions": {"difference": [[2.0, 3.0]], "sum": [[4.0, 5.0]]}}


@pytest.mark.parametrize(
    "inputs",
    [{"a": [[1, 2]]}, {"a": [[1, 2]], "b": [[1, 2]], "c": [[1, 2]]}, [[1, "x"]], [[1, 2], [3]]],
)
def test_what_does_not_fit_is_400(
    programs: Path, app_of: Any, suffix: str, call: Callable[..., Any], inputs: Any
) -> None:
    assert call(app_of(programs / f"combine{suffix}"), body={"inputs": inputs}).status == 400


def test_formats_are_told_apart_by_content(programs: Path, tmp_path: Path) -> None:
    for original, expected in (("scale.pt", "torchscript"), ("scale.pt2", "torch_export")):
        copy = tmp_path / "model.pth"
        copy.write_bytes((programs / original).read_bytes())
        assert formats.detect(copy) == expected
