"""Services as endpoints in AWS: SageMaker, S3, ECR and Application Auto Scaling, in the order that AWS demands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from botocore.exceptions import ClientError

from stackkit.errors import DeploymentError, NotSupportedError, PlatformUnavailableError, StackkitError
from stackkit.model_deployers import FoundServer, Observation, Operation, PlatformIdentity, Service, ServiceState

from . import definitions, kept, preflight
from .clients import Clients
from .config import SageMakerModelDeployerConfig, SageMakerServiceConfig
from .logs import read_log
from .names import ENDPOINTS, endpoint_name, is_of_lease, revision_name, split_name, tags
from .observations import changed_at, observe, revision_of, split_on_its_way
from .predictions import predict_later, predict_now
from .registry import platform_of
from .resources import IN_TRANSITION, Resources
from .scaling import Scaling
from .sources import Sources
from .storage import prefix_of

_FEW = 3  # so many endpoints are asked about one by one; for more, it is worth to see first which there are
_MOST_QUESTIONS = 16
_MOST_VARIANTS = 10


class Endpoints:
    """An endpoint for each service, named by its UUID.

    A revision has a model and an endpoint configuration of its own, both made before the endpoint is touched. A stop
    deletes the endpoint alone, since that is what costs.
    """

    def __init__(self, config: SageMakerModelDeployerConfig) -> None:
        self._config = config
        self.clients = Clients(config)
        self.sources = Sources(self.clients, config)
        self.resources = Resources(self.clients)
        self._scaling = Scaling(self.clients)

    def identify(self) -> PlatformIdentity:
        caller, region = self.clients.caller(), self._config.region
        return PlatformIdentity(
            f"{caller.partition}:{caller.account}:{region}", f"AWS account {caller.account}, {region}"
        )

    def check_config(self, config: SageMakerServiceConfig) -> None:
        if config.serverless is not None and self._config.vpc_config is not None:
            raise NotSupportedError(
                "A serverless endpoint cannot run in a network of one's own.",
                "Register another deployer without vpc_config, or leave out serverless.",
            )
        if config.image is None:
            platform_of(config.instance_types)
        preflight.check_instance_types(self.clients, config.instance_types, shape="ProductionVariantInstanceType")
        preflight.check_role(self.clients, str(self._config.execution_role_arn))
        preflight.check_alarms(self.clients, config.rollout.alarms if config.rollout is not None else ())
        self.sources.storage.check_bucket()

    def can_update(self, before: SageMakerServiceConfig, after: SageMakerServiceConfig) -> bool:
        return before.kind == after.kind

    def prepare(self, operation: Operation, config: SageMakerServiceConfig) -> None:
        """Upload the model, and make the revision's model and endpoint configuration in SageMaker.

        What earlier revisions have left goes first, but for those that are kept or still serve. A no-op for a start
        that somebody else has begun, and that is on its way.
        """
        service = operation.service
        found = self.resources.describe_endpoint(service.id) or {}
        if _is_on_its_way(service, found):
            return
        name = revision_name(service.id, service.revision, operation.epoch)
        if config.image is not None or config.asynchronous is not None:
            self.sources.storage.ensure_bucket()
        configs = self._clean_up(service, config, name, found)
        operation.checkpoint(configs=configs)
        with self._undoing(operation, name):
            image, archive = self._provide(operation, config)
            operation.checkpoint(image=image, archive=archive, prepared=service.revision)
            operation.progress(f"creating the model {name}")
            self.resources.create_model(
                definitions.model(name, service, self._config, config, image=image, archive=archive),
                secrets=[value.get_secret_value() for value in config.env.values()],
            )
            operation.checkpoint()
            self.resources.create_endpoint_config(
                definitions.endpoint_config(name, service, self._config, config, self.folder(service))
            )

    def start(self, operation: Operation, config: SageMakerServiceConfig) -> None:
        service = operation.service
        name = _config_name(service)
        found = self.resources.describe_endpoint(service.id)
        if found is None:
            operation.checkpoint(update=None, splits={}, starting=name)
            with self._undoing(operation, name):
                self._keep(service, name, config)
                marked = tags(service.id, self._config.tags, config.tags)
                if not self.resources.create_endpoint(service.id, name, marked):
                    found = self.resources.describe_endpoint(service.id)
        if found is not None and (found.get("EndpointConfigName") != name or found["EndpointStatus"] == "Deleting"):
            raise DeploymentError(
                f"There is an endpoint of {service.name!r} already: {found['EndpointStatus']}, "
                f"configured by {found.get('EndpointConfigName')}.",
                f"Stop it first: stackkit model-deployer models stop {service.id[:8]}.",
            )
        self._has_taken(operation)

    def update(self, operation: Operation, config: SageMakerServiceConfig) -> None:
        service, name = operation.service, _config_name(operation.service)
        found = self._existing(service)
        if name in _configs_in_use(found):
            return
        was_split = found.get("EndpointConfigName") in service.status.details.get("splits", {})
        # what went well for a share of the requests has been tried already
        rollout = definitions.deployment_config(None if was_split else config.rollout)
        scales = self._unscale(operation, config)
        with self._undoing(operation, name):
            self._keep(service, name, config)
            with self._asking(operation, found, name):
                keep_count = scales and config.kind == "real-time"  # of none an asynchronous one would begin with none
                self.resources.update_endpoint(service.id, name, rollout, keep_count=keep_count)
        self._has_taken(operation)

    def check_split(self, service: Service, config: SageMakerServiceConfig, percent: int) -> None:
        if config.kind != "real-time":
            raise NotSupportedError(
                f"{config.kind.capitalize()} endpoints have no canary: SageMaker gives them one variant.",
                "Update it as a whole.",
            )
        if isinstance(service.config, SageMakerServiceConfig):
            together = len(service.config.fleets) + len(config.fleets)
            if together > _MOST_VARIANTS:
                raise NotSupportedError(
                    f"The variants of {service.name!r} and of its canary would be {together}, and SageMaker gives an "
                    f"endpoint {_MOST_VARIANTS} at most.",
                    "Update it as a whole, or have fewer variants.",
                )
        found = self.resources.describe_endpoint(service.id)
        if found is None or found["EndpointStatus"] not in IN_TRANSITION:
            return
        coming = split_on_its_way(service, found)
        if service.canary is None or coming is None or coming["canary"] != service.canary.revision:
            raise NotSupportedError(
                f"SageMaker is changing the endpoint of {service.name!r}, and gives it no canary meanwhile.",
                f"Ask again once it has: stackkit model-deployer models describe {service.id[:8]}.",
            )

    def split(self, operation: Operation, config: SageMakerServiceConfig, percent: int) -> None:
        """Have the endpoint go over to a configuration with both revisions' variants.

        Once it has, another percent only changes their weights; while it is on its way, nothing does.
        """
        service = operation.service
        found = self._existing(service)
        if (coming := split_on_its_way(service, found)) is not None and coming["canary"] == service.revision:
            return
        splits = service.status.details.get("splits", {})
        current = found.get("EndpointConfigName", "")
        if splits.get(current, {}).get("canary") == service.revision:
            self._weigh(operation, found, current, percent)
            return
        stable = revision_of(service, found.get("EndpointConfigName"))
        stable_name, canary_name = _config_name(service, stable), _config_name(service)
        name = split_name(service.id, service.revision, operation.epoch)
        in_use = {each: splits[each] for each in _configs_in_use(found) if each in splits}
        made = {"stable": stable, "canary": service.revision, "percent": percent}
        operation.checkpoint(splits={**in_use, name: made})
        with self._undoing(operation, name, canary_name):
            self._keep(service, canary_name, config)
            body = definitions.split_config(
                name, self.resources.describe_config(stable_name), self.resources.describe_config(canary_name), percent
            )
            marked = tags(service.id, self._config.tags, config.tags, kept.stable_tag(stable_name))
            self.resources.create_endpoint_config({**body, "Tags": marked})
            with self._asking(operation, found, name):
                scaled = bool(service.status.details.get("scaled"))
                self.resources.update_endpoint(service.id, name, {}, keep_count=scaled)
        self._has_taken(operation)

    def complete(self, operation: Operation, config: SageMakerServiceConfig) -> None:
        """Register the autoscaling of a revision that serves alone; a canary's instances are as many as they are."""
        service = operation.service
        wanted = _scaled_variants(config)
        scaled = service.status.details.get("scaled", {})
        if not wanted and not scaled:
            return
        if self._existing(service).get("EndpointConfigName") != _config_name(service):
            return
        operation.checkpoint(scaled={**scaled, **wanted})  # noted before, so that it is known to be removed
        operation.progress(f"setting up the autoscaling of {service.name}")
        self._scaling.remove(service.id, scaled.keys() - wanted.keys())
        self._scaling.register(service.id, config)
        operation.checkpoint(scaled=wanted)

    def check(self, services: Sequence[Service]) -> Mapping[str, Observation]:
        present: Sequence[Service] = services
        if len(services) > _FEW:
            names = self.resources.endpoint_names()
            present = [service for service in services if endpoint_name(service.id) in names]
        if len(present) < 2:
            return {service.id: self._observe(service) for service in present}
        with ThreadPoolExecutor(min(_MOST_QUESTIONS, len(present))) as pool:
            return dict(zip([service.id for service in present], pool.map(self._observe, present), strict=True))

    def find(self) -> Sequence[FoundServer]:
        names = sorted(self.resources.endpoint_names())
        with ThreadPoolExecutor(min(_MOST_QUESTIONS, len(names) or 1)) as pool:
            return [found for found in pool.map(self._found, names) if found is not None]

    def stop(self, operation: Operation) -> None:
        service = operation.service
        if service.status.details.get("starting") is not None:
            operation.checkpoint(starting=None)
        self._unscale(operation, None)
        found = self.resources.describe_endpoint(service.id)
        if found is not None:
            self.resources.delete_endpoint(service.id, found)

    def delete(self, operation: Operation) -> None:
        service = operation.service
        self._unscale(operation, None)
        self.resources.remove_revisions(service.id)
        operation.checkpoint()
        if _has_built(service):
            self.sources.remove_images(service.id)
        self.sources.storage.remove_all(service.id)

    def logs(self, service: Service, *, follow: bool, tail: int | None) -> Iterator[str]:
        return read_log(
            self.clients,
            service.id,
            follow=follow,
            tail=tail,
            alive=lambda: self.resources.describe_endpoint(service.id) is not None,
        )

    def predict(self, service: Service, data: Any, params: Mapping[str, Any] | None) -> Any:
        if _is_asynchronous(service):
            return predict_later(self.clients, service, self.folder(service), data, params)
        return predict_now(self.clients, service, data, params)

    def info(self, service: Service) -> Mapping[str, str]:
        details = service.status.details
        endpoint = details.get("endpoint") or {}
        prepared = details if details.get("prepared", service.revision) == service.revision else {}  # not a canary's
        scaling = service.config.autoscaling if isinstance(service.config, SageMakerServiceConfig) else None
        rows = {
            "ENDPOINT": endpoint_name(service.id),
            "ENDPOINT_STATUS": endpoint.get("status"),
            "ENDPOINT_CONFIG": endpoint.get("config"),
            "CONTAINER_IMAGE": prepared.get("image"),
            "ARCHIVE": prepared.get("archive"),
            "INSTANCES": ", ".join(
                f"{name}: {variant['instances']} of {variant['desired_instances']}, weight {variant['weight']}"
                for name, variant in endpoint.get("variants", {}).items()
                if variant["desired_instances"] is not None
            ),
            "AUTOSCALING": f"{scaling.minimum} to {scaling.maximum} instances" if scaling is not None else "",
            "ROLLOUT": "; ".join(
                stage for stages in endpoint.get("rollout", {}).get("stages", {}).values() for stage in stages
            ),
        }
        return {name: value for name, value in rows.items() if value}

    def folder(self, service: Service) -> str:
        """The URI below which all objects of a service lie."""
        return f"s3://{self.sources.storage.bucket}/{prefix_of(service.id)}"

    def _existing(self, service: Service) -> dict[str, Any]:
        found = self.resources.describe_endpoint(service.id)
        if found is None:
            raise DeploymentError(f"The endpoint of {service.name!r} is gone.", "Start it again, and then update it.")
        return found

    @contextmanager
    def _asking(self, operation: Operation, found: Mapping[str, Any], name: str) -> Iterator[None]:
        """For a call that has the endpoint go over to the configuration ``name``: it is noted, and so is a refusal."""
        asked = {"revision": operation.service.revision, "config": name, "since": changed_at(found)}
        operation.checkpoint(update=asked)
        try:
            yield
        except (DeploymentError, PlatformUnavailableError) as error:
            if isinstance(error.__cause__, ClientError):  # AWS has answered: it is certain that nothing will come of it
                operation.checkpoint(update={**asked, "refused": error.message})
            raise

    @contextmanager
    def _undoing(self, operation: Operation, *names: str) -> Iterator[None]:
        """For what comes before the endpoint has the configurations ``names``: when it fails, they and their models go.

        Only what was made under this lease goes, and of the model's bytes only what no endpoint was ever made of. What
        cannot be undone, or is cut off, goes with the next preparation or the deletion.
        """
        try:
            yield
        except (DeploymentError, PlatformUnavailableError):
            with suppress(StackkitError):  # the first error is the one to be raised
                self._undo(operation, [name for name in names if is_of_lease(name, operation.epoch)])
            raise

    def _undo(self, operation: Operation, names: Sequence[str]) -> None:
        service = operation.service
        found = self.resources.describe_endpoint(service.id) or {}
        if not names or not set(names).isdisjoint(_configs_in_use(found)):
            return  # an answer was lost, and it was taken after all
        for name in names:
            self.resources.remove_revision(service.id, name)
        details = service.status.details
        others = {number: name for number, name in details["configs"].items() if name not in names}
        operation.checkpoint(configs=others, prepared=None)
        if (unserved := details.get("unserved")) is None:
            return
        containers = [self.resources.container_of(name) for name in {*others.values(), *_configs_in_use(found)}]
        if not any(unserved in (each.get("ModelDataUrl"), each.get("Image")) for each in containers):
            self.sources.remove(unserved)
            operation.checkpoint(unserved=None)

    def _has_taken(self, operation: Operation) -> None:
        """Note that an endpoint was made of the model's bytes: from now on they stay as long as a revision is kept."""
        if operation.service.status.details.get("unserved") is not None:
            operation.checkpoint(unserved=None)

    def _weigh(self, operation: Operation, found: Mapping[str, Any], name: str, percent: int) -> None:
        """Give the canary that shares the endpoint another share; a no-op when it has that."""
        weights = definitions.split_weights(self.resources.describe_config(name)["ProductionVariants"], percent)
        if weights != {each["VariantName"]: each.get("DesiredWeight") for each in found["ProductionVariants"]}:
            with self._asking(operation, found, name):
                self.resources.weigh(operation.service.id, weights)

    def _unscale(self, operation: Operation, config: SageMakerServiceConfig | None) -> bool:
        """Remove the autoscaling of the variants that ``config`` has not, or has otherwise; None has none.

        Whether all variants that it has are left registered: SageMaker changes and removes none that is.
        """
        wanted = {} if config is None else _scaled_variants(config)
        scaled = operation.service.status.details.get("scaled", {})
        left = {name: kind for name, kind in scaled.items() if wanted.get(name) == kind}
        if left != scaled:
            self._scaling.remove(operation.service.id, scaled.keys() - left.keys())
            operation.checkpoint(scaled=left)
        return bool(left) and left == wanted

    def _keep(self, service: Service, name: str, config: SageMakerServiceConfig) -> None:
        """Keep beside the configuration ``name`` what its revision is, for whoever finds the endpoint without a row."""
        if kept_tags := kept.kept_tags(service, name, _scaled_variants(config)):
            self.resources.tag_config(name, kept_tags)

    def _found(self, name: str) -> FoundServer | None:
        service_id = name.removeprefix(ENDPOINTS)
        endpoint = self.resources.describe_endpoint(service_id)
        if endpoint is None or "EndpointConfigName" not in endpoint:
            return None
        tags = self.resources.config_tags(endpoint["EndpointConfigName"])
        if (stable := kept.stable_of(tags)) is not None:
            tags = self.resources.config_tags(stable)
        found = kept.kept_in(tags)
        return found if found is not None and found.service_id == service_id else None

    def _observe(self, service: Service) -> Observation:
        found = self.resources.describe_endpoint(service.id)
        if found is None:
            return Observation(ServiceState.INACTIVE, "There is no such endpoint in SageMaker.")
        invocations = "async-invocations" if _is_asynchronous(service) else "invocations"
        url = f"{self.clients.runtime.meta.endpoint_url}/endpoints/{endpoint_name(service.id)}/{invocations}"
        return observe(service, found, url)

    def _provide(self, operation: Operation, config: SageMakerServiceConfig) -> tuple[str, str | None]:
        """The image that serves the revision, and the archive beside it, if it is not in that image."""
        service = operation.service
        # noted before there is any, so that what is there when this process is killed is looked for
        if config.image is not None:
            return config.image, self.sources.upload(
                service.id, service.source, operation.progress, begins=lambda uri: operation.checkpoint(unserved=uri)
            )
        return self.sources.build(
            service.id,
            service.source,
            platform_of(config.instance_types),
            operation.progress,
            begins=lambda address: operation.checkpoint(unserved=address, has_built=True),
        ), None

    def _clean_up(
        self, service: Service, config: SageMakerServiceConfig, name: str, found: Mapping[str, Any]
    ) -> dict[str, str]:
        """Remove what no revision needs that is kept, that serves, or that SageMaker goes over to.

        ``found`` describes the endpoint. Returns the names of the kept revisions' configurations, with ``name`` as that
        of the service's own revision.
        """
        known, splits = (service.status.details.get(part, {}) for part in ("configs", "splits"))
        earlier = sorted((int(number) for number in known if int(number) < service.revision), reverse=True)
        kept_configs = {str(number): known[str(number)] for number in earlier[: config.keep_revisions]}
        in_use = _configs_in_use(found)
        shared = [str(splits[each][part]) for each in in_use if each in splits for part in ("stable", "canary")]
        kept_configs |= {number: known[number] for number in shared if number in known}
        before = {*kept_configs.values(), *in_use}
        # one of this name that nobody noted is not what is to be made: the row was lost once, and found again
        own = {name} if known.get(str(service.revision)) == name else set()
        self.resources.remove_revisions(service.id, before | own)
        containers = [self.resources.container_of(each) for each in before - own - splits.keys()]
        self.sources.remove_archives(
            service.id,
            {
                self.sources.archive_uri(service.id, service.source),
                *(container.get("ModelDataUrl", "") for container in containers),
            },
        )
        if _has_built(service):
            addresses = {container.get("Image", "") for container in containers}
            if config.image is None:
                platform = platform_of(config.instance_types)
                addresses.add(self.sources.image_address(service.id, service.source, platform))
            self.sources.remove_images(service.id, addresses)
        return {**kept_configs, str(service.revision): name}


