"""Secrets: encrypted with one key, never in clear, gone with their owners."""

from __future__ import annotations

import dataclasses
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import delete, insert, select, update

from stackkit.errors import AlreadyExistsError, InUseError, InvalidConfigError, NotFoundError, SecretError
from stackkit.settings import Settings
from stackkit.stack import ComponentStore, ComponentType, Flavor, SecretStore
from stackkit.store import Database
from stackkit.store.tables import meta, secrets

DEPLOYER = ComponentType.MODEL_DEPLOYER


@pytest.fixture
def store(database: Database) -> SecretStore:
    return SecretStore(database)


@pytest.fixture
def with_key(database: Database) -> Iterator[Callable[[str | None], SecretStore]]:
    """The same secrets, as somebody with this key sees them."""
    opened = []

    def with_key(key: str | None) -> SecretStore:
        opened.append(Database(dataclasses.replace(database.settings, secret_key=key)))
        return SecretStore(opened[-1])

    yield with_key
    for each in opened:
        each.close()


@pytest.mark.all_databases
def test_a_secret_is_kept_changed_and_deleted(store: SecretStore) -> None:
    made = store.create("vault", {"user": "ann", "password": "hunter2"})
    assert (made.name, made.keys) == ("vault", ["password", "user"])
    assert store.get("vault") == made
    assert store.values("vault") == {"user": "ann", "password": "hunter2"}
    changed = store.update("vault", {"password": "hunter3", "token": ""}, remove=("user",))
    assert changed.keys == ["password", "token"]
    assert (changed.created, changed.updated > made.updated) == (made.created, True)
    assert store.values("vault") == {"password": "hunter3", "token": ""}
    store.create("another", {"k": "v"})
    assert [secret.name for secret in store.list()] == ["another", "vault"]
    store.delete("vault")
    assert [secret.name for secret in store.list()] == ["another"]


@pytest.mark.all_databases
def test_a_taken_name_changes_nothing(store: SecretStore) -> None:
    store.create("vault", {"k": "first"})
    with pytest.raises(AlreadyExistsError, match="vault"):
        store.create("vault", {"k": "second"})
    assert store.values("vault") == {"k": "first"}
    store.create("Vault", {"k": "v"})  # another name


@pytest.mark.parametrize("name", ["", "a b", "-a", "a.b", "a\n", "ü", "{{a}}", "stackkit-private-x", "a" * 300])
def test_a_name_that_cannot_be_used(store: SecretStore, name: str) -> None:
    with pytest.raises(InvalidConfigError):
        store.create(name, {"k": "v"})


@pytest.mark.parametrize("values", [{}, {"": "v"}, {"a b": "v"}, {"a}}": "v"}])
def test_keys_that_cannot_be_used(store: SecretStore, values: dict[str, str]) -> None:
    with pytest.raises(InvalidConfigError):
        store.create("vault", values)
    assert store.list() == []


def test_what_is_not_there(store: SecretStore) -> None:
    acts: list[Callable[[], object]] = [
        lambda: store.get("no"),
        lambda: store.values("no"),
        lambda: store.update("no", {"k": "v"}),
        lambda: store.delete("no"),
    ]
    for act in acts:
        with pytest.raises(NotFoundError, match="'no'"):
            act()
    store.create("vault", {"k": "v"})
    with pytest.raises(NotFoundError, match="no key 'x'"):
        store.update("vault", {}, remove=("x",))


def test_the_last_key_stays(store: SecretStore) -> None:
    store.create("vault", {"k": "v"})
    with pytest.raises(InvalidConfigError):
        store.update("vault", {}, remove=("k",))
    assert store.values("vault") == {"k": "v"}


@pytest.mark.all_databases
def test_one_that_is_used_stays(store: SecretStore, database: Database, remote: Flavor) -> None:
    store.create("vault", {"token": "hunter2", "spare": "x"})
    ComponentStore(database).register(DEPLOYER, "prod", remote, {"token": "{{ vault.token }}"})
    with pytest.raises(InUseError, match="'prod'"):
        store.delete("vault")
    with pytest.raises(InUseError, match="'prod'"):
        store.update("vault", {}, remove=("token",))
    store.update("vault", {"token": "hunter3"}, remove=("spare",))
    ComponentStore(database).delete(DEPLOYER, "prod")
    store.delete("vault")


# The key


@pytest.mark.all_databases
def test_the_table_holds_no_clear_text(store: SecretStore, database: Database) -> None:
    store.create("vault", {"secretive-key": "hunter2"})
    with database.read() as connection:
        row = connection.execute(select(secrets)).one()
    assert "hunter2" not in repr(row)
    assert "secretive-key" not in row.ciphertext


