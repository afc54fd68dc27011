"""Secrets: named sets of keys and values, encrypted in a table of their own.

They are encrypted with Fernet. The key comes from STACKKIT_SECRET_KEY, or from the file ``secret.key`` in the home,
which is generated only for the SQLite database of that home: a shared database needs a key that its users share.
The database stores the key's fingerprint, so that a differing key is refused instead of mixed in.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..errors import AlreadyExistsError, InUseError, InvalidConfigError, NotFoundError, SecretError
from ..settings import ENV_SECRET_KEY, Settings, write_atomically
from ..store import Database
from ..store.clock import now
from ..store.tables import components, meta, secrets, service_revisions, services
from . import configs

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,200}")
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")
_FINGERPRINT = "secret_key_fingerprint"
_MAKE_KEY = "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"


@dataclass(frozen=True)
class Secret:
    """A secret as it may be shown: its name and its keys, never its values.

    ``keys`` is empty in a list where it cannot be decrypted.
    """

    name: str
    keys: list[str]
    created: datetime
    updated: datetime


class SecretStore:
    """The secrets of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, values: Mapping[str, str]) -> Secret:
        """Raises AlreadyExistsError when the name is taken and InvalidConfigError for a name that cannot be used."""
        if not _NAME.fullmatch(name) or name.startswith(configs.PRIVATE):
            raise InvalidConfigError(
                f"{name!r} cannot name a secret.",
                "Use letters, digits, '-' and '_', beginning with a letter or digit.",
            )
        _check_values(values)
        try:
            with self._database.write() as connection:
                self._insert(connection, name, values, owner=None)
        except IntegrityError:
            raise AlreadyExistsError(
                f"There is a secret {name!r} already.", f"Change it: stackkit secret update {name} KEY=VALUE."
            ) from None
        return self.get(name)

    def list(self) -> list[Secret]:
        """All secrets that a user made, by name; whoever has lost the key still sees which there were."""
        with self._database.read() as connection:
            query = select(secrets).where(secrets.c.owner.is_(None)).order_by(secrets.c.name)
            rows = connection.execute(query).mappings().all()
            return [self._listed(connection, row) for row in rows]

    def get(self, name: str) -> Secret:
        """Raises NotFoundError, and SecretError when the key does not fit."""
        with self._database.read() as connection:
            return self._shown(connection, _find(connection, name))

    def values(self, name: str) -> dict[str, str]:
        """The values in clear. Raises NotFoundError, and SecretError when the key does not fit."""
        with self._database.read() as connection:
            return self._decrypt(connection, _find(connection, name)["ciphertext"])

    def update(self, name: str, values: Mapping[str, str], remove: tuple[str, ...] = ()) -> Secret:
        """Add or replace ``values`` and drop the keys in ``remove``.

        Raises NotFoundError, and InUseError while a component or a service refers to a key in ``remove``.
        """
        _check_values(values, may_be_empty=bool(remove))
        with self._database.write() as connection:
            row = _find(connection, name)
            merged = {**self._decrypt(connection, row["ciphertext"]), **values}
            for key in remove:
                if merged.pop(key, None) is None:
                    raise NotFoundError(f"The secret {name!r} has no key {key!r}.", f"It has: {', '.join(merged)}.")
            if not merged:
                raise InvalidConfigError(
                    "A secret needs at least one value.", f"To be rid of it: stackkit secret delete {name}."
                )
            if users := _users(connection, name, remove):
                raise InUseError(
                    f"The secret {name!r} has keys that {', '.join(users)} still uses.", "Change or delete that first."
                )
            connection.execute(
                update(secrets)
                .where(secrets.c.id == row["id"])
                .values(ciphertext=self._encrypt(connection, merged), updated=now())
            )
        return self.get(name)

    def delete(self, name: str) -> None:
        """Raises NotFoundError, and InUseError while a component or a service refers to it."""
        with self._database.write() as connection:
            row = _find(connection, name)
            if users := _users(connection, name):
                raise InUseError(f"The secret {name!r} is used by {', '.join(users)}.", "Change or delete those first.")
            connection.execute(delete(secrets).where(secrets.c.id == row["id"]))

    # What components and services keep

    def conceal(
        self, connection: Connection, config: Mapping[str, Any], owner: str, version: int = 1
    ) -> dict[str, Any]:
        """The stored form of a plain configuration: its secret texts go into a private secret of ``owner``.

        So do those that it refers to in a private secret of another owner, which may be gone tomorrow.
        Raises SecretError when it refers to a secret or a key that does not exist.
        """
        name = f"{configs.PRIVATE}{owner}-{version}"

        def own(secret: str, key: str) -> Any:
            text = self._look_up(connection, secret, key)
            of_another = secret.startswith(configs.PRIVATE) and not secret.startswith(f"{configs.PRIVATE}{owner}-")
            return SecretStr(text) if of_another else configs.reference(secret, key)

        found: dict[str, str] = {}
        stored = configs.conceal(configs.reveal(dict(config), own), name, found)
        kept = {key for secret, key in configs.references(stored) if secret == name} - found.keys()
        values = {key: self._look_up(connection, name, key) for key in sorted(kept)} | found
        connection.execute(delete(secrets).where(secrets.c.name == name))
        if values:
            self._insert(connection, name, values, owner=owner)
        return dict(stored)

    def reveal(self, connection: Connection, stored: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration with its references replaced by their values. Reads nothing when there are none."""
        return dict(configs.reveal(dict(stored), lambda secret, key: self._look_up(connection, secret, key)))

    def forget(self, connection: Connection, owner: str) -> None:
        """Delete the private secrets of a component or service that is gone; a no-op when it has none."""
        connection.execute(delete(secrets).where(secrets.c.owner == owner))

    def _look_up(self, connection: Connection, secret: str, key: str) -> str:
        row = connection.execute(select(secrets).where(secrets.c.name == secret)).mappings().first()
        if row is None:
            raise SecretError(
                f"There is no secret {secret!r}, which {{{{{secret}.{key}}}}} refers to.",
                f"Create it: stackkit secret create {secret} {key}=VALUE.",
            )
        values = self._decrypt(connection, row["ciphertext"])
        if key not in values:
            raise SecretError(
                f"The secret {secret!r} has no key {key!r}.",
                f"Add it: stackkit secret update {secret} {key}=VALUE.",
            )
        return values[key]

    def _insert(self, connection: Connection, name: str, values: Mapping[str, str], owner: str | None) -> None:
        connection.execute(
            insert(secrets).values(
                id=str(uuid.uuid4()),
                name=name,
                owner=owner,
                ciphertext=self._encrypt(connection, values),
                created=now(),
                updated=now(),
            )
        )

    def _listed(self, connection: Connection, row: Any) -> Secret:
        try:
            return self._shown(connection, row)
        except SecretError:
            return Secret(row["name"], [], row["created"], row["updated"])

    def _shown(self, connection: Connection, row: Any) -> Secret:
        keys = sorted(self._decrypt(connection, row["ciphertext"]))
        return Secret(row["name"], keys, row["created"], row["updated"])

    def _encrypt(self, connection: Connection, values: Mapping[str, str]) -> str:
        known = _fingerprint(connection)
        key = _read_key(self._database.settings, may_generate=known is None)
        if known is None:
            _keep_fingerprint(connection, key)
            known = _fingerprint(connection)
        return _fernet(key, known).encrypt(json.dumps(dict(values)).encode()).decode("ascii")

    def _decrypt(self, connection: Connection, ciphertext: str) -> dict[str, str]:
        from cryptography.fernet import InvalidToken

        key = _read_key(self._database.settings, may_generate=False)
        try:
            return dict(json.loads(_fernet(key, _fingerprint(connection)).decrypt(ciphertext.encode("ascii"))))
        except InvalidToken:
            raise SecretError("A secret in the database is damaged.", "Delete it and create it again.") from None


def _fernet(key: str, known: str | None) -> Fernet:
    """The cipher of ``key``. Raises SecretError unless its fingerprint is the ``known`` one."""
    from cryptography.fernet import Fernet

    try:
        cipher = Fernet(key)
    except ValueError:
        raise SecretError("The secret key is no Fernet key.", f"Make one: {_MAKE_KEY}.") from None
    if known is not None and known != _hash(key):
        raise SecretError(
            "The secret key is not the one that this database's secrets are encrypted with.",
            f"Set {ENV_SECRET_KEY} to the key that was used (its fingerprint begins with {known[:8]}).",
        )
    return cipher


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _fingerprint(connection: Connection) -> str | None:
    return connection.execute(select(meta.c.value).where(meta.c.key == _FINGERPRINT)).scalar()


def _keep_fingerprint(connection: Connection, key: str) -> None:
    """Bind the database to its first key; a no-op when another process has done so at the same moment."""
    try:
        with connection.begin_nested():
            connection.execute(insert(meta).values(key=_FINGERPRINT, value=_hash(key)))
    except IntegrityError:
        pass


def _find(connection: Connection, name: str) -> Any:
    query = select(secrets).where(secrets.c.name == name, secrets.c.owner.is_(None))
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(f"There is no secret {name!r}.", "See what there is: stackkit secret list.")
    return row


def _users(connection: Connection, name: str, keys: Collection[str] | None = None) -> list[str]:
    """Who refers to the secret, or to one of these ``keys`` of it."""
    revisions = service_revisions.join(services, services.c.id == service_revisions.c.service_id)
    everybody = (
        ("the component", select(components.c.name, components.c.config)),
        # earlier revisions too: a rollback needs theirs
        ("the service", select(services.c.service_name, service_revisions.c.config).select_from(revisions)),
    )
    found = [
        f"{kind} {row[0]!r}"
        for kind, query in everybody
        for row in connection.execute(query)
        if any(secret == name and (keys is None or key in keys) for secret, key in configs.references(row.config))
    ]
    return list(dict.fromkeys(found))


def _check_values(values: Mapping[str, str], *, may_be_empty: bool = False) -> None:
    if not values and not may_be_empty:
        raise InvalidConfigError("A secret needs at least one value.", "Give it as KEY=VALUE.")
    for key in values:
        if not _KEY.fullmatch(key):
            raise InvalidConfigError(f"{key!r} cannot be a key of a secret.", "Use letters, digits, '_', '-' and '.'.")


def _read_key(settings: Settings, *, may_generate: bool) -> str:
    """The key. ``may_generate`` is for whoever is within the one writing transaction of a SQLite database."""
    if settings.secret_key:
        return settings.secret_key
    path = settings.home / "secret.key"
    try:
        return path.read_text(encoding="ascii").strip()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(f"The key in {path} cannot be read: {error}.", f"Or set {ENV_SECRET_KEY}.") from error
    if not settings.owns_database:
        raise SecretError(
            "A shared database needs a secret key that its users share.",
            f"Set {ENV_SECRET_KEY}; make a key with: {_MAKE_KEY}.",
        )
    if not may_generate:
        raise SecretError(
            f"The key of this database's secrets is missing: {path} is gone.",
            f"Put the file back, or set {ENV_SECRET_KEY}.",
        )
    from cryptography.fernet import Fernet

    key = Fernet.generate_key().decode("ascii")
    try:
        write_atomically(path, key + "\n")
    except OSError as error:
        raise SecretError(f"The secret key cannot be kept in {path}: {error.strerror}.") from error
    return key