def _config_name(service: Service, revision: int | None = None) -> str:
    """What the endpoint configuration of a revision is called, by default of the service's own."""
    number = service.revision if revision is None else revision
    name = service.status.details.get("configs", {}).get(str(number))
    if name is None:
        raise DeploymentError(f"Revision {number} of {service.name!r} was not made ready.", "Deploy it again.")
    return str(name)


def _configs_in_use(found: Mapping[str, Any]) -> list[str]:
    """The names of the configurations that an endpoint goes over to, and has."""
    pending = found.get("PendingDeploymentSummary") or {}
    names = (pending.get("EndpointConfigName"), found.get("EndpointConfigName"))
    return [name for name in names if name is not None]


def _is_on_its_way(service: Service, found: Mapping[str, Any]) -> bool:
    """Whether the endpoint was created for the service's own revision, by a start that nobody has given up."""
    starting = service.status.details.get("starting")
    own = service.status.details.get("configs", {}).get(str(service.revision))
    is_it = starting is not None and starting == own == found.get("EndpointConfigName")
    return is_it and found["EndpointStatus"] in ("Creating", "InService")


def _scaled_variants(config: SageMakerServiceConfig) -> dict[str, str]:
    """The variants that scale, with the type of their instances."""
    if config.autoscaling is None:
        return {}
    return {name: fleet.instance_type for name, fleet in config.fleets.items()}


def _is_asynchronous(service: Service) -> bool:
    return isinstance(service.config, SageMakerServiceConfig) and service.config.asynchronous is not None


def _has_built(service: Service) -> bool:
    """Whether an image was ever built for the service: who gives images needs no rights in ECR."""
    return bool(service.status.details.get("has_built"))
