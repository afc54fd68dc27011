"""The SageMaker model deployer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

from botocore.exceptions import ClientError

from stackkit.environments import images, models, sweeping
from stackkit.environments.models import ResolvedModel
from stackkit.errors import DeploymentError, ModelError, NotSupportedError, PlatformUnavailableError, PredictionError
from stackkit.model_deployers import (
    BaseModelDeployer,
    ModelSource,
    Observation,
    Operation,
    PlatformIdentity,
    Progress,
    Service,
    ServiceConfig,
    ServiceState,
    UpdatesInPlace,
)

from . import definitions
from .clients import Clients
from .config import SageMakerServiceConfig
from .logs import read_log
from .names import endpoint_name, revision_name, tags
from .observations import changed_at, observe
from .predictions import predict_later, predict_now
from .registry import Registry, image_tag, platform_of
from .resources import Resources
from .storage import Storage, prefix_of

_FEW = 3  # so many endpoints are asked about one by one; for more, it is worth to see first which there are
_MOST_QUESTIONS = 16


class SageMakerModelDeployer(BaseModelDeployer, UpdatesInPlace):
    """Serves each model by an endpoint that is named by the service's UUID.

    A revision has a model and an endpoint configuration of its own; its bytes are in an image that was built of them,
    or in an archive in S3 beside an image that was given. All are made before the endpoint is touched. A stop deletes
    the endpoint alone, since that is what costs.
    """

    def do_identify(self) -> PlatformIdentity:
        caller, region = self._clients.caller(), self.config.region
        return PlatformIdentity(
            f"{caller.partition}:{caller.account}:{region}", f"AWS account {caller.account}, {region}"
        )

    def do_resolve(self, config: ServiceConfig, progress: Progress) -> ModelSource:
        wanted = _sagemaker(config)
        if wanted.serverless is not None and self.config.vpc_config is not None:
            raise NotSupportedError(
                "A serverless endpoint cannot run in a network of one's own.",
                "Register another deployer without vpc_config, or leave out serverless.",
            )
        folder = self.database.settings.models_folder
        resolved = models.resolve(config.model_uri, models_folder=folder, progress=progress)
        sweeping.note_user(resolved.digest, folder, self.database.url)
        source = ModelSource(resolved.uri, resolved.digest, resolved.reference, resolved.format)
        path, attribute = definitions.split_reference(source)
        if not path.is_absolute():
            raise ModelError(
                f"The installed module {path} cannot be uploaded to SageMaker.",
                f"Name the file itself: ./{path}.py:{attribute}",
            )
        if wanted.image is None:
            images.make_context(resolved, base_image=self.config.base_image)  # refuses what no image can be built of
        return source

    def do_prepare(self, operation: Operation) -> None:
        """Upload the model, and make the revision's model and endpoint configuration in SageMaker.

        What earlier revisions have left goes first, but for those that are kept or still serve.
        """
        service, config = operation.service, _sagemaker(operation.config)
        name = revision_name(service.id, service.revision, operation.epoch)
        configs = self._kept_configs(service, config, name)
        if config.image is not None or config.asynchronous is not None:
            self._storage.ensure_bucket()
        self._clean_up(service, configs)
        operation.checkpoint(configs=configs)
        image, archive = (
            (self._build(operation), None) if config.image is None else (config.image, self._upload(operation))
        )
        operation.checkpoint(image=image, archive=archive)
        operation.progress(f"creating the model {name}")
        self._resources.create_model(
            definitions.model(name, service, self.config, config, image=image, archive=archive),
            secrets=[value.get_secret_value() for value in config.env.values()],
        )
        operation.checkpoint()
        self._resources.create_endpoint_config(
            definitions.endpoint_config(name, service, self.config, config, self._folder(service))
        )

    def do_start(self, operation: Operation) -> None:
        service, config = operation.service, _sagemaker(operation.config)
        name = self._config_name(service)
        found = self._resources.describe_endpoint(service.id)
        if found is None:
            operation.checkpoint(update=None)
            self._resources.create_endpoint(service.id, name, tags(service.id, self.config.tags, config.tags))
        elif found.get("EndpointConfigName") != name or found["EndpointStatus"] == "Deleting":
            raise DeploymentError(
                f"There is an endpoint of {service.name!r} already: {found['EndpointStatus']}, "
                f"configured by {found.get('EndpointConfigName')}.",
                f"Stop it first: stackkit model-deployer models stop {service.id[:8]}.",
            )

    def can_update(self, before: ServiceConfig, after: ServiceConfig) -> bool:
        return _sagemaker(before).kind == _sagemaker(after).kind

    def do_update(self, operation: Operation) -> None:
        service, name = operation.service, self._config_name(operation.service)
        found = self._resources.describe_endpoint(service.id)
        if found is None:
            raise DeploymentError(f"The endpoint of {service.name!r} is gone.", "Start it again, and then update it.")
        pending = found.get("PendingDeploymentSummary") or {}
        if name in (found.get("EndpointConfigName"), pending.get("EndpointConfigName")):
            return
        asked = {"revision": service.revision, "since": changed_at(found)}
        operation.checkpoint(update=asked)
        rollout = definitions.deployment_config(_sagemaker(operation.config).rollout)
        try:
            self._resources.update_endpoint(service.id, name, rollout)
        except (DeploymentError, PlatformUnavailableError) as error:
            if isinstance(error.__cause__, ClientError):  # AWS has answered: it is certain that nothing will come of it
                operation.checkpoint(update={**asked, "refused": error.message})
            raise

    def do_check(self, services: Sequence[Service]) -> Mapping[str, Observation]:
        present: Sequence[Service] = services
        if len(services) > _FEW:
            names = self._resources.endpoint_names()
            present = [service for service in services if endpoint_name(service.id) in names]
        if len(present) < 2:
            return {service.id: self._observe(service) for service in present}
        with ThreadPoolExecutor(min(_MOST_QUESTIONS, len(present))) as pool:
            return dict(zip([service.id for service in present], pool.map(self._observe, present), strict=True))

    def do_stop(self, operation: Operation) -> None:
        found = self._resources.describe_endpoint(operation.service.id)
        if found is not None:
            self._resources.delete_endpoint(operation.service.id, found)

    def do_delete(self, operation: Operation) -> None:
        service = operation.service
        self._resources.remove_revisions(service.id)
        operation.checkpoint()
        if _has_built(service):
            self._registry.remove(service.id)
        self._storage.remove_all(service.id)

    def do_hold(self) -> AbstractContextManager[None]:
        return sweeping.holding(self.database.settings.models_folder)

    def do_sweep(self, named: Callable[[Collection[str]], Collection[str]]) -> Sequence[str]:
        return sweeping.sweep(self.database.settings.models_folder, self.database.url, named)

    def do_logs(self, service: Service, *, follow: bool, tail: int | None) -> Iterator[str]:
        return read_log(
            self._clients,
            service.id,
            follow=follow,
            tail=tail,
            alive=lambda: self._resources.describe_endpoint(service.id) is not None,
        )

    def do_predict(self, service: Service, data: Any, params: Mapping[str, Any] | None) -> Any:
        if service.prediction_url is None:
            raise PredictionError(
                f"The service {service.name!r} serves no predictions: it is {service.status.state.value}.",
                f"Start it: stackkit model-deployer models start {service.id[:8]}.",
            )
        if _sagemaker(service.config).asynchronous is not None:
            return predict_later(self._clients, service, self._folder(service), data, params)
        return predict_now(self._clients, service, data, params)

    def do_info(self, service: Service) -> Mapping[str, str]:
        details = service.status.details
        endpoint = details.get("endpoint") or {}
        rows = {
            "ENDPOINT": endpoint_name(service.id),
            "ENDPOINT_STATUS": endpoint.get("status"),
            "ENDPOINT_CONFIG": endpoint.get("config"),
            "CONTAINER_IMAGE": details.get("image"),
            "ARCHIVE": details.get("archive"),
            "INSTANCES": ", ".join(
                f"{name}: {variant['instances']} of {variant['desired_instances']}"
                for name, variant in endpoint.get("variants", {}).items()
                if variant["desired_instances"] is not None
            ),
            "ROLLOUT": "; ".join(
                stage for stages in endpoint.get("rollout", {}).get("stages", {}).values() for stage in stages
            ),
        }
        return {name: value for name, value in rows.items() if value}

    @cached_property
    def _clients(self) -> Clients:
        return Clients(self.config)

    @cached_property
    def _resources(self) -> Resources:
        return Resources(self._clients)

    @cached_property
    def _storage(self) -> Storage:
        return Storage(self._clients, self.config.region, self.config.bucket)

    @cached_property
    def _registry(self) -> Registry:
        return Registry(self._clients, self.config.region, self.config.ecr_repository)

    def _folder(self, service: Service) -> str:
        return f"s3://{self._storage.bucket}/{prefix_of(service.id)}"

    def _observe(self, service: Service) -> Observation:
        found = self._resources.describe_endpoint(service.id)
        if found is None:
            return Observation(ServiceState.INACTIVE, "There is no such endpoint in SageMaker.")
        invocations = "async-invocations" if _is_asynchronous(service) else "invocations"
        url = f"{self._clients.runtime.meta.endpoint_url}/endpoints/{endpoint_name(service.id)}/{invocations}"
        return observe(service, found, url)

    def _kept_configs(self, service: Service, config: SageMakerServiceConfig, name: str) -> dict[str, str]:
        """The names of the newest revisions' endpoint configurations by revision, this one's among them."""
        known = service.status.details.get("configs", {})
        earlier = sorted((int(number) for number in known if int(number) < service.revision), reverse=True)
        kept = {str(number): known[str(number)] for number in earlier[: config.keep_revisions]}
        return {**kept, str(service.revision): name}

    def _config_name(self, service: Service) -> str:
        name = service.status.details.get("configs", {}).get(str(service.revision))
        if name is None:
            raise DeploymentError(
                f"Revision {service.revision} of {service.name!r} was not made ready.", "Deploy it again."
            )
        return str(name)

    def _clean_up(self, service: Service, configs: Mapping[str, str]) -> None:
        """Remove what no revision needs that is kept, that serves, or that SageMaker goes over to."""
        found = self._resources.describe_endpoint(service.id) or {}
        pending = found.get("PendingDeploymentSummary") or {}
        in_use = (found.get("EndpointConfigName"), pending.get("EndpointConfigName"))
        keep = {*configs.values(), *(name for name in in_use if name is not None)}
        self._resources.remove_revisions(service.id, keep)
        earlier = [self._resources.container_of(name) for name in keep - {configs[str(service.revision)]}]
        archives = {container.get("ModelDataUrl", "") for container in earlier}
        self._storage.remove_models(service.id, {*archives, self._storage.archive_uri(service.id, _digest(service))})
        if _has_built(service):
            addresses = {container.get("Image", "") for container in earlier}
            self._registry.remove(service.id, {*addresses, self._registry.address(self._image_tag(service))})

    def _image_tag(self, service: Service) -> str:
        return image_tag(service.id, _digest(service), _platform(service), self.config.base_image)

    def _build(self, operation: Operation) -> str:
        """Have an image with the service's model in ECR, and return its address; a no-op when it is there."""
        service, tag = operation.service, self._image_tag(operation.service)
        # noted before there is any, so that what is pushed when this process is killed is looked for
        operation.checkpoint(has_built=True)
        self._registry.provide(
            _resolved(service.source),
            tag,
            base_image=self.config.base_image,
            platform=_platform(service),
            progress=operation.progress,
        )
        return self._registry.address(tag)

    def _upload(self, operation: Operation) -> str:
        """Have the service's model in S3, and return the URI of its archive; a no-op when the same is there."""
        service, digest = operation.service, _digest(operation.service)
        if not self._storage.has_archive(service.id, digest):
            path, _ = definitions.split_reference(service.source)
            if not path.exists():
                raise ModelError(
                    f"The bytes of {service.source.uri} that {service.name!r} is to serve are not on this machine.",
                    "Deploy the model again from where it came from: stackkit model-deployer models deploy.",
                )
            self._storage.upload(service.id, digest, path, operation.progress)
        return self._storage.archive_uri(service.id, digest)


def _sagemaker(config: ServiceConfig) -> SageMakerServiceConfig:
    if not isinstance(config, SageMakerServiceConfig):
        raise DeploymentError(f"A {type(config).__name__} cannot be served by the SageMaker model deployer.")
    return config


def _is_asynchronous(service: Service) -> bool:
    return isinstance(service.config, SageMakerServiceConfig) and service.config.asynchronous is not None


def _platform(service: Service) -> str:
    config = _sagemaker(service.config)
    return platform_of(None if config.serverless is not None else config.instance_type)


def _has_built(service: Service) -> bool:
    """Whether an image was ever built for the service: who gives images needs no rights in ECR."""
    return bool(service.status.details.get("has_built"))


def _resolved(source: ModelSource) -> ResolvedModel:
    return ResolvedModel(source.uri, source.digest or "", source.reference or "", source.format or "")


def _digest(service: Service) -> str:
    if service.source.digest is None:
        raise ModelError(f"The model of {service.name!r} has no digest.", "Deploy it again.")
    return service.source.digest
