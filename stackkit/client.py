"""The front door for code: stacks, components, flavors, secrets, model servers and pipeline runs.

from stackkit import Client
run = Client().get_pipeline_run("training-2026_11_21-10_30_00_123456")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .errors import FlavorError
from .settings import Settings
from .stack import (
    ComponentRecord,
    ComponentStore,
    ComponentType,
    FlavorRegistry,
    SecretStore,
    Stack,
    StackComponent,
    StackStore,
)
from .store import Database, default_database

if TYPE_CHECKING:
    from threading import Event

    from .model_deployers import BaseModelDeployer, ModelServers
    from .pipelines.runs import PipelineRun, RunStore


class Client:
    """Everything that one database holds; the one that the environment names, unless given other settings.

    Making a Client opens nothing. Its methods raise StoreError when the database cannot be used.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.database = default_database() if settings is None else Database(settings)

    @property
    def settings(self) -> Settings:
        return self.database.settings

    @cached_property
    def components(self) -> ComponentStore:
        return ComponentStore(self.database)

    @cached_property
    def flavors(self) -> FlavorRegistry:
        return FlavorRegistry(self.database)

    @cached_property
    def secrets(self) -> SecretStore:
        return SecretStore(self.database)

    @cached_property
    def stacks(self) -> StackStore:
        return StackStore(self.database)

    @cached_property
    def servers(self) -> ModelServers:
        """The model servers of every deployer."""
        from .model_deployers import ModelServers

        return ModelServers(self.database)

    @cached_property
    def runs(self) -> RunStore:
        from .pipelines.runs import RunStore

        return RunStore(self.database)

    @property
    def active_stack(self) -> Stack:
        return self.stacks.active()

    def register_component(
        self, component_type: ComponentType, name: str, flavor: str, attributes: Mapping[str, Any]
    ) -> ComponentRecord:
        """Register a component; the first model deployer joins the ``default`` stack, which has none.

        Raises NotFoundError for an unknown flavor, InvalidConfigError for wrong attributes, AlreadyExistsError.
        """
        loaded = self.flavors.get(component_type, flavor)
        record = self.components.register(component_type, name, loaded, attributes)
        if component_type is ComponentType.MODEL_DEPLOYER:
            self.stacks.adopt_first_deployer(record)
        return record

    def update_component(self, component_type: ComponentType, name: str, changes: Mapping[str, Any]) -> ComponentRecord:
        """Change attributes of a component; one that is None goes back to its default."""
        return self.components.update(component_type, name, self._flavor_of(component_type, name), changes)

    def copy_component(self, component_type: ComponentType, name: str, new_name: str) -> ComponentRecord:
        return self.components.copy(component_type, name, new_name, self._flavor_of(component_type, name))

    def get_component(self, component_type: ComponentType, name: str | None = None) -> ComponentRecord:
        """A component as it is kept, by name or UUID; without a name that of the active stack. Raises NotFoundError."""
        return self.stacks.active_record(component_type) if name is None else self.components.get(component_type, name)

    def load_component(self, component_type: ComponentType, name: str | None = None) -> StackComponent:
        """A component ready for use, by name; without a name that of the active stack. Raises NotFoundError."""
        return self.stacks.load(self.get_component(component_type, name))

    def model_deployer(self, name: str | None = None) -> BaseModelDeployer:
        """A model deployer by name; without a name that of the active stack. Raises NotFoundError."""
        from .model_deployers import BaseModelDeployer

        loaded = self.load_component(ComponentType.MODEL_DEPLOYER, name)
        if not isinstance(loaded, BaseModelDeployer):
            raise FlavorError(f"The flavor {loaded.record.flavor!r} is no model deployer.")
        return loaded

    def watch(self, *, interval: float, report: Callable[[str], None], stop: Event) -> None:
        """Keep every server at its target until ``stop`` is set; see ``stackkit.model_deployers.watch``."""
        from .model_deployers.watch import Watcher

        Watcher(self.database, interval=interval, report=report).run(stop)

    def get_pipeline_run(self, name: str) -> PipelineRun:
        """A pipeline run by its name or UUID. Raises NotFoundError."""
        return self.runs.get(name)

    def list_pipeline_runs(self, pipeline_name: str | None = None, limit: int = 20) -> Sequence[PipelineRun]:
        """The newest pipeline runs."""
        return self.runs.list(pipeline_name=pipeline_name, limit=limit)

    def serve_command(
        self,
        model_uri: str,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        workers: int = 1,
        request_timeout: float = 60,
        progress: Callable[[str], None] | None = None,
    ) -> tuple[list[str], dict[str, str]]:
        """The command, and its environment, that serves a model in the foreground, in no table. Starts nothing.

        Keeps the model's files in the home by their digest. Raises ModelError.
        """
        from .environments import launch
        from .environments.models import resolve

        self.settings.ensure_home()
        model = resolve(model_uri, models_folder=self.settings.models_folder, progress=progress)
        command = launch.serve_command(
            model.reference,
            format=model.format,
            host=host,
            port=port,
            workers=workers,
            request_timeout=request_timeout,
        )
        return command, launch.server_environment({})

    def _flavor_of(self, component_type: ComponentType, name: str) -> Any:
        return self.flavors.get(component_type, self.components.get(component_type, name).flavor)
