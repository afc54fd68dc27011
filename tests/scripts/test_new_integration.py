"""The skeleton of an integration can be imported, and its flavor fits the registry."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path

import pytest

from stackkit.model_deployers import BaseModelDeployer, ModelDeployerFlavor

SCRIPT = Path(__file__).parents[2] / "scripts" / "new_integration.py"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "requirements-dev.txt").write_text("-e .[dev]\n", encoding="utf-8")
    return tmp_path


def make(root: Path, *arguments: str) -> int:
    status = runpy.run_path(str(SCRIPT))["main"](list(arguments), root)
    assert isinstance(status, int)
    return status


def test_it_makes_a_package_whose_flavor_can_be_loaded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(root, "nomad", "Nomad") == 0
    folder = root / "integrations" / "nomad"
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "stackkit-nomad"
    assert (root / "requirements-dev.txt").read_text(encoding="utf-8").endswith("-e integrations/nomad\n")

    monkeypatch.syspath_prepend(str(folder))
    module, _, name = project["entry-points"]["stackkit.model_deployers"]["nomad"].partition(":")
    flavor = getattr(__import__(module, fromlist=[name]), name)()
    assert isinstance(flavor, ModelDeployerFlavor)
    assert flavor.name == "nomad"
    assert issubclass(flavor.implementation_class(), BaseModelDeployer)
    assert flavor.service_config_class(model_name="m").model_name == "m"
    compile((folder / "tests" / "test_nomad_conformance.py").read_text(encoding="utf-8"), "test", "exec")


def test_it_changes_nothing_when_the_folder_is_there(root: Path) -> None:
    assert make(root, "nomad", "Nomad") == 0
    before = (root / "requirements-dev.txt").read_text(encoding="utf-8")
    assert make(root, "nomad", "Other") == 1
    assert (root / "requirements-dev.txt").read_text(encoding="utf-8") == before


def test_a_name_that_is_no_module_name_is_refused(root: Path) -> None:
    with pytest.raises(SystemExit):
        make(root, "Not-A-Name", "x")
    assert not (root / "integrations").exists()
