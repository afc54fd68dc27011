"""Secrets: named sets of keys and values, encrypted in a table of their own.

They are encrypted with Fernet. The key comes from STACKKIT_SECRET_KEY, or from the file ``secret.key`` in the home,
which is generated only for the SQLite database of that home: a shared database needs a key that its users share.
The database stores the key's fingerprint, so that a differing key is refused instead of mixed in.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..errors import AlreadyExistsError, InUseError, InvalidConfigError, NotFoundError, SecretError
from ..settings import ENV_SECRET_KEY, Settings
from ..store import Database
from ..store.clock import now
from ..store.tables import components, meta, secrets, services
from . import configs

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,200}")
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}")
_FINGERPRINT = "secret_key_fingerprint"


@dataclass(frozen=True)
class Secret:
    """A secret as it may be shown: its name and its keys, never its values."""

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
        """All secrets that a user made, by name. Does not need the key's file unless there are some."""
        with self._database.read() as connection:
            query = select(secrets).where(secrets.c.owner.is_(None)).order_by(secrets.c.name)
            rows = connection.execute(query).mappings().all()
            return [self._shown(connection, row) for row in rows]

    def get(self, name: str) -> Secret:
        """Raises NotFoundError."""
        with self._database.read() as connection:
            return self._shown(connection, _find(connection, name))

    def values(self, name: str) -> dict[str, str]:
        """The values in clear. Raises NotFoundError, and SecretError when the key does not fit."""
        with self._database.read() as connection:
            return self._decrypt(connection, _find(connection, name)["ciphertext"])

    def update(self, name: str, values: Mapping[str, str], remove: tuple[str, ...] = ()) -> Secret:
        """Add or replace ``values`` and drop the keys in ``remove``. Raises NotFoundError."""
        _check_values(values, may_be_empty=bool(remove))
        with self._database.write() as connection:
            row = _find(connection, name)
            merged = {**self._decrypt(connection, row["ciphertext"]), **values}
            for key in remove:
                if merged.pop(key, None) is None:
                    raise NotFoundError(f"The secret {name!r} has no key {key!r}.", f"It has: {', '.join(merged)}.")
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

        Raises SecretError when it refers to a secret or a key that does not exist.
        """
        name = f"{configs.PRIVATE}{owner}-{version}"
        found: dict[str, str] = {}
        stored = configs.conceal(dict(config), name, found)
        for secret, key in sorted(configs.references(stored)):
            if secret != name:
                self._look_up(connection, secret, key)
        if found:
            connection.execute(delete(secrets).where(secrets.c.name == name))
            self._insert(connection, name, found, owner=owner)
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

    def _shown(self, connection: Connection, row: Any) -> Secret:
        keys = sorted(self._decrypt(connection, row["ciphertext"]))
        return Secret(row["name"], keys, row["created"], row["updated"])

    def _encrypt(self, connection: Connection, values: Mapping[str, str]) -> str:
        fernet = self._fernet(connection)
        return fernet.encrypt(json.dumps(dict(values)).encode()).decode("ascii")

    def _decrypt(self, connection: Connection, ciphertext: str) -> dict[str, str]:
        from cryptography.fernet import InvalidToken

        try:
            return dict(json.loads(self._fernet(connection).decrypt(ciphertext.encode("ascii"))))
        except InvalidToken:
            raise SecretError("A secret in the database is damaged.", "Delete it and create it again.") from None

    def _fernet(self, connection: Connection) -> Fernet:
        from cryptography.fernet import Fernet

        known = connection.execute(select(meta.c.value).where(meta.c.key == _FINGERPRINT)).scalar()
        key = _read_key(self._database.settings, may_generate=known is None)
        fingerprint = hashlib.sha256(key.encode()).hexdigest()[:16]
        if known is None:
            connection.execute(insert(meta).values(key=_FINGERPRINT, value=fingerprint))
        elif known != fingerprint:
            raise SecretError(
                "The secret key is not the one that this database's secrets are encrypted with.",
                f"Set {ENV_SECRET_KEY} to the key that was used (its fingerprint begins with {known[:8]}).",
            )
        try:
            return Fernet(key)
        except ValueError:
            raise SecretError(
                f"{ENV_SECRET_KEY} is no Fernet key.",
                "Make one: python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'.",
            ) from None


def _find(connection: Connection, name: str) -> Any:
    query = select(secrets).where(secrets.c.name == name, secrets.c.owner.is_(None))
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(f"There is no secret {name!r}.", "See what there is: stackkit secret list.")
    return row


def _users(connection: Connection, name: str) -> list[str]:
    return [
        f"{kind} {row.name!r}"
        for kind, column, config in (
            ("the component", components.c.name, components.c.config),
            ("the service", services.c.service_name, services.c.config),
        )
        for row in connection.execute(select(column.label("name"), config.label("config")))
        if any(secret == name for secret, _ in configs.references(row.config))
    ]


def _check_values(values: Mapping[str, str], *, may_be_empty: bool = False) -> None:
    if not values and not may_be_empty:
        raise InvalidConfigError("A secret needs at least one value.", "Give it as KEY=VALUE.")
    for key in values:
        if not _KEY.fullmatch(key):
            raise InvalidConfigError(f"{key!r} cannot be a key of a secret.", "Use letters, digits, '_', '-' and '.'.")


def _read_key(settings: Settings, *, may_generate: bool) -> str:
    if settings.secret_key:
        return settings.secret_key
    path = settings.home / "secret.key"
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(f"The key in {path} cannot be read: {error}.", f"Or set {ENV_SECRET_KEY}.") from error
    if not may_generate:
        raise SecretError(
            f"The key of this database's secrets is missing: {path} is gone.",
            f"Put the file back, or set {ENV_SECRET_KEY}.",
        )
    if not settings.owns_database:
        raise SecretError(
            "A shared database needs a secret key that its users share.",
            f"Set {ENV_SECRET_KEY}; make a key with: "
            "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'.",
        )
    return _generate_key(path)


def _generate_key(path: Path) -> str:
    from cryptography.fernet import Fernet

    handle, temporary = tempfile.mkstemp(dir=path.parent)  # made 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(Fernet.generate_key().decode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)  # unlike a rename, this never replaces a key made at the same moment
    finally:
        Path(temporary).unlink()
    return path.read_text(encoding="ascii").strip()
