"""Flavors: listed without being imported, loaded by name, registered from where they lie."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from stackkit import Client
from stackkit.errors import AlreadyExistsError, FlavorError, InUseError, NotFoundError
from stackkit.stack import ComponentType, FlavorRegistry
from stackkit.store import Database

DEPLOYER = ComponentType.MODEL_DEPLOYER

MODULE = """
from stackkit.model_deployers.memory import MemoryModelDeployer, MemoryModelDeployerFlavor

class CompanyModelDeployer(MemoryModelDeployer):
    pass

class CompanyFlavor(MemoryModelDeployerFlavor):
    NAME = "company"
    implementation = f"{__name__}:CompanyModelDeployer"

class SameAsInstalled(CompanyFlavor):
    NAME = "local"

class Renamed(CompanyFlavor):
    NAME = "renamed"

class NoFlavor:
    pass
"""


@pytest.fixture
def registry(database: Database) -> FlavorRegistry:
    return FlavorRegistry(database)


@pytest.fixture(autouse=True)
def imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what a test imports, and what it adds to the import path."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0].startswith("company"):
            del sys.modules[name]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder outside of every import path, which is the working directory."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "company_flavor.py").write_text(MODULE)
    monkeypatch.chdir(folder)
    return folder


def offer(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Pretend that an installed package offers a flavor."""
    group = "stackkit.model_deployers"
    points = [*importlib.metadata.entry_points(group=group), EntryPoint(name, value, group)]
    monkeypatch.setattr("stackkit.stack.flavors.entry_points", lambda **given: EntryPoints(points).select(**given))


