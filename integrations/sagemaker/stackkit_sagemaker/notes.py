"""What tells of a batch transform that has no job yet: an object in S3, made before anything else and removed after it.

No row names a transform, and no lease keeps two people who ask for the very same one at the same moment apart. What
they make has the same names, and is the same; so each of them stands in the note while making it, and whoever fails
may undo it only when nobody else is left there.
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

from stackkit.processes import ProcessIdentity

from .storage import Storage

_FILE = "transform.json"


class Notes:
    """The notes in a deployer's bucket. Every method raises PlatformUnavailableError and DeploymentError."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self, name: str) -> dict[str, Any] | None:
        """What was noted of a transform; None when nothing is there that was made for it."""
        content = self._storage.read(name, _FILE)
        return None if content is None else json.loads(content)

    def join(self, name: str, told: dict[str, Any]) -> str:
        """Note ``told``, which is the same for all who ask for it, and that one more is making it; returns who."""
        maker = json.dumps({"process": ProcessIdentity.current().as_dict(), "id": str(uuid.uuid4())})
        new = {**told, "created": datetime.now(UTC).isoformat()}

        def joined(content: bytes | None) -> bytes:
            noted = new if content is None else json.loads(content)
            return json.dumps({**noted, "makers": [*noted.get("makers", ()), maker]}).encode()

        self._storage.change(name, _FILE, joined)
        return maker

    def leave(self, name: str, maker: str) -> bool:
        """Note that ``maker`` makes it no more; whether nobody does, but for those who are provably dead.

        A no-op when nothing is noted any more.
        """
        left: list[str] = []

        def without(content: bytes | None) -> bytes | None:
            if content is None:
                return None
            noted = json.loads(content)
            left[:] = [each for each in noted.get("makers", ()) if each != maker and not _is_dead(each)]
            return json.dumps({**noted, "makers": left}).encode()

        self._storage.change(name, _FILE, without)
        return not left


def _is_dead(maker: str) -> bool:
    process = ProcessIdentity.parse(maker)
    return process is not None and process.is_provably_dead()
