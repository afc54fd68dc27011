"""Flavors: the ways in which a component can be implemented, found by entry points or registered by a user.

A package offers a flavor by an entry point in the group of its type (``stackkit.model_deployers``,
``stackkit.artifact_stores``, ``stackkit.orchestrators``) whose name is the flavor's name and whose value is its
``Flavor`` class. Listing reads the entry points' metadata and imports nothing; only a flavor that is used is loaded.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import ClassVar

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from ..errors import AlreadyExistsError, FlavorError, InUseError, NotFoundError
from ..store import Database
from ..store.clock import now
from ..store.tables import components, flavors
from .components import ComponentConfig, ComponentRecord, ComponentType, StackComponent

_GROUPS = {
    ComponentType.MODEL_DEPLOYER: "stackkit.model_deployers",
    ComponentType.ARTIFACT_STORE: "stackkit.artifact_stores",
    ComponentType.ORCHESTRATOR: "stackkit.orchestrators",
}

_REINSTALL = "Install its package again."


class Flavor:
    """The base of every flavor: what it is called, what configures it, and which class does the work.

    ``implementation`` is ``"package.module:Class"``, so that describing a flavor does not import what it needs.
    ``location_fields`` name the attributes that say where its servers live: they cannot change while there are some.
    """

    TYPE: ClassVar[ComponentType]
    NAME: ClassVar[str]
    SUMMARY: ClassVar[str] = ""
    implementation: ClassVar[str]
    config_class: ClassVar[type[ComponentConfig]] = ComponentConfig
    location_fields: ClassVar[tuple[str, ...]] = ()

    @property
    def name(self) -> str:
        return self.NAME

    def implementation_class(self) -> type[StackComponent]:
        """Import the class that does the work. Raises FlavorError naming a dependency that is not installed."""
        loaded = _import(self.implementation, self.NAME)
        if not (isinstance(loaded, type) and issubclass(loaded, StackComponent)):
            raise FlavorError(f"{self.implementation} is no stack component.", "Derive it from StackComponent.")
        return loaded

    def load(self, record: ComponentRecord, database: Database) -> StackComponent:
        """Build the component that ``record`` describes."""
        return self.implementation_class()(record, self, database)


@dataclass(frozen=True)
class FlavorEntry:
    """A flavor that can be used here, not loaded.

    ``folder`` is where the module of a registered flavor lies, None for one that is installed.
    """

    type: ComponentType
    name: str
    source: str
    distribution: str
    folder: str | None = None


class FlavorRegistry:
    """The flavors of this installation and those that users of this database registered."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, component_type: ComponentType) -> list[FlavorEntry]:
        """All flavors of a type, by name. Imports none of them."""
        found = {entry.name: entry for entry in self._registered(component_type)}
        found |= {entry.name: entry for entry in _installed(component_type)}
        return sorted(found.values(), key=lambda entry: entry.name)

    def get(self, component_type: ComponentType, name: str) -> Flavor:
        """Load a flavor by name.

        Raises NotFoundError for a name that is not known here and FlavorError for one that cannot be loaded.
        """
        for point in entry_points(group=_GROUPS[component_type], name=name):
            return _named(_load(point.value, component_type, name), point.value, name)
        for entry in self._registered(component_type):
            if entry.name == name:
                way_out = f"Put it back into {entry.folder or 'the import path'}, or install its package."
                loaded = _load(entry.source, component_type, name, entry.folder, way_out)
                return _named(loaded, entry.source, name)
        known = [entry.name for entry in self.list(component_type)]
        nearest = difflib.get_close_matches(name, known, n=1)
        raise NotFoundError(
            f"There is no {component_type.label} flavor {name!r} here.",
            f"Did you mean {nearest[0]!r}?"
            if nearest
            else f"There is: {', '.join(known)}. Another may need its package: pip install stackkit-{name}.",
        )

    def register(self, component_type: ComponentType, source: str) -> FlavorEntry:
        """Keep a flavor given as ``path.to.Flavor``.

        The module is looked for among the installed ones, then in the working directory. The folder of one that is
        not installed is kept with it: where this flavor is loaded it joins the import path, as the last entry.
        Raises FlavorError when it cannot be loaded or is no flavor, AlreadyExistsError when the name is taken.
        """
        module, _, attribute = source.rpartition(".")
        if not module:
            raise FlavorError(f"{source!r} names no class in a module.", "Write it as package.module.ClassName.")
        folder = _folder_of(module)
        way_out = "Run it in the folder that holds the module, or install its package."
        flavor = _load(f"{module}:{attribute}", component_type, source, folder, way_out)
        if any(entry.name == flavor.name for entry in _installed(component_type)):
            raise AlreadyExistsError(
                f"The {component_type.label} flavor {flavor.name!r} is installed already.",
                "Give yours another NAME.",
            )
        entry = FlavorEntry(component_type, flavor.name, f"{module}:{attribute}", "registered", folder)
        try:
            with self._database.write() as connection:
                connection.execute(
                    insert(flavors).values(
                        id=str(uuid.uuid4()),
                        type=component_type.value,
                        name=entry.name,
                        source=entry.source,
                        folder=folder,
                        created=now(),
                    )
                )
        except IntegrityError:
            raise AlreadyExistsError(
                f"There is {component_type.with_article} flavor {flavor.name!r} already.",
                f"Delete it first: stackkit {component_type.command} flavor delete {flavor.name}.",
            ) from None
        return entry

    def delete(self, component_type: ComponentType, name: str) -> None:
        """Forget a registered flavor. Raises InUseError while a component has it."""
        same = (flavors.c.type == component_type.value, flavors.c.name == name)
        with self._database.write() as connection:
            if connection.execute(select(flavors.c.id).where(*same)).first() is None:
                raise NotFoundError(
                    f"There is no registered {component_type.label} flavor {name!r}.",
                    "Only registered flavors can be deleted; an installed one goes with its package.",
                )
            users = select(components.c.name).where(
                components.c.type == component_type.value, components.c.flavor == name
            )
            if names := list(connection.execute(users).scalars()):
                raise InUseError(
                    f"The flavor {name!r} is used by {', '.join(names)}.",
                    f"Delete them first: stackkit {component_type.command} delete {names[0]}.",
                )
            connection.execute(delete(flavors).where(*same))

    def _registered(self, component_type: ComponentType) -> Iterator[FlavorEntry]:
        with self._database.read() as connection:
            rows = connection.execute(select(flavors).where(flavors.c.type == component_type.value)).all()
        for row in rows:
            yield FlavorEntry(component_type, row.name, row.source, "registered", row.folder)


