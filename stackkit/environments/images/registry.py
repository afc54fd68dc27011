"""Where built images are kept for other engines."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr


@dataclass(frozen=True)
class Registry:
    """A registry, or a path in one, such as ``registry:5000/team``.

    Without credentials those of ``docker login`` are used.
    """

    name: str
    username: str | None = None
    password: SecretStr | None = None

    def credentials(self) -> dict[str, str] | None:
        """As the Docker SDK takes them, in clear; None without a username and a password."""
        if self.username is None or self.password is None:
            return None
        return {"username": self.username, "password": self.password.get_secret_value()}

    def holds(self, image: str) -> bool:
        """Whether an image of that name would lie in this registry."""
        return image.startswith(f"{self.name.rstrip('/')}/")

    def address(self, image: str) -> str:
        """The name under which an image lies in this registry."""
        return f"{self.name.rstrip('/')}/{image}"
