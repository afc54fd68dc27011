"""The settings: environment variables, the home folder, and the defaults of both.

Nothing is read at import. ``Settings.load()`` reads the environment when it is called, so a test or a service can
hold several settings at once.
"""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from .errors import SettingsError

ENV_HOME = "STACKKIT_HOME"
ENV_DATABASE_URL = "STACKKIT_DATABASE_URL"
ENV_SECRET_KEY = "STACKKIT_SECRET_KEY"  # noqa: S105 - the variable's name
ENV_STACK = "STACKKIT_STACK"


@dataclass(frozen=True)
class Settings:
    """Where stackkit keeps its things. ``database_url`` is a SQLAlchemy URL and may hold a password."""

    home: Path
    database_url: str
    secret_key: str | None = None
    stack: str | None = None

    @classmethod
    def load(cls) -> Settings:
        """Read STACKKIT_HOME (``~/.stackkit``), STACKKIT_DATABASE_URL (a SQLite file in the home),
        STACKKIT_SECRET_KEY (a Fernet key) and STACKKIT_STACK (the active stack's name). Creates nothing.

        Raises SettingsError when the user has no home directory and STACKKIT_HOME names no folder.
        """
        try:
            home = Path(os.environ.get(ENV_HOME) or "~/.stackkit").expanduser().absolute()
        except RuntimeError as error:  # a container's user may have no home, and "~name" may name nobody
            raise SettingsError(
                "The home folder cannot be told: the user has no home directory.",
                f"Set {ENV_HOME} to a folder that you can write.",
            ) from error
        return cls(
            home=home,
            database_url=os.environ.get(ENV_DATABASE_URL) or f"sqlite:///{home / 'stackkit.db'}",
            secret_key=os.environ.get(ENV_SECRET_KEY) or None,
            stack=os.environ.get(ENV_STACK) or None,
        )

    def __repr__(self) -> str:
        return f"Settings(home={str(self.home)!r})"

    @property
    def owns_database(self) -> bool:
        """Whether the database is the SQLite file in the home, which stackkit makes and upgrades by itself."""
        return self.database_url == f"sqlite:///{self.home / 'stackkit.db'}"

    @property
    def services_folder(self) -> Path:
        return self.home / "services"

    @property
    def models_folder(self) -> Path:
        return self.home / "models"

    @property
    def environments_folder(self) -> Path:
        return self.home / "environments"

    @property
    def artifacts_folder(self) -> Path:
        return self.home / "artifacts"

    def ensure_home(self) -> Path:
        """Make the home folder, readable by its owner alone, and return it.

        Raises SettingsError when it cannot be made or written.
        """
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"The home folder {self.home} cannot be used: {error.strerror or error}.",
                f"Set {ENV_HOME} to a folder that you can write.",
            ) from error
        if not os.access(self.home, os.W_OK | os.X_OK):
            raise SettingsError(
                f"The home folder {self.home} cannot be written.",
                f"Set {ENV_HOME} to a folder that you can write.",
            )
        return self.home

    # The active stack is a matter of the person, not of the database they share with others.

    def read_active_stack(self) -> str | None:
        """The UUID of the stack chosen with ``stackkit stack set`` in this home, or None. Reads a file.

        Raises SettingsError when the file is not what stackkit wrote.
        """
        path = self.home / "config.json"
        try:
            return str(uuid.UUID(json.loads(path.read_text(encoding="utf-8"))["active_stack"]))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it does not hold the UUID of a stack"
            raise SettingsError(
                f"The file {path} cannot be used: {reason}.",
                f"Delete it (rm {path}) and choose your stack again: stackkit stack set NAME.",
            ) from error

    def write_active_stack(self, stack_id: str) -> None:
        self.ensure_home()
        write_atomically(self.home / "config.json", json.dumps({"active_stack": stack_id}) + "\n")


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Write ``text`` to ``path`` whole or not at all, and for good once this returns. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)  # the new name is kept by the folder
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
