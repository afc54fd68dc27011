"""The SageMaker model deployer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

from stackkit.environments import images, models, sweeping
from stackkit.errors import DeploymentError, ModelError
from stackkit.model_deployers import (
    BaseModelDeployer,
    CompletesStart,
    FindsServers,
    FoundServer,
    ModelSource,
    Observation,
    Operation,
    PlatformIdentity,
    Progress,
    Service,
    ServiceConfig,
    SplitsTraffic,
    Transform,
    TransformConfig,
    TransformsBatches,
)
from stackkit.model_deployers.predictions import not_serving

from .config import SageMakerServiceConfig
from .definitions import split_reference
from .endpoints import Endpoints
from .hosting import Hosting
from .transforms import NoTransforms, SageMakerTransformConfig, Transforms


class SageMakerModelDeployer(BaseModelDeployer, SplitsTraffic, CompletesStart, FindsServers, TransformsBatches):
    """Serves each model by an endpoint in AWS, or by the same container on this machine when it is ``local``."""

    transform_config_class = SageMakerTransformConfig

    def do_identify(self) -> PlatformIdentity:
        return self._hosting.identify()

    def do_resolve(self, config: ServiceConfig, progress: Progress) -> ModelSource:
        wanted = _sagemaker(config)
        self._hosting.check_config(wanted)
        folder = self.database.settings.models_folder
        resolved = models.resolve(config.model_uri, models_folder=folder, progress=progress)
        sweeping.note_user(resolved.digest, folder, self.database.url)
        source = ModelSource(resolved.uri, resolved.digest, resolved.reference, resolved.format)
        path, attribute = split_reference(source)
        if not path.is_absolute():
            raise ModelError(
                f"The installed module {path} cannot be uploaded to SageMaker.",
                f"Name the file itself: ./{path}.py:{attribute}",
            )
        if wanted.image is None:
            images.make_context(resolved, base_image=self.config.base_image)  # refuses what no image can be built of
        return source

    def do_prepare(self, operation: Operation) -> None:
        self._hosting.prepare(operation, _sagemaker(operation.config))

    def do_start(self, operation: Operation) -> None:
        self._hosting.start(operation, _sagemaker(operation.config))

    def can_update(self, before: ServiceConfig, after: ServiceConfig) -> bool:
        return self._hosting.can_update(_sagemaker(before), _sagemaker(after))

    def do_update(self, operation: Operation) -> None:
        self._hosting.update(operation, _sagemaker(operation.config))

    def check_split(self, service: Service, config: ServiceConfig, percent: int) -> None:
        self._hosting.check_split(service, _sagemaker(config), percent)

    def do_split(self, operation: Operation, percent: int) -> None:
        self._hosting.split(operation, _sagemaker(operation.config), percent)

    def do_complete(self, operation: Operation) -> None:
        self._hosting.complete(operation, _sagemaker(operation.config))

    def do_check(self, services: Sequence[Service]) -> Mapping[str, Observation]:
        return self._hosting.check(services)

    def do_find(self) -> Sequence[FoundServer]:
        return self._hosting.find()

    def do_stop(self, operation: Operation) -> None:
        self._hosting.stop(operation)

    def do_delete(self, operation: Operation) -> None:
        self._hosting.delete(operation)

    def do_hold(self) -> AbstractContextManager[None]:
        return sweeping.holding(self.database.settings.models_folder)

    def do_sweep(self, named: Callable[[Collection[str]], Collection[str]]) -> Sequence[str]:
        return sweeping.sweep(self.database.settings.models_folder, self.database.url, named)

    def do_logs(self, service: Service, *, follow: bool, tail: int | None) -> Iterator[str]:
        return self._hosting.logs(service, follow=follow, tail=tail)

    def do_predict(self, service: Service, data: Any, params: Mapping[str, Any] | None) -> Any:
        if service.prediction_url is None:
            raise not_serving(service)
        return self._hosting.predict(service, data, params)

    def do_info(self, service: Service) -> Mapping[str, str]:
        return self._hosting.info(service)

    def do_transform(self, name: str, config: TransformConfig, source: ModelSource, progress: Progress) -> None:
        if not isinstance(config, SageMakerTransformConfig):
            raise DeploymentError(f"A {type(config).__name__} is no transform of the SageMaker model deployer.")
        self._jobs.run(name, config, source, progress)

    def do_find_transforms(self, prefix: str) -> Sequence[Transform]:
        return self._jobs.find(prefix)

    def do_end_transform(self, name: str) -> None:
        self._jobs.end(name)

    @cached_property
    def _jobs(self) -> Transforms | NoTransforms:
        hosting = self._hosting
        if not isinstance(hosting, Endpoints):
            return NoTransforms()
        return Transforms(hosting.clients, self.config, hosting.sources, hosting.resources)

    @cached_property
    def _hosting(self) -> Hosting:
        if not self.config.local:
            return Endpoints(self.config)
        from .local import LocalHosting

        return LocalHosting(self.config)


def _sagemaker(config: ServiceConfig) -> SageMakerServiceConfig:
    if not isinstance(config, SageMakerServiceConfig):
        raise DeploymentError(f"A {type(config).__name__} cannot be served by the SageMaker model deployer.")
    return config