def _installed(component_type: ComponentType) -> Iterator[FlavorEntry]:
    for point in entry_points(group=_GROUPS[component_type]):
        yield FlavorEntry(component_type, point.name, point.value, _distribution(point))


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else ""


def _load(
    source: str, component_type: ComponentType, name: str, folder: str | None = None, way_out: str = _REINSTALL
) -> Flavor:
    if folder is not None and folder not in sys.path:
        sys.path.append(folder)  # at the end, so that it hides nothing that is installed
    loaded = _import(source, name, way_out)
    if not (isinstance(loaded, type) and issubclass(loaded, Flavor)):
        raise FlavorError(f"{source} is no flavor.", "Derive it from stackkit.stack.Flavor.")
    if not (hasattr(loaded, "TYPE") and hasattr(loaded, "NAME")):
        raise FlavorError(f"{source} has no TYPE or no NAME.", "Derive it from the flavor of its type, and name it.")
    if loaded.TYPE is not component_type:
        raise FlavorError(f"{source} is {loaded.TYPE.with_article} flavor, not {component_type.with_article} flavor.")
    return loaded()


def _import(source: str, flavor: str, way_out: str = _REINSTALL) -> object:
    """What ``source`` names. Raises FlavorError; ``way_out`` is its hint when the module is nowhere."""
    module, _, attribute = source.partition(":")
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module == missing or module.startswith(f"{missing}."):
            raise FlavorError(f"The module {module} of the flavor {flavor!r} cannot be found.", way_out) from error
        # what the module itself needs is missing: that is what has to be installed
        raise FlavorError(
            f"The flavor {flavor!r} needs {missing}, which is not installed.",
            f"Install it: pip install {missing}.",
        ) from error
    except Exception as error:
        raise FlavorError(f"The module {module} of the flavor {flavor!r} fails: {error!r}.") from error
    if not hasattr(loaded, attribute):
        raise FlavorError(f"The module {module} has no {attribute}.", "Check the flavor's path.")
    return getattr(loaded, attribute)


def _named(flavor: Flavor, source: str, name: str) -> Flavor:
    """``flavor`` itself, unless its module is another one by now, such as one of the same name in another folder."""
    if flavor.name != name:
        raise FlavorError(
            f"{source} is the flavor {flavor.name!r}, not {name!r}.",
            "Give each flavor's module a name of its own, and NAME the one it was registered under.",
        )
    return flavor


def _folder_of(module: str) -> str | None:
    """The folder to keep with a module: None for an installed one, which every later process finds by itself."""
    top = module.partition(".")[0]
    here = str(Path.cwd())
    try:
        spec = importlib.util.find_spec(top) or PathFinder.find_spec(top, [here])
    except ValueError:  # such as __main__
        return None
    if spec is None:
        return None
    # a package's folder holds its __init__.py, or is all there is of it
    is_package = spec.submodule_search_locations is not None
    place = next(iter(spec.submodule_search_locations or []), None) if is_package else spec.origin
    folder = str(Path(place).absolute().parent) if place else None
    # these two are this process's alone
    passing = {
        here,
        *(str(Path(entry or ".").absolute()) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)),
    }
    return folder if folder in passing else None
