"""Artifact stores: where the outputs of steps are kept.

A store keeps folders of files under keys; how a value becomes files is the business of ``materializers``. A flavor
derives a ``BaseArtifactStore`` and offers its ``Flavor`` by an entry point in ``stackkit.artifact_stores``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from ..errors import FlavorError, NotFoundError, PipelineError
from ..stack import ComponentConfig, ComponentStore, ComponentType, Flavor, StackComponent, StackStore
from ..stack.configs import Folder
from ..store import Database


class BaseArtifactStore(StackComponent):
    """Keeps files under keys such as ``run/step/output``, whose parts are separated by slashes."""

    TYPE = ComponentType.ARTIFACT_STORE

    @abstractmethod
    def path(self, key: str) -> str:
        """The URI under which ``key`` is or would be kept."""

    @abstractmethod
    def holds(self, uri: str) -> bool:
        """Whether ``uri`` lies in this store; says nothing about whether anything is there."""

    @abstractmethod
    def write(self, key: str, fill: Callable[[Path], None]) -> None:
        """Keep the files that ``fill`` puts into an empty folder under ``key``: all of them, or none when it fails.

        Raises PipelineError when the key is taken or the files cannot be written, and whatever ``fill`` raises.
        """

    @abstractmethod
    def read(self, uri: str) -> Path:
        """A local path to what is kept at ``uri``.

        Raises PipelineError for a URI that is not of this store and NotFoundError when nothing is there.
        """


class LocalArtifactStoreConfig(ComponentConfig):
    """The attributes of a local artifact store."""

    path: Folder | None = Field(default=None, description="The folder; by default the home's 'artifacts'.")


class LocalArtifactStoreFlavor(Flavor):
    """Keeps artifacts in a folder of this machine."""

    TYPE = ComponentType.ARTIFACT_STORE
    NAME = "local"
    SUMMARY = "Artifacts in a folder on this machine."
    implementation = "stackkit.pipelines.artifact_stores:LocalArtifactStore"
    config_class = LocalArtifactStoreConfig


class LocalArtifactStore(BaseArtifactStore):
    """Keeps each key as a folder that only its owner can read. Its URIs are absolute paths."""

    @property
    def root(self) -> Path:
        configured = self.config.path
        folder = Path(configured) if configured else self.database.settings.artifacts_folder
        return folder.absolute()

    def path(self, key: str) -> str:
        return str(self.root / key)

    def holds(self, uri: str) -> bool:
        # links are followed: what a link in the folder leads to was not put there by this store
        return Path(uri).resolve().is_relative_to(self.root.resolve())

    def write(self, key: str, fill: Callable[[Path], None]) -> None:
        target = self.root / key
        try:
            _make_private(target.parent)
            draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=".draft-"))
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fill(draft)
            try:
                for path in (*draft.iterdir(), draft):
                    _sync(path)
                draft.rename(target)
                _sync(target.parent)
            except OSError as error:
                raise self._unwritable(error) from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def read(self, uri: str) -> Path:
        path = Path(uri)
        if not self.holds(uri):
            raise PipelineError(f"{uri} does not lie in the artifact store {self.name!r} ({self.root}).")
        if not path.exists():
            raise NotFoundError(
                f"The artifact {uri} is gone from the artifact store {self.name!r}.", "Run its pipeline again."
            )
        return path

    def _unwritable(self, error: OSError) -> PipelineError:
        return PipelineError(
            f"The artifact store {self.name!r} cannot be written in {self.root}: {error}.",
            "Check that folder, or use another: stackkit artifact-store register NAME --flavor=local --path=FOLDER.",
        )


def store_of(database: Database, uri: str) -> BaseArtifactStore:
    """The registered artifact store in which ``uri`` lies. Raises PipelineError when there is none.

    Pickles run code when they are loaded, so nothing is read from anywhere but a store that its user registered.
    """
    stacks = StackStore(database)
    for record in ComponentStore(database).list(ComponentType.ARTIFACT_STORE):
        with contextlib.suppress(FlavorError, NotFoundError):  # its flavor is not installed here
            store = stacks.load(record)
            if isinstance(store, BaseArtifactStore) and store.holds(uri):
                return store
    raise PipelineError(
        f"{uri} lies in no artifact store that can be used from here.",
        "See those there are: stackkit artifact-store list.",
    )


def _make_private(folder: Path) -> None:
    """Make the folder and its parents, as far as they are missing; ``Path.mkdir`` gives its mode to the last alone."""
    if not folder.exists():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
