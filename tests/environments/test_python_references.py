from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stackkit.environments.models import resolve
from stackkit.environments.python_references import PythonReference, find_source
from stackkit.errors import ModelError


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is on the import path of this machine's interpreters."""
    folder = tmp_path / "site"
    (folder / "churn" / "models").mkdir(parents=True)
    (folder / "churn" / "__init__.py").write_text("raise RuntimeError('the package was imported')\n")
    (folder / "churn" / "models" / "__init__.py").touch()
    (folder / "churn" / "models" / "linear.py").write_text("raise RuntimeError('the module was imported')\n")
    (folder / "single.py").write_text("raise RuntimeError('the module was imported')\n")
    (folder / "spread" / "inner").mkdir(parents=True)
    (folder / "spread" / "inner" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.mark.parametrize(
    ("text", "target", "attribute"),
    [
        ("./model.py:predict", "./model.py", "predict"),
        ("/a:b/model.py:Model", "/a:b/model.py", "Model"),
        ("churn.models:linear", "churn.models", "linear"),
        ("churn:models.linear", "churn", "models.linear"),
    ],
)
def test_references(text: str, target: str, attribute: str) -> None:
    assert PythonReference.parse(text) == PythonReference(target, attribute)
    assert str(PythonReference.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["model.py", "churn", "churn:", ":predict", "a-b:predict", "churn:2", "./churn:predict", "a..b:c"]
)
def test_what_is_no_reference(text: str) -> None:
    assert PythonReference.parse(text) is None


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("single", "single.py"),
        ("churn", "churn"),
        ("churn.models.linear", "churn"),
        ("spread.inner", "spread/inner"),
    ],
)
def test_the_source_of_a_module_is_found_without_importing_it(installed: Path, module: str, source: str) -> None:
    assert find_source(PythonReference(module, "predict")) == installed / source


@pytest.mark.parametrize(
    "module", ["missing", "churn.missing", "churn.models.linear.deeper", "single.inside", "__main__"]
)
def test_a_module_that_is_not_there(installed: Path, module: str) -> None:
    with pytest.raises(ModelError) as refusal:
        find_source(PythonReference(module, "predict"))
    assert refusal.value.message == f"There is no module {module} for the model {module}:predict."
    assert refusal.value.hint == f"For a file write ./{module.replace('.', '/')}.py:predict"


@pytest.mark.parametrize("module", ["sys", "os", "spread"])
def test_a_module_without_files(installed: Path, module: str) -> None:
    with pytest.raises(ModelError, match="is not made of files") as refusal:
        find_source(PythonReference(module, "predict"))
    assert refusal.value.hint


def test_the_working_directory_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "handy.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")  # as in a notebook, which the server is not
    with pytest.raises(ModelError, match="There is no module handy") as refusal:
        find_source(PythonReference("handy", "predict"))
    assert refusal.value.hint == "For a file write ./handy.py:predict"


def test_an_interpreter_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*arguments: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("python", 60)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(ModelError, match=r"could not be looked for: .* timed out") as refusal:
        find_source(PythonReference("single", "predict"))
    assert sys.executable in (refusal.value.hint or "")


def test_a_module_is_resolved_where_it_is_installed(installed: Path, models_folder: Path) -> None:
    model = resolve("churn.models.linear:predict", models_folder=models_folder)
    assert (model.uri, model.reference, model.format) == (
        "churn.models.linear:predict",
        "churn.models.linear:predict",
        "python",
    )
    assert not models_folder.exists()


def test_a_change_anywhere_in_the_package_is_a_new_digest(installed: Path, models_folder: Path) -> None:
    before = resolve("churn.models.linear:predict", models_folder=models_folder)
    (installed / "churn" / "helpers.py").touch()
    assert resolve("churn.models.linear:predict", models_folder=models_folder).digest != before.digest
