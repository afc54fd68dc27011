"""The front door for code: stacks, components, flavors, secrets, model servers and pipeline runs.

from stackkit import Client
run = Client().get_pipeline_run("training-2026_11_21-10_30_00_123456")
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .errors import FlavorError, InvalidConfigError
from .settings import Settings

# what opens no database, such as serving in the foreground, need not wait for what does
if TYPE_CHECKING:
    from pathlib import Path
    from threading import Event

    from .environments.choosing import ChosenEnvironment
    from .environments.foreground import ForegroundCommand
    from .environments.images import BuiltImage
    from .environments.models import ResolvedModel
    from .environments.python_environments.building import BuiltEnvironment
    from .local.environments import ModelEnvironments
    from .model_deployers import BaseModelDeployer, ModelServers
    from .pipelines.runs import PipelineRun, RunStore
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
    from .store import Database


class Client:
    """Everything that one database holds; the one that the environment names, unless given other settings.

    Making a Client opens nothing. Its methods raise StoreError when the database cannot be used.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = Settings.load() if settings is None else settings
        self._shares_database = settings is None

    @cached_property
    def database(self) -> Database:
        from .store import Database, default_database

        return default_database(self.settings) if self._shares_database else Database(self.settings)

    @cached_property
    def components(self) -> ComponentStore:
        from .stack import ComponentStore

        return ComponentStore(self.database)

    @cached_property
    def flavors(self) -> FlavorRegistry:
        from .stack import FlavorRegistry

        return FlavorRegistry(self.database)

    @cached_property
    def secrets(self) -> SecretStore:
        from .stack import SecretStore

        return SecretStore(self.database)

    @cached_property
    def stacks(self) -> StackStore:
        from .stack import StackStore

        return StackStore(self.database)

    @cached_property
    def servers(self) -> ModelServers:
        """The model servers of every deployer."""
        from .model_deployers import ModelServers

        return ModelServers(self.database)

    @cached_property
    def environments(self) -> ModelEnvironments:
        """The models' own Python environments in this home."""
        from .local.environments import ModelEnvironments

        return ModelEnvironments(self.database)

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
        from .stack import ComponentType

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
        from .stack import ComponentType

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
        options: Mapping[str, str | int | float | None],
        *,
        env_manager: str | None = None,
        progress: Callable[[str], None] = lambda text: None,
    ) -> ForegroundCommand:
        """What serves a model in the foreground, in no table, when this process executes it. Starts nothing.

        ``options`` are the server's, as in ``launch.serve_command``; ``env_manager`` is as in ``choosing.choose``.
        Keeps the model's files in the home by their digest, and builds its environment. Raises ModelError, and
        InvalidConfigError for a GPU that is hidden.
        """
        from .environments import launch
        from .environments.foreground import foreground

        gpus = options.get("gpus")
        launch.check_gpus(str(gpus).split(",") if gpus else [], os.environ)
        model, chosen, built = self._make_ready(model_uri, "stackkit serve", env_manager, progress)
        python = None if built is None else built.python
        command = launch.serve_command(model.reference, {"format": model.format, **options, "python": python})
        return foreground(command, chosen, built)

    def predict_command(
        self,
        model_uri: str,
        *,
        input: Path,  # noqa: A002 - what the command line's option is called
        output: Path,
        params: Mapping[str, str] | None = None,
        chunk_size: int | None = None,
        casting: str | None = None,
        env_manager: str | None = None,
        progress: Callable[[str], None] = lambda text: None,
    ) -> ForegroundCommand:
        """What writes predictions for the rows of ``input`` to ``output`` when this process executes it. Starts
        nothing.

        ``params`` are the model's, each value as text; ``env_manager`` is as in ``choosing.choose``. Keeps the model's
        files in the home by their digest, and builds its environment. Raises InvalidConfigError when one of the two
        files cannot be used, ModelError.
        """
        from .environments import launch
        from .environments.foreground import foreground
        from .serving.batch.errors import BatchError
        from .serving.batch.files import check

        try:
            check(input, output)
        except BatchError as error:
            raise InvalidConfigError(error.message, error.hint) from None
        model, chosen, built = self._make_ready(model_uri, "stackkit predict", env_manager, progress)
        options = {"format": model.format, "chunk_size": chunk_size, "casting": casting}
        python = None if built is None else built.python
        command = launch.predict_command(model.reference, input, output, params or {}, options, python=python)
        return foreground(command, chosen, built)

    def build_image(
        self,
        model_uri: str,
        *,
        tag: str,
        base_image: str | None = None,
        fetch_at_start: bool = False,
        platform: str | None = None,
        push: bool = False,
        progress: Callable[[str], None] = lambda text: None,
    ) -> BuiltImage:
        """Build an image that serves a model, and push it if asked to. What the options mean and what is raised is
        as in ``images.build``; ModelError also when there is no such model.
        """
        from .environments import images

        with self._resolved(model_uri, progress) as model:
            return images.build(
                model,
                tag=tag,
                base_image=base_image,
                fetch_at_start=fetch_at_start,
                platform=platform,
                push=push,
                progress=progress,
            )

    def write_build_context(
        self,
        model_uri: str,
        folder: Path,
        *,
        base_image: str | None = None,
        fetch_at_start: bool = False,
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Write what ``build_image`` sends to an engine, the Dockerfile among it, into ``folder``, which must be empty
        or not be there. Raises ImageError, ModelError.
        """
        from .environments import images

        with self._resolved(model_uri, progress) as model:
            images.make_context(model, base_image=base_image, fetch_at_start=fetch_at_start).write(folder)

    @contextmanager
    def _resolved(self, model_uri: str, progress: Callable[[str], None]) -> Iterator[ResolvedModel]:
        """A model whose files are kept for the length of the ``with``, and as long as somebody else needs them."""
        from .environments import sweeping
        from .environments.models import resolve

        self.settings.ensure_home()
        folder = self.settings.models_folder
        with sweeping.holding(folder):
            yield resolve(model_uri, models_folder=folder, progress=progress)

    def _make_ready(
        self, model_uri: str, user: str, env_manager: str | None, progress: Callable[[str], None]
    ) -> tuple[ResolvedModel, ChosenEnvironment, BuiltEnvironment | None]:
        """Keep a model's files for ``user``, and build the environment that it is run in."""
        from .environments import choosing, sweeping

        with self._resolved(model_uri, progress) as model:
            sweeping.note_user(model.digest, self.settings.models_folder, user)
        chosen = choosing.choose(model.reference, model.format, env_manager)
        return model, chosen, chosen.build(self.settings.environments_folder, progress=progress)

    def _flavor_of(self, component_type: ComponentType, name: str) -> Any:
        return self.flavors.get(component_type, self.components.get(component_type, name).flavor)
