"""Components: kept, changed, copied and deleted, their private secrets with them."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from sqlalchemy import delete, select, text

from stackkit import Client
from stackkit.errors import AlreadyExistsError, InUseError, InvalidConfigError, NotFoundError, SecretError
from stackkit.stack import ComponentStore, ComponentType, Flavor, SecretStore, StackStore
from stackkit.stack.components import ComponentConfig, StackComponent
from stackkit.stack.configs import MASK, PRIVATE
from stackkit.store import Database
from stackkit.store import services as rows
from stackkit.store.tables import secrets, services

DEPLOYER = ComponentType.MODEL_DEPLOYER


@pytest.fixture
def store(database: Database) -> ComponentStore:
    return ComponentStore(database)


def config_of(database: Database, remote: Flavor, name: str = "prod") -> Any:
    """The configuration as the component itself sees it."""

    class Component(StackComponent):
        TYPE = DEPLOYER

    return Component(ComponentStore(database).get(DEPLOYER, name), remote, database).config


def private_secrets(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(secrets.c.owner).where(secrets.c.owner.is_not(None))).scalars())


def add_service(database: Database, deployer_id: str) -> None:
    values = {
        "id": str(uuid.uuid4()),
        "identity": str(uuid.uuid4()),
        "deployer_id": deployer_id,
        "flavor": "remote",
        "service_name": "iris",
        "model_name": "iris",
        "config": {},
        "source": {},
        "target": "active",
        "state": "active",
        "message": "",
        "details": {},
    }
    with database.write() as connection:
        assert rows.insert_service(connection, values, "owner")


@pytest.mark.all_databases
def test_a_component_is_kept_listed_renamed_and_deleted(store: ComponentStore, remote: Flavor) -> None:
    made = store.register(DEPLOYER, "prod", remote, {"replicas": "3"})
    assert made.config["replicas"] == 3
    assert store.get(DEPLOYER, "prod") == store.get(DEPLOYER, made.id) == made
    store.register(DEPLOYER, "Prod", remote, {})
    assert {record.name for record in store.list(DEPLOYER)} == {"prod", "Prod"}
    assert store.list(ComponentType.ORCHESTRATOR) == []
    renamed = store.rename(DEPLOYER, "prod", "production")
    assert (renamed.id, renamed.name) == (made.id, "production")
    store.delete(DEPLOYER, "production")
    with pytest.raises(NotFoundError, match="production"):
        store.get(DEPLOYER, "production")


@pytest.mark.all_databases
def test_a_taken_name(store: ComponentStore, remote: Flavor, database: Database) -> None:
    store.register(DEPLOYER, "prod", remote, {"token": "first"})
    store.register(DEPLOYER, "other", remote, {})
    for act in (
        lambda: store.register(DEPLOYER, "prod", remote, {"token": "second"}),
        lambda: store.rename(DEPLOYER, "other", "prod"),
        lambda: store.copy(DEPLOYER, "other", "prod", remote),
    ):
        with pytest.raises(AlreadyExistsError, match="prod"):
            act()
    assert config_of(database, remote).token.get_secret_value() == "first"
    assert len(private_secrets(database)) == 1


@pytest.mark.parametrize("name", ["", " ", "a b", "prod ", "-a", "a/b", "a\n", "ü", "x" * 256])
def test_a_name_that_cannot_be_used(store: ComponentStore, remote: Flavor, name: str) -> None:
    with pytest.raises(InvalidConfigError):
        store.register(DEPLOYER, name, remote, {})
    assert store.list(DEPLOYER) == []


def test_wrong_attributes_are_told_with_the_flavor(store: ComponentStore, remote: Flavor) -> None:
    with pytest.raises(InvalidConfigError, match="'tokn' is no field of the remote model deployer"):
        store.register(DEPLOYER, "prod", remote, {"tokn": "hunter2"})


# Secrets


@pytest.mark.all_databases
def test_a_secret_attribute_is_kept_apart(store: ComponentStore, database: Database, remote: Flavor) -> None:
    record = store.register(DEPLOYER, "prod", remote, {"token": "hunter2", "headers": {"X-Key: 1": "hunter3"}})
    assert "hunter" not in json.dumps(record.config)
    assert record.shown_config["token"] == MASK
    assert record.shown_config["headers"] == {"X-Key: 1": MASK}
    config = config_of(database, remote)
    assert config.token.get_secret_value() == "hunter2"
    assert config.headers["X-Key: 1"].get_secret_value() == "hunter3"
    assert SecretStore(database).list() == []  # no business of the user's
    store.delete(DEPLOYER, "prod")
    assert private_secrets(database) == []


def test_a_change_of_one_secret_leaves_the_other(store: ComponentStore, database: Database, remote: Flavor) -> None:
    store.register(DEPLOYER, "prod", remote, {"token": "t1", "password": "p1"})
    store.update(DEPLOYER, "prod", remote, {"token": "t2"})
    config = config_of(database, remote)
    assert (config.token.get_secret_value(), config.password.get_secret_value()) == ("t2", "p1")
    store.update(DEPLOYER, "prod", remote, {"replicas": 2})
    config = config_of(database, remote)
    assert (config.token.get_secret_value(), config.password.get_secret_value()) == ("t2", "p1")


def test_a_secret_that_is_taken_back_is_gone(store: ComponentStore, database: Database, remote: Flavor) -> None:
    record = store.register(DEPLOYER, "prod", remote, {"token": "t1", "password": "p1"})
    store.update(DEPLOYER, "prod", remote, {"token": None})
    assert config_of(database, remote).token is None
    with database.read() as connection, pytest.raises(SecretError, match="no key 'token'"):
        SecretStore(database).reveal(connection, {"x": f"{{{{{PRIVATE}{record.id}-1.token}}}}"})
    store.update(DEPLOYER, "prod", remote, {"password": None})
    assert private_secrets(database) == []


def test_a_reference_in_place_of_a_secret(store: ComponentStore, database: Database, remote: Flavor) -> None:
    SecretStore(database).create("vault", {"token": "hunter2", "url": "https://user:hunter3@h"})
    record = store.register(DEPLOYER, "prod", remote, {"token": "{{vault.token}}", "url": "{{vault.url}}"})
    assert record.shown_config["token"] == "{{vault.token}}"
    assert private_secrets(database) == []
    assert config_of(database, remote).url == "https://user:hunter3@h"
    SecretStore(database).update("vault", {"token": "hunter4"})
    assert config_of(database, remote).token.get_secret_value() == "hunter4"


@pytest.mark.parametrize("reference", ["{{nowhere.token}}", "{{vault.nothing}}"])
def test_a_reference_to_nothing(store: ComponentStore, database: Database, remote: Flavor, reference: str) -> None:
    SecretStore(database).create("vault", {"token": "hunter2"})
    with pytest.raises(SecretError) as caught:
        store.register(DEPLOYER, "prod", remote, {"token": reference})
    assert "stackkit secret" in str(caught.value.hint)
    assert store.list(DEPLOYER) == []


def test_a_copy_has_secrets_of_its_own_and_keeps_references(
    store: ComponentStore, database: Database, remote: Flavor
) -> None:
    SecretStore(database).create("vault", {"url": "https://user:hunter3@h"})
    store.register(DEPLOYER, "prod", remote, {"token": "hunter2", "url": "{{vault.url}}"})
    copy = store.copy(DEPLOYER, "prod", "test", remote)
    assert copy.config["url"] == "{{vault.url}}"
    assert "hunter" not in json.dumps(copy.config)
    store.delete(DEPLOYER, "prod")
    assert config_of(database, remote, "test").token.get_secret_value() == "hunter2"
    assert private_secrets(database) == [copy.id]


# What others need


@pytest.mark.all_databases
def test_one_with_servers_is_neither_deleted_nor_moved(
    store: ComponentStore, database: Database, remote: Flavor
) -> None:
    record = store.register(DEPLOYER, "prod", remote, {"token": "t1"})
    add_service(database, record.id)
    with pytest.raises(InUseError, match="still has 1 model server"):
        store.delete(DEPLOYER, "prod")
    with pytest.raises(InUseError, match="region cannot change"):
        store.update(DEPLOYER, "prod", remote, {"region": "there", "token": "t2"})
    assert config_of(database, remote).token.get_secret_value() == "t1"
    store.update(DEPLOYER, "prod", remote, {"replicas": 2, "region": "here"})
    store.update(DEPLOYER, "prod", remote, {"region": None})  # its default, which it is
    with database.write() as connection:
        connection.execute(delete(services))
    assert store.update(DEPLOYER, "prod", remote, {"region": "there"}).config["region"] == "there"


def test_a_location_that_a_flavor_has_got_since_is_where_its_servers_are(
    store: ComponentStore, database: Database, remote: Flavor
) -> None:
    record = store.register(DEPLOYER, "prod", remote, {})
    add_service(database, record.id)
    with database.write() as connection:
        connection.execute(text("UPDATE component SET config = '{}'"))
    store.update(DEPLOYER, "prod", remote, {"replicas": 2})
    with database.write() as connection:
        connection.execute(text("UPDATE component SET config = '{}'"))
    with pytest.raises(InUseError, match="region"):
        store.update(DEPLOYER, "prod", remote, {"region": "there"})


@pytest.mark.all_databases
def test_one_that_gets_a_server_while_it_is_deleted_stays(
    store: ComponentStore, database: Database, remote: Flavor, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = store.register(DEPLOYER, "prod", remote, {"token": "t1"})
    add_service(database, record.id)
    monkeypatch.setattr(rows, "count_of_deployer", lambda *args: 0)  # it had none a moment ago
    with pytest.raises(InUseError, match="just now"):
        store.delete(DEPLOYER, "prod")
    assert config_of(database, remote).token.get_secret_value() == "t1"


def test_one_in_a_stack_stays(store: ComponentStore, database: Database, remote: Flavor) -> None:
    store.register(DEPLOYER, "prod", remote, {})
    StackStore(database).register("mine", {DEPLOYER: "prod"})
    with pytest.raises(InUseError, match="'mine'") as caught:
        store.delete(DEPLOYER, "prod")
    assert "stackkit stack update mine" in str(caught.value.hint)
    StackStore(database).update("mine", {}, frozenset({DEPLOYER}))
    store.delete(DEPLOYER, "prod")


def test_the_default_stack_gives_up_its_deployer_by_itself(database: Database, remote: Flavor) -> None:
    store, stacks = ComponentStore(database), StackStore(database)
    assert stacks.adopt_first_deployer(store.register(DEPLOYER, "prod", remote, {}))
    store.delete(DEPLOYER, "prod")
    assert DEPLOYER not in stacks.get("default").components


def test_the_default_stack_keeps_what_it_cannot_do_without(client: Client) -> None:
    client.stacks.get("default")
    for kind in (ComponentType.ARTIFACT_STORE, ComponentType.ORCHESTRATOR):
        with pytest.raises(InUseError, match="'default'"):
            client.components.delete(kind, "default")


def test_an_update_back_to_the_defaults(store: ComponentStore, remote: Flavor) -> None:
    store.register(DEPLOYER, "prod", remote, {"replicas": 3, "url": "https://a"})
    record = store.update(DEPLOYER, "prod", remote, {"replicas": None})
    assert (record.config["replicas"], record.config["url"]) == (1, "https://a")


def test_a_required_attribute_cannot_be_taken_back(store: ComponentStore) -> None:
    class Needy(ComponentConfig):
        host: str

    class NeedyFlavor(Flavor):
        TYPE, NAME, config_class = DEPLOYER, "needy", Needy

    store.register(DEPLOYER, "prod", NeedyFlavor(), {"host": "h"})
    with pytest.raises(InvalidConfigError, match="needs the field 'host'"):
        store.update(DEPLOYER, "prod", NeedyFlavor(), {"host": None})
    assert store.get(DEPLOYER, "prod").config == {"host": "h"}
