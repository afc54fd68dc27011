"""Which format a model is of, and the loader for it. Standard library only; a loader is imported when it is used."""

from __future__ import annotations

import contextlib
import importlib
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ModelFormatError
from .signature import Casting

if TYPE_CHECKING:
    from .models import Model

_LOADERS = {
    "mlflow": "mlflow_loader",
    "joblib": "estimator_loader",
    "pickle": "estimator_loader",
    "skops": "estimator_loader",
    "torchscript": "torch_loader",
    "torch_export": "torch_loader",
    "onnx": "onnx_loader",
    "python": "python_loader",
}
FORMATS = tuple(_LOADERS)

_LIBRARIES = {
    "joblib": "joblib",
    "skops": "skops.io",
    "torchscript": "torch",
    "torch_export": "torch",
    "onnx": "onnxruntime",
}
"""The formats that say which library the model is made of."""

_SUFFIXES = {".joblib": "joblib", ".pkl": "pickle", ".pickle": "pickle", ".skops": "skops", ".onnx": "onnx"}
_TORCH_SUFFIXES = (".pt", ".pth", ".pt2")
_KNOWN = (*_SUFFIXES, *_TORCH_SUFFIXES)
_COMPANIONS = re.compile(
    r"(requirements.*\.txt|readme(\..*)?|licen[cs]e(\..*)?|.*\.(json|ya?ml|md|txt)|\..*|__pycache__)", re.I
)
_ATTRIBUTE = re.compile(r"(?P<source>.+):(?P<attribute>[A-Za-z_][\w.]*)")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def detect(path: Path) -> str:
    """The name of the format, one of FORMATS. Reads at most a file's table of contents, loads nothing.

    A folder that holds one model file beside papers about it (requirements, readme, licence, JSON, YAML) is that
    model. Raises ModelFormatError, which names what was looked for.
    """
    if path.is_dir():
        return "mlflow" if (path / "MLmodel").is_file() else detect(only_file(path))
    if not path.exists():
        if python_reference(str(path)) is not None:
            return "python"
        raise ModelFormatError(f"there is no model at {path}")
    suffix = path.suffix.lower()
    if suffix in _TORCH_SUFFIXES:
        return _detect_torch(path)
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    hint = f"; for Python code name the attribute: {path}:predict" if suffix == ".py" else ""
    raise ModelFormatError(f"{path} is no model: expected {_expected()}{hint}")


def only_file(folder: Path) -> Path:
    """The one model file in ``folder``. Raises ModelFormatError when there is none, or several.

    Files that bear the model's name and more (``model.onnx.data``) belong to it.
    """
    found = sorted(entry for entry in folder.iterdir() if not _COMPANIONS.fullmatch(entry.name))
    models = [entry for entry in found if entry.is_file() and entry.suffix.lower() in _KNOWN]
    if not models:
        raise ModelFormatError(f"{folder} is no model: expected {_expected()}")
    if len(models) > 1:
        names = ", ".join(entry.name for entry in models)
        raise ModelFormatError(f"{folder} holds more than one model ({names}): name one of them")
    strangers = [entry.name for entry in found if not entry.name.startswith(models[0].name)]
    if strangers:
        raise ModelFormatError(
            f"{folder} holds more than a model ({', '.join(strangers)}): name the model itself, {models[0]}"
        )
    return models[0]


def python_reference(text: str) -> tuple[str, str] | None:
    """Split ``file.py:attribute`` or ``module:attribute`` into its two parts; None for anything else."""
    match = _ATTRIBUTE.fullmatch(text)
    if match is None:
        return None
    source, attribute = match["source"], match["attribute"]
    if source.endswith(".py"):
        return (source, attribute) if Path(source).is_file() else None
    return (source, attribute) if _MODULE.fullmatch(source) else None


def default_name(reference: str) -> str:
    """What clients call a model that was given no name: the stem of its file, or its folder's or attribute's name."""
    parts = python_reference(reference)
    if parts is not None:
        return parts[1].rpartition(".")[2]
    path = Path(reference).absolute()
    return (path.stem if path.is_file() else path.name) or "model"


def import_library(reference: str, format_name: str | None = None) -> None:
    """Import the library that the model is made of, where that can be told without loading it.

    Nothing is to be told to the user here: what is missing or wrong ``load`` says. Raises ModelFormatError when it is
    no model.
    """
    name = format_name or detect(Path(reference))
    library = _LIBRARIES.get(name)
    if name == "mlflow":
        from .loaders import mlflow_direct

        library = mlflow_direct.library(Path(reference)) or "mlflow.pyfunc"
    if library is not None:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(library)


def load(reference: str, format_name: str | None = None, casting: Casting = Casting.EXACT) -> Model:
    """Load the model that ``reference`` names: a path, ``file.py:attribute`` or ``module:attribute``.

    ``casting`` says how input is cast by a signature; only MLflow models have one.
    Loading a pickle, a Python file or an MLflow model runs code that it brings along: name only what you trust.
    Raises ModelFormatError when it is no model, ModelLoadError when it cannot be loaded, and whatever the model's
    own code raises.
    """
    name = format_name or detect(Path(reference))
    if name not in _LOADERS:
        raise ModelFormatError(f"there is no format {name!r}: expected one of {', '.join(FORMATS)}")
    if name not in ("mlflow", "python") and Path(reference).is_dir():
        reference = str(only_file(Path(reference)))
    loader = importlib.import_module(f".loaders.{_LOADERS[name]}", __package__)
    model: Model = loader.load(reference, name, casting)
    return model


def _detect_torch(path: Path) -> str:
    """Both are zip archives: the older kind holds ``<name>/constants.pkl``, torch.export's a format marker."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        names = set()
    if "archive_format" in names or "serialized_exported_program.json" in names:
        return "torch_export"
    if "constants.pkl" in names:
        return "torchscript"
    raise ModelFormatError(
        f"{path} is no model: expected TorchScript (torch.jit.save) or an exported program (torch.export.save);"
        " weights alone cannot be served"
    )


def _expected() -> str:
    return f"an MLflow folder (MLmodel) or one of {', '.join(_KNOWN)}, or file.py:attribute"
