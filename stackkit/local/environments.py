"""The models' own environments in this home, and which services need them.

A service's details name the environment of each of its revisions, so that a rollback finds the old one. Databases that
share a home note in an environment's folder that they need it; see ``stackkit.environments.python_environments``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..environments import choosing, models, sweeping
from ..environments.choosing import ChosenEnvironment
from ..environments.python_environments import building
from ..environments.python_environments.building import BuiltEnvironment
from ..errors import DeploymentError
from ..model_deployers import ModelServers, Operation, Service
from ..model_deployers.operation import Progress, silent
from ..store import Database

_DETAIL = "environments"


@dataclass(frozen=True)
class KeptEnvironment:
    """One that is whole. ``size`` is in bytes, as far as it shares none with others; ``used_by`` names services."""

    built: BuiltEnvironment
    size: int
    used_by: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as the command line prints them."""
        made_of = self.built.made_of
        return {
            "name": self.built.name,
            "manager": made_of["manager"],
            "python": made_of["python"],
            "packages": list(made_of["packages"]),
            "size": self.size,
            "created": self.built.created,
            "used_by": list(self.used_by),
            "interpreter": self.built.python,
        }


class ModelEnvironments:
    """The environments that lie in one home, as the services of one database use them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._folder = database.settings.environments_folder

    def prepare(
        self, model_uri: str, *, manager: str | None = None, progress: Progress = silent
    ) -> tuple[ChosenEnvironment, BuiltEnvironment | None]:
        """Build the environment that a model would be run in; None where that is the one that stackkit runs in.

        ``manager`` is as in ``choosing.choose``. Raises ModelError.
        """
        self._database.settings.ensure_home()
        models_folder = self._database.settings.models_folder
        with sweeping.holding(models_folder):
            model = models.resolve(model_uri, models_folder=models_folder, progress=progress)
            chosen = choosing.choose(model.reference, model.format, manager)
            return chosen, chosen.build(self._folder, progress=progress)

    def find_all(self) -> list[KeptEnvironment]:
        """Every environment that is whole, the newest first."""
        used = self._used()
        return [
            KeptEnvironment(built, building.size(built), tuple(used.get(built.name, ())))
            for built in building.find_all(self._folder)
        ]

    def remove(self, names: Collection[str]) -> list[str]:
        """Remove those of these environments that nobody uses, and what builds that were killed have left behind.

        Returns the names of the environments that were removed.
        """

        def is_needed(name: str) -> bool:
            whole = {built.name for built in building.find_all(self._folder)}
            return name in self._used() or (name in whole and name not in names)

        removed = building.remove_unused(self._folder, self._database.url, is_needed)
        return [name for name in names if name in removed]

    def _used(self) -> dict[str, list[str]]:
        """The names of the services that need each environment, by its name."""
        used: dict[str, list[str]] = {}
        for service in ModelServers(self._database).find(refresh=False):
            for name in dict.fromkeys(entry["name"] for entry in _noted(service).values()):
                used.setdefault(name, []).append(service.name)
        return used


def prepare(operation: Operation, manager: str | None, database: Database) -> None:
    """Build the environment of the operation's service, and note it in its details; a no-op where it needs none.

    Raises ModelError with the installer's own reason, DeploymentTimeoutError.
    """
    service, source = operation.service, operation.service.source
    chosen = choosing.choose(source.reference or source.uri, source.format or "", manager)
    noted, revision = _noted(service), str(service.revision)
    others = {number: entry for number, entry in noted.items() if number != revision}
    if chosen.spec is None:
        if revision in noted:
            operation.checkpoint(**{_DETAIL: others})
        return
    entry = {"name": chosen.spec.name, "manager": chosen.manager.value, "differences": list(chosen.differences)}
    if noted.get(revision) != entry:
        # before it is built: from then on nobody removes it
        operation.checkpoint(**{_DETAIL: {**others, revision: entry}})
    operation.progress(f"the model asks for {'; '.join(chosen.differences) or 'an environment of its own'}")
    chosen.build(
        database.settings.environments_folder,
        progress=operation.progress,
        timeout=operation.remaining() or None,  # none is left when nobody waits
        user=database.url,
    )


def interpreter(service: Service, database: Database) -> str | None:
    """The Python that runs the service's present revision; None for the one that runs stackkit.

    Raises DeploymentError when its environment is gone.
    """
    entry = _noted(service).get(str(service.revision))
    if entry is None:
        return None
    built = BuiltEnvironment.read(database.settings.environments_folder / entry["name"])
    if built is None:
        raise DeploymentError(
            f"The environment {entry['name']} of {service.name!r} is gone.",
            f"Have it built again: stackkit model-deployer models start {service.id[:8]}.",
        )
    return built.python


def describe(service: Service) -> Mapping[str, str]:
    """Rows that tell where the service's present revision runs, for its description."""
    entry = _noted(service).get(str(service.revision))
    if entry is None:
        return {"ENVIRONMENT": "local"}
    rows = {"ENVIRONMENT": f"{entry['manager']} {entry['name']}"}
    return {**rows, "DIFFERS": "; ".join(entry["differences"])} if entry["differences"] else rows


def kept(service: Service) -> Mapping[str, Any]:
    """What to keep beside the server for the day on which its row is lost."""
    return {_DETAIL: _noted(service)}


def restored(values: Mapping[str, Any]) -> dict[str, Any]:
    """The details of a service that is adopted, from what ``kept`` gave."""
    noted = values.get(_DETAIL)
    return {_DETAIL: noted} if isinstance(noted, dict) and noted else {}


def _noted(service: Service) -> dict[str, dict[str, Any]]:
    return dict(service.status.details.get(_DETAIL) or {})