def run(code: str, *arguments: str, cwd: Path) -> object:
    """What a new process in ``cwd`` prints as JSON; its import path is that of an installed command."""
    command = [sys.executable, "-P", "-c", code, *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# What is installed


def test_the_built_in_flavor_is_an_entry_point_like_any_other(registry: FlavorRegistry) -> None:
    (entry,) = [entry for entry in registry.list(DEPLOYER) if entry.name == "local"]
    assert (entry.type, entry.distribution, entry.folder) == (DEPLOYER, "stackkit", None)
    assert registry.get(DEPLOYER, "local").name == "local"


def test_listing_imports_no_flavor(tmp_path: Path) -> None:
    code = """
import json, sys
from stackkit import Client
from stackkit.stack import ComponentType
names = [entry.name for kind in ComponentType for entry in Client().flavors.list(kind)]
print(json.dumps([names, [name for name in sys.modules if name.startswith(("stackkit.local", "stackkit.pipelines"))]]))
"""
    names, imported = run(code, cwd=tmp_path)  # type: ignore[misc]
    assert names.count("local") == 3
    assert imported == []


def test_an_unknown_flavor_and_the_nearest(registry: FlavorRegistry) -> None:
    with pytest.raises(NotFoundError, match="'locl'") as caught:
        registry.get(DEPLOYER, "locl")
    assert caught.value.hint == "Did you mean 'local'?"


def test_an_unknown_flavor_that_may_need_its_package(registry: FlavorRegistry) -> None:
    with pytest.raises(NotFoundError) as caught:
        registry.get(DEPLOYER, "nomad")
    assert "pip install stackkit-nomad" in str(caught.value.hint)


def test_a_missing_dependency_is_named(
    registry: FlavorRegistry, monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    (project / "company_needy.py").write_text("import company_sdk.client\n")
    monkeypatch.syspath_prepend(project)
    offer(monkeypatch, "needy", "company_needy:Flavor")
    with pytest.raises(FlavorError, match="'needy' needs company_sdk") as caught:
        registry.get(DEPLOYER, "needy")
    assert str(caught.value.hint) == "Install it: pip install company_sdk."


def test_a_missing_dependency_of_the_implementation_is_named(
    registry: FlavorRegistry, monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    (project / "company_lazy.py").write_text(MODULE.replace("{__name__}:Company", "company_work:Company"))
    (project / "company_work.py").write_text("import company_sdk\n")
    monkeypatch.syspath_prepend(project)
    offer(monkeypatch, "company", "company_lazy:CompanyFlavor")
    flavor = registry.get(DEPLOYER, "company")  # described without it
    with pytest.raises(FlavorError, match="needs company_sdk"):
        flavor.implementation_class()


def test_a_package_that_is_gone(registry: FlavorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "gone", "company_gone.flavor:Flavor")
    with pytest.raises(FlavorError, match=r"company_gone\.flavor of the flavor 'gone' cannot be found"):
        registry.get(DEPLOYER, "gone")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("def", "SyntaxError"),
        ("import json; json.nothing", "json"),
        ("from json import nothing", "ImportError"),
        ("", "has no Flavor"),
        ("Flavor = 7", "is no flavor"),
        ("class Flavor: pass", "is no flavor"),
        ("from stackkit.stack import Flavor", "has no TYPE or no NAME"),
        (
            "from stackkit.pipelines.orchestrators import LocalOrchestratorFlavor as Flavor",
            "is an orchestrator flavor, not a model deployer",
        ),
        ("from stackkit.local.flavor import LocalModelDeployerFlavor as Flavor", "is the flavor 'local', not 'broken'"),
    ],
)
def test_a_module_that_is_broken(
    registry: FlavorRegistry, monkeypatch: pytest.MonkeyPatch, project: Path, text: str, told: str
) -> None:
    (project / "company_broken.py").write_text(text)
    monkeypatch.syspath_prepend(project)
    offer(monkeypatch, "broken", "company_broken:Flavor")
    with pytest.raises(FlavorError) as caught:
        registry.get(DEPLOYER, "broken")
    assert told in caught.value.message
    assert "company_broken" in caught.value.message


# What a user registers


@pytest.mark.all_databases
def test_a_registered_flavor_is_listed_used_and_deleted(registry: FlavorRegistry, project: Path) -> None:
    entry = registry.register(DEPLOYER, "company_flavor.CompanyFlavor")
    assert (entry.name, entry.folder) == ("company", str(project))
    assert entry in registry.list(DEPLOYER)
    assert entry.name not in [each.name for each in registry.list(ComponentType.ORCHESTRATOR)]
    assert registry.get(DEPLOYER, "company").implementation_class().__name__ == "CompanyModelDeployer"
    registry.delete(DEPLOYER, "company")
    assert entry not in registry.list(DEPLOYER)
    with pytest.raises(NotFoundError):
        registry.delete(DEPLOYER, "company")


_REGISTER = """
import json, sys
from stackkit import Client
from stackkit.stack import ComponentType
print(json.dumps(Client().flavors.register(ComponentType.MODEL_DEPLOYER, sys.argv[1]).folder))
"""
_LOAD = """
import json, sys
from stackkit import Client
from stackkit.stack import ComponentType
print(json.dumps(Client().flavors.get(ComponentType.MODEL_DEPLOYER, "company").implementation_class().__name__))
"""


@pytest.mark.parametrize("package", [False, True])
def test_it_is_loaded_from_anywhere(project: Path, tmp_path: Path, package: bool) -> None:
    source = "company_flavor.CompanyFlavor"
    if package:
        (project / "company_package").mkdir()
        (project / "company_package" / "flavor.py").write_text(MODULE)
        source = "company_package.flavor.CompanyFlavor"
    assert run(_REGISTER, source, cwd=project) == str(project)
    assert run(_LOAD, cwd=tmp_path) == "CompanyModelDeployer"


def test_an_installed_module_is_registered_without_its_folder(registry: FlavorRegistry, project: Path) -> None:
    entry = registry.register(DEPLOYER, "stackkit.model_deployers.memory.MemoryModelDeployerFlavor")
    assert (entry.name, entry.folder) == ("memory", None)


def test_a_folder_that_this_process_alone_knows_is_kept(
    registry: FlavorRegistry, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(project))
    monkeypatch.syspath_prepend(project)
    assert registry.register(DEPLOYER, "company_flavor.CompanyFlavor").folder == str(project)


def test_an_import_path_that_every_process_has_is_not_kept(
    registry: FlavorRegistry, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(project)  # as a .pth file does
    assert registry.register(DEPLOYER, "company_flavor.CompanyFlavor").folder is None


def test_the_working_directory_hides_nothing_and_is_not_imported(project: Path) -> None:
    for name in ("yaml", "stackkit", "rich", "company_other"):
        (project / f"{name}.py").write_text("raise SystemExit('imported from the working directory')")
    assert run(_REGISTER, "company_flavor.CompanyFlavor", cwd=project) == str(project)
    assert run(_LOAD, cwd=project) == "CompanyModelDeployer"
    code = """
import json, sys
from stackkit import Client
from stackkit.stack import ComponentType
names = [entry.name for entry in Client().flavors.list(ComponentType.MODEL_DEPLOYER)]
Client().flavors.get(ComponentType.MODEL_DEPLOYER, "local").implementation_class()
print(json.dumps(["company" in names, [entry for entry in sys.path if "project" in entry]]))
"""
    assert run(code, cwd=project) == [True, []]


def test_a_module_that_is_gone_says_where_it_was_to_be(project: Path, database: Database) -> None:
    registry = FlavorRegistry(database)
    registry.register(DEPLOYER, "company_flavor.CompanyFlavor")
    del sys.modules["company_flavor"]
    (project / "company_flavor.py").unlink()
    with pytest.raises(FlavorError, match="company_flavor of the flavor 'company' cannot be found") as caught:
        registry.get(DEPLOYER, "company")
    assert caught.value.hint == f"Put it back into {project}, or install its package."


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("CompanyFlavor", "names no class"),
        ("company_flavor.Nothing", "has no Nothing"),
        ("company_flavor.NoFlavor", "is no flavor"),
        ("company_nowhere.Flavor", "cannot be found"),
        ("__main__.Flavor", "has no Flavor"),
        ("company_flavor..CompanyFlavor", "cannot be found"),
    ],
)
def test_what_cannot_be_registered(registry: FlavorRegistry, project: Path, source: str, told: str) -> None:
    with pytest.raises(FlavorError, match=told):
        registry.register(DEPLOYER, source)
    assert [entry for entry in registry.list(DEPLOYER) if entry.distribution == "registered"] == []


