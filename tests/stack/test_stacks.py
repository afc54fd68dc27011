"""Stacks: what they are made of, which is active, and the default one that is always there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stackkit import Client
from stackkit.errors import AlreadyExistsError, InUseError, InvalidConfigError, NotFoundError, SettingsError
from stackkit.settings import Settings
from stackkit.stack import ComponentStore, ComponentType, Flavor, StackStore
from stackkit.store import Database

ARTIFACTS, DEPLOYER, ORCHESTRATOR = (
    ComponentType.ARTIFACT_STORE,
    ComponentType.MODEL_DEPLOYER,
    ComponentType.ORCHESTRATOR,
)


@pytest.fixture
def store(database: Database, remote: Flavor) -> StackStore:
    """Stacks beside the model deployers "first" and "second"."""
    for name in ("first", "second"):
        ComponentStore(database).register(DEPLOYER, name, remote, {})
    return StackStore(database)


@pytest.fixture
def with_stack(database: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], StackStore]:
    """The same stacks, as somebody with this STACKKIT_STACK sees them."""

    def with_stack(name: str) -> StackStore:
        monkeypatch.setenv("STACKKIT_STACK", name)
        monkeypatch.setattr(database, "settings", Settings.load())
        return StackStore(database)

    return with_stack


@pytest.mark.all_databases
def test_the_default_stack_is_always_there(store: StackStore) -> None:
    stack = store.active()
    assert stack.name == "default"
    assert {kind: record.name for kind, record in stack.components.items()} == {
        ARTIFACTS: "default",
        ORCHESTRATOR: "default",
    }
    assert store.get("default").id == store.get(stack.id).id == stack.id
    assert [each.name for each in store.list()] == ["default"]


def test_the_default_stack_takes_components_that_have_its_name(database: Database, remote: Flavor) -> None:
    record = ComponentStore(database).register(ARTIFACTS, "default", remote, {})
    assert StackStore(database).get("default").components[ARTIFACTS].id == record.id


_ACTIVE = "from stackkit import Client; print(Client().active_stack.id)"


@pytest.mark.all_databases
def test_processes_make_one_default_stack(settings: Settings, database: Database) -> None:
    asking = [
        subprocess.Popen([sys.executable, "-c", _ACTIVE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs, errors = zip(*(process.communicate() for process in asking), strict=True)
    assert errors == ("",) * 3
    assert set(outputs) == {f"{StackStore(database).active().id}\n"}


@pytest.mark.all_databases
def test_the_first_deployer_joins_the_default_stack(client: Client) -> None:
    client.flavors.register(DEPLOYER, "stackkit.model_deployers.memory.MemoryModelDeployerFlavor")
    for name in ("first", "second"):
        client.register_component(DEPLOYER, name, "memory", {})
    assert client.active_stack.components[DEPLOYER].name == "first"
    assert client.model_deployer().name == "first"
    client.components.delete(DEPLOYER, "first")
    with pytest.raises(NotFoundError, match="has no model deployer") as caught:
        client.model_deployer()
    assert "stackkit stack update default" in str(caught.value.hint)


@pytest.mark.all_databases
def test_a_stack_is_registered_changed_renamed_and_deleted(store: StackStore) -> None:
    made = store.register("mine", {DEPLOYER: "first"})
    names = {kind: record.name for kind, record in made.components.items()}
    assert names == {ARTIFACTS: "default", DEPLOYER: "first", ORCHESTRATOR: "default"}
    changed = store.update("mine", {DEPLOYER: "second"}, frozenset({ORCHESTRATOR}))
    names = {kind: record.name for kind, record in changed.components.items()}
    assert names == {ARTIFACTS: "default", DEPLOYER: "second"}
    assert changed.updated > made.updated
    renamed = store.rename("mine", "yours")
    assert (renamed.id, renamed.name) == (made.id, "yours")
    assert [stack.name for stack in store.list()] == ["default", "yours"]
    assert store.list()[1] == renamed
    store.delete("yours")
    assert [stack.name for stack in store.list()] == ["default"]
    with pytest.raises(NotFoundError, match="yours"):
        store.get("yours")


@pytest.mark.all_databases
def test_a_taken_name(store: StackStore) -> None:
    store.register("mine", {})
    store.register("yours", {})
    for act in (
        lambda: store.register("mine", {DEPLOYER: "first"}),
        lambda: store.register("default", {}),
        lambda: store.rename("yours", "mine"),
    ):
        with pytest.raises(AlreadyExistsError):
            act()
    assert DEPLOYER not in store.get("mine").components


def test_a_component_that_does_not_exist(store: StackStore) -> None:
    store.register("mine", {DEPLOYER: "first"})
    with pytest.raises(NotFoundError, match="model deployer 'third'"):
        store.register("yours", {DEPLOYER: "third"})
    with pytest.raises(NotFoundError, match="model deployer 'third'"):
        store.update("mine", {DEPLOYER: "third"})
    assert store.get("mine").components[DEPLOYER].name == "first"
    assert [stack.name for stack in store.list()] == ["default", "mine"]


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b"])
def test_a_name_that_cannot_be_used(store: StackStore, name: str) -> None:
    with pytest.raises(InvalidConfigError):
        store.register(name, {})


def test_the_default_stack_stays(store: StackStore) -> None:
    default = store.get("default")
    for name in ("default", default.id):
        with pytest.raises(InUseError, match="cannot be deleted"):
            store.delete(name)
        with pytest.raises(InUseError, match="cannot be renamed"):
            store.rename(name, "other")
    assert store.get("default") == default


def test_the_default_stack_may_be_changed_but_not_emptied(
    store: StackStore, database: Database, remote: Flavor
) -> None:
    ComponentStore(database).register(ARTIFACTS, "bucket", remote, {})
    for kind in (ARTIFACTS, ORCHESTRATOR):
        with pytest.raises(InUseError, match="always has an"):
            store.update("default", {}, frozenset({kind}))
    store.update("default", {ARTIFACTS: "bucket", DEPLOYER: "first"})
    assert store.register("mine", {}).components[ARTIFACTS].name == "bucket"
    assert DEPLOYER not in store.update("default", {}, frozenset({DEPLOYER})).components


# Which is active


def test_the_chosen_stack_is_active(store: StackStore) -> None:
    mine = store.register("mine", {})
    assert store.activate("mine") == mine
    assert store.active() == mine
    store.rename("mine", "yours")
    assert store.active().name == "yours"
    with pytest.raises(InUseError, match="is active"):
        store.delete("yours")
    store.activate("default")
    store.delete("yours")
    with pytest.raises(NotFoundError):
        store.activate("yours")
    assert store.active().name == "default"


def test_the_environment_comes_first(store: StackStore, with_stack: Callable[[str], StackStore]) -> None:
    store.register("mine", {})
    store.register("yours", {})
    store.activate("yours")
    assert with_stack("mine").active().name == "mine"
    with pytest.raises(NotFoundError, match="STACKKIT_STACK names a stack that does not exist: 'nowhere'"):
        with_stack("nowhere").active()


def test_one_that_another_home_has_deleted_falls_back_to_the_default(store: StackStore, home: Path) -> None:
    store.register("mine", {})
    store.activate("mine")
    chosen = (home / "config.json").read_text()
    store.activate("default")
    store.delete("mine")
    (home / "config.json").write_text(chosen)
    assert store.active().name == "default"


def test_a_damaged_choice_is_told(store: StackStore, home: Path) -> None:
    store.activate("default")
    (home / "config.json").write_text("{")
    with pytest.raises(SettingsError, match=r"config\.json"):
        store.active()
    store.activate("default")
    assert store.active().name == "default"
