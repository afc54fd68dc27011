from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stackkit.serving import formats
from stackkit.serving.errors import ModelFormatError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("m.joblib", "joblib"),
        ("m.pkl", "pickle"),
        ("m.PICKLE", "pickle"),
        ("m.skops", "skops"),
        ("m.onnx", "onnx"),
    ],
)
def test_files_by_their_suffix(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / name).touch()
    assert formats.detect(tmp_path / name) == expected


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pt2"])
@pytest.mark.parametrize(
    ("entry", "expected"),
    [("m/constants.pkl", "torchscript"), ("m/archive_format", "torch_export")],
)
def test_torch_files_by_what_they_hold(tmp_path: Path, suffix: str, entry: str, expected: str) -> None:
    path = tmp_path / f"m{suffix}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, "")
    assert formats.detect(path) == expected


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", "")
    with pytest.raises(ModelFormatError, match="weights alone cannot be served"):
        formats.detect(path)


def test_an_mlflow_folder(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").touch()
    (tmp_path / "model.pkl").touch()
    assert formats.detect(tmp_path) == "mlflow"


def test_a_folder_with_one_model_and_papers_is_that_model(tmp_path: Path) -> None:
    for name in ("m.onnx", "m.onnx.data", "requirements.txt", "README.md", "LICENSE", "card.yaml", ".gitattributes"):
        (tmp_path / name).touch()
    assert formats.detect(tmp_path) == "onnx"
    assert formats.only_file(tmp_path) == tmp_path / "m.onnx"


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "expected an MLflow folder"),
        (["README.md"], "expected an MLflow folder"),
        (["a.joblib", "b.pkl"], r"more than one model \(a\.joblib, b\.pkl\)"),
        (["a.joblib", "train.csv"], r"more than a model \(train\.csv\)"),
    ],
)
def test_other_folders_are_no_model(tmp_path: Path, names: list[str], reason: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ModelFormatError, match=reason):
        formats.detect(tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("absent.joblib", "there is no model at"), ("absent.py:f", "there is no model at")],
)
def test_what_is_not_there(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ModelFormatError, match=reason):
        formats.detect(tmp_path / name)


def test_a_file_of_no_format_is_told_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "m.h5").touch()
    with pytest.raises(ModelFormatError, match=r"expected an MLflow folder \(MLmodel\) or one of \.joblib, \.pkl"):
        formats.detect(tmp_path / "m.h5")


def test_a_python_file_without_an_attribute_is_told_how(tmp_path: Path) -> None:
    (tmp_path / "m.py").touch()
    with pytest.raises(ModelFormatError, match=r"name the attribute: .*m\.py:predict"):
        formats.detect(tmp_path / "m.py")


def test_python_references(tmp_path: Path) -> None:
    (tmp_path / "m.py").touch()
    assert formats.detect(tmp_path / "m.py:predict") == "python"
    assert formats.detect(Path("package.module:Class.method")) == "python"
    assert formats.python_reference("package.module:Class.method") == ("package.module", "Class.method")
    assert formats.python_reference("no/module:f") is None
    assert formats.python_reference("module:not an attribute") is None


def test_an_unknown_format_is_told_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="there is no format 'keras': expected one of mlflow, joblib"):
        formats.load(str(tmp_path), "keras")


def test_everything_but_the_worker_uses_the_standard_library_alone() -> None:
    modules = ("formats", "claims", "supervisor", "managed", "commands", "listening", "logs")
    script = f"""
import sys
before = set(sys.modules)
for name in {modules!r}:
    __import__(f"stackkit.serving.{{name}}")
known = sys.stdlib_module_names | {{"stackkit"}}
loaded = sorted(name for name in set(sys.modules) - before if name.partition(".")[0] not in known)
assert not loaded, loaded
ours = [name for name in sys.modules if name.startswith("stackkit.")]
beyond = sorted(name for name in ours if not name.startswith("stackkit.serving"))
assert not beyond, beyond
"""
    subprocess.run([sys.executable, "-P", "-c", script], check=True)


def test_the_name_that_clients_call_a_model_by(tmp_path: Path) -> None:
    (tmp_path / "churn.v2").mkdir()
    (tmp_path / "churn.joblib").touch()
    (tmp_path / "code.py").touch()
    assert formats.default_name(str(tmp_path / "churn.v2")) == "churn.v2"
    assert formats.default_name(str(tmp_path / "churn.joblib")) == "churn"
    assert formats.default_name(f"{tmp_path / 'code.py'}:Model.predict") == "predict"
    assert formats.default_name("/") == "model"


@pytest.mark.parametrize("name", ["joblib", "mlflow"])
def test_a_models_library_is_imported_without_the_model(tmp_path: Path, name: str) -> None:
    """In a process of its own: the library is here already."""
    if name == "mlflow":
        for module in ("sklearn", "yaml"):
            pytest.importorskip(module)
        flavors = "python_function: {loader_module: mlflow.sklearn, model_path: model.pkl}, sklearn: {}"
        (tmp_path / "MLmodel").write_text(f"flavors: {{{flavors}}}\n")
        model, library = tmp_path / "model.pkl", "sklearn"
    else:
        pytest.importorskip("joblib")
        model, library = tmp_path / "model.joblib", "joblib"
    model.write_bytes(b"no pickle")
    code = f"""
import sys
from stackkit.serving import formats
formats.import_library({str(tmp_path)!r})
assert {library!r} in sys.modules
assert "mlflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "format_name"), [("module:function", None), ("m.pkl", "pickle"), ("m.onnx", "skops")])
def test_no_library_is_no_failure(
    tmp_path: Path, name: str, format_name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is missing, or not known, is for the loader to say."""
    monkeypatch.setitem(sys.modules, "skops", None)
    formats.import_library(name if ":" in name else str(tmp_path / name), format_name)