def test_a_module_that_is_not_here_says_where_to_run_it(registry: FlavorRegistry, project: Path) -> None:
    with pytest.raises(FlavorError) as caught:
        registry.register(DEPLOYER, "company_nowhere.Flavor")
    assert caught.value.hint == "Run it in the folder that holds the module, or install its package."


@pytest.mark.all_databases
def test_a_name_that_is_taken(registry: FlavorRegistry, project: Path) -> None:
    with pytest.raises(AlreadyExistsError, match="'local' is installed"):
        registry.register(DEPLOYER, "company_flavor.SameAsInstalled")
    registry.register(DEPLOYER, "company_flavor.CompanyFlavor")
    with pytest.raises(AlreadyExistsError, match="'company'") as caught:
        registry.register(DEPLOYER, "company_flavor.CompanyFlavor")
    assert "flavor delete company" in str(caught.value.hint)


def test_two_modules_of_one_name_are_not_taken_for_each_other(
    registry: FlavorRegistry, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(DEPLOYER, "company_flavor.CompanyFlavor")
    other = tmp_path / "other"
    other.mkdir()
    (other / "company_flavor.py").write_text(MODULE.replace('"company"', '"other"'))
    monkeypatch.chdir(other)
    del sys.modules["company_flavor"]
    sys.path.remove(str(project))
    registry.register(DEPLOYER, "company_flavor.CompanyFlavor")
    assert registry.get(DEPLOYER, "other").name == "other"
    with pytest.raises(FlavorError, match="is the flavor 'other', not 'company'"):
        registry.get(DEPLOYER, "company")


def test_one_that_is_used_stays(client: Client, project: Path) -> None:
    client.flavors.register(DEPLOYER, "company_flavor.CompanyFlavor")
    client.register_component(DEPLOYER, "prod", "company", {})
    with pytest.raises(InUseError, match="prod"):
        client.flavors.delete(DEPLOYER, "company")
    client.components.delete(DEPLOYER, "prod")
    client.flavors.delete(DEPLOYER, "company")
