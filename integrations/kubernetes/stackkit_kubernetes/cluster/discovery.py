"""Which kinds a cluster serves, and under what path: asked of it, so that old and new clusters both work."""

from __future__ import annotations

from dataclasses import dataclass

from stackkit.errors import NotSupportedError

from .connection import Connection
from .errors import RefusedError


@dataclass(frozen=True)
class Resource:
    """A kind as the API server serves it: ``plural`` is its name in a path."""

    api_version: str
    plural: str
    is_namespaced: bool

    def path(self, namespace: str, name: str | None = None, subresource: str | None = None) -> str:
        """The path of the collection, of one object, or of a part of it."""
        root = "/api" if "/" not in self.api_version else "/apis"
        parts = [root, self.api_version]
        if self.is_namespaced:
            parts += ["namespaces", namespace]
        return "/".join([*parts, self.plural, *filter(None, (name, subresource))])


class Discovery:
    """The kinds of one cluster. What it serves is asked once; what it does not is asked again each time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[str, dict[str, Resource]] = {}

    def find(self, api_version: str, kind: str) -> Resource | None:
        """The kind in that version of its group; None when the cluster has it not."""
        known = self._known.get(api_version, {})
        if kind not in known:
            known = self._known[api_version] = self._ask(api_version)
        return known.get(kind)

    def get(self, api_version: str, kind: str) -> Resource:
        """As ``find``; raises NotSupportedError when the cluster does not serve it."""
        found = self.find(api_version, kind)
        if found is None:
            raise NotSupportedError(
                f"The cluster at {self._connection.host} has no {kind} of {api_version}.",
                "Install what serves it, or use a cluster that has it: kubectl api-resources.",
            )
        return found

    def _ask(self, api_version: str) -> dict[str, Resource]:
        try:
            path = f"/{'apis' if '/' in api_version else 'api'}/{api_version}"
            listed = self._connection.json("GET", path, patient=True)
        except RefusedError as error:
            if error.status == 404:
                return {}
            raise
        return {
            each["kind"]: Resource(api_version, each["name"], each["namespaced"])
            for each in listed["resources"]
            if "/" not in each["name"]
        }