def test_nothing_in_the_home_holds_clear_text(database: Database, remote: Flavor, home: Path) -> None:
    SecretStore(database).create("vault", {"k": "hunter2-vault"})
    components = ComponentStore(database)
    components.register(DEPLOYER, "prod", remote, {"token": "hunter2-token", "headers": {"X-Key": "hunter2-header"}})
    components.update(DEPLOYER, "prod", remote, {"password": "hunter2-password"})
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"stackkit.db", "stackkit.db-wal", "secret.key"}
    assert not [path for path in files if b"hunter2" in path.read_bytes()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_key_is_made_for_the_homes_own_file_alone(settings: Settings, home: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(settings, database_url=f"sqlite:///{tmp_path}/shared.db")
    shared = Database(other)
    with pytest.raises(SecretError, match="shared database") as caught:
        SecretStore(shared).create("vault", {"k": "v"})
    assert "STACKKIT_SECRET_KEY" in str(caught.value.hint)
    shared.close()
    assert not (home / "secret.key").exists()


@pytest.mark.postgresql
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_server_needs_a_key_to_share(database: Database, with_key: Callable[[str | None], SecretStore]) -> None:
    keyless = with_key(None)
    with pytest.raises(SecretError, match="shared database"):
        keyless.create("vault", {"k": "v"})
    SecretStore(database).create("vault", {"k": "v"})
    with pytest.raises(SecretError, match="shared database"):
        keyless.values("vault")


@pytest.mark.all_databases
def test_another_key_is_refused(store: SecretStore, with_key: Callable[[str | None], SecretStore]) -> None:
    store.create("vault", {"k": "v"})
    other = with_key(Fernet.generate_key().decode())
    acts: list[Callable[[], object]] = [
        lambda: other.create("second", {"k": "v"}),
        lambda: other.values("vault"),
        lambda: other.update("vault", {"k": "w"}),
    ]
    for act in acts:
        with pytest.raises(SecretError, match="not the one") as caught:
            act()
        assert "fingerprint" in str(caught.value.hint)
    assert store.values("vault") == {"k": "v"}


def test_a_key_that_is_none(store: SecretStore, with_key: Callable[[str | None], SecretStore]) -> None:
    with pytest.raises(SecretError, match="no Fernet key") as caught:
        with_key("hunter2").create("vault", {"k": "v"})
    assert "hunter2" not in str(caught.value)
    store.create("vault", {"k": "v"})  # and the database is bound to no such key


def test_who_has_lost_the_key_sees_which_secrets_there_were(store: SecretStore, home: Path) -> None:
    store.create("vault", {"k": "v"})
    (home / "secret.key").unlink()
    assert [(secret.name, secret.keys) for secret in store.list()] == [("vault", [])]
    for act in (lambda: store.get("vault"), lambda: store.values("vault"), lambda: store.create("b", {"k": "v"})):
        with pytest.raises(SecretError, match="is gone"):
            act()
    assert not (home / "secret.key").exists()
    store.delete("vault")


def test_a_damaged_secret(store: SecretStore, database: Database) -> None:
    store.create("vault", {"k": "v"})
    with database.write() as connection:
        connection.execute(update(secrets).values(ciphertext="gAAAAA"))
    store.create("whole", {"k": "v"})
    with pytest.raises(SecretError, match="damaged"):
        store.values("vault")
    assert [secret.keys for secret in store.list()] == [[], ["k"]]


@pytest.mark.all_databases
def test_another_process_may_bind_the_database_first(
    database: Database, store: SecretStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens when two processes keep their first secret at the same moment."""
    from stackkit.stack import secrets as module

    store.create("first", {"k": "v"})
    with database.write() as connection:
        fingerprint = connection.execute(select(meta.c.value)).scalar_one()
        connection.execute(delete(meta))
    read = module._fingerprint

    def too_early(connection):
        known = read(connection)
        if known is None:  # and right then the other one writes it
            connection.execute(insert(meta).values(key=module._FINGERPRINT, value=fingerprint))
        return known

    monkeypatch.setattr(module, "_fingerprint", too_early)
    store.create("second", {"k": "w"})
    assert store.values("second") == {"k": "w"}


_CREATOR = """
import sys
from stackkit import Client
Client().secrets.create(sys.argv[1], {"k": "v"})
"""


def test_processes_that_make_the_key_at_once_agree_on_it(settings: Settings) -> None:
    creating = [
        subprocess.Popen([sys.executable, "-c", _CREATOR, f"s{number}"], stderr=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    assert [process.communicate()[1] for process in creating] == [""] * 4
    database = Database(settings)
    store = SecretStore(database)
    assert [store.values(secret.name) for secret in store.list()] == [{"k": "v"}] * 4
    database.close()
