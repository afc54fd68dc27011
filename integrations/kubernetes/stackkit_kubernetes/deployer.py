"""The Kubernetes model deployer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache, cached_property, partial
from typing import Any

import yaml

from stackkit.environments import sweeping
from stackkit.errors import DeploymentError, NotSupportedError
from stackkit.local.probes import answers
from stackkit.model_deployers import (
    BaseModelDeployer,
    FindsServers,
    ForwardsPorts,
    FoundServer,
    ModelSource,
    Observation,
    Operation,
    PlatformIdentity,
    Progress,
    Service,
    ServiceConfig,
    ServiceState,
    ShowsManifest,
    SplitsTraffic,
)
from stackkit.model_deployers.predictions import Send, request_prediction

from . import objects, observing
from .addresses import Reach, is_node_port
from .cluster import SERVICE, Cluster, KubernetesObject, Trouble, epoch_of, service_labels, why
from .config import KubernetesServiceConfig
from .drift import changed, with_copy
from .images import Images
from .objects import CORE, DEPLOYMENTS, INGRESSES, deployment_name, main_name
from .observing import Found
from .patches import patched
from .pods import CONTAINER, PORT, Revision, Track

_PREDICT_SECONDS = 310
_FARTHEST_PERCENT = 10
"""How far the part of the requests that a canary answers may be from what was asked for."""

_NODES_ELSEWHERE = "Where its nodes have another address, give the deployer that: --base_url=http://ADDRESS"

Events = Callable[[str], Sequence[KubernetesObject]]
"""What was told of the object of a name, oldest first."""

_NOT_PUSHED = (
    "It was built on this machine's Docker Engine, and pushed nowhere: give the deployer an image_registry that the "
    "nodes reach."
)


class KubernetesModelDeployer(BaseModelDeployer, SplitsTraffic, FindsServers, ShowsManifest, ForwardsPorts):
    """Serves each model in the pods of a Deployment that bears the service's UUID as its name and label."""

    def do_identify(self) -> PlatformIdentity:
        return self._cluster.identity()

    def do_resolve(self, config: ServiceConfig, progress: Progress) -> ModelSource:
        checked = _kubernetes(config)
        self._all(objects.example(checked), replicas=1)  # refuses a patch, and what the cluster does not serve
        return self._images.resolve(checked, progress)

    def do_hold(self) -> AbstractContextManager[None]:
        return sweeping.holding(self.database.settings.models_folder)

    def do_sweep(self, named: Callable[[Collection[str]], Collection[str]]) -> Sequence[str]:
        return sweeping.sweep(self.database.settings.models_folder, self.database.url, named)

    def do_prepare(self, operation: Operation) -> None:
        self._images.provide(operation, _kubernetes(operation.config))

    def do_start(self, operation: Operation) -> None:
        self._serve_alone(operation)

    def can_update(self, before: ServiceConfig, after: ServiceConfig) -> bool:
        """Always: the pods of the old revision serve until those of the new one are ready."""
        return True

    def do_update(self, operation: Operation) -> None:
        self._serve_alone(operation)

    def check_split(self, service: Service, config: ServiceConfig, percent: int) -> None:
        stable = self._cluster.get(DEPLOYMENTS, "Deployment", main_name(service.id))
        if stable is not None:
            _canary_replicas(observing.wanted(stable), percent)

    def do_split(self, operation: Operation, percent: int) -> None:
        service, config = operation.service, _kubernetes(operation.config)
        stable = self._cluster.get(DEPLOYMENTS, "Deployment", main_name(service.id))
        if stable is None:
            raise DeploymentError(f"The Deployment of {service.name!r} is gone.", "Start it again.")
        replicas = _canary_replicas(observing.wanted(stable), percent)
        revision = self._revision(service, config)
        secret = objects.make_secret(revision)
        deployment = objects.make_deployment(revision, "canary", replicas=replicas)
        for each in filter(None, (secret, deployment)):
            self._apply(operation, patched(each, config))

    def do_check(self, services: Sequence[Service]) -> Mapping[str, Observation]:
        if not services:
            return {}
        by_service, events = self._find(services), self._events_of(services)
        return {service.id: self._observe(service, by_service.get(service.id, Found()), events) for service in services}

    def do_stop(self, operation: Operation) -> None:
        service_id = operation.service.id
        self._end(operation, "canary")
        stable = self._cluster.get(DEPLOYMENTS, "Deployment", main_name(service_id))
        if stable is None or observing.is_going(stable) or not observing.wanted(stable):
            return
        operation.checkpoint()  # whoever has lost the lease writes nothing more
        nothing = {"spec": {"replicas": 0}}
        self._cluster.merge(DEPLOYMENTS, "Deployment", main_name(service_id), nothing, epoch=operation.epoch)

    def do_delete(self, operation: Operation) -> None:
        service = operation.service
        self._end(operation, "stable")
        self._end(operation, "canary")
        self._remove_others(operation, set())
        self._drop(operation, CORE, "Service", main_name(service.id))
        for secret in self._cluster.find(CORE, "Secret", service_labels(service.id), patient=True):
            self._drop(operation, CORE, "Secret", secret["metadata"]["name"])
        self._images.discard(service.status.details.get("images", ()))

    def do_find(self) -> Sequence[FoundServer]:
        listed = self._cluster.find(DEPLOYMENTS, "Deployment", {})
        epochs: dict[str, int] = {}
        for each in listed:  # a canary may have been made under a higher one
            service_id = observing.label(each, SERVICE)
            epochs[service_id] = max(epoch_of(each), epochs.get(service_id, 1))
        found = (objects.found_server(each) for each in listed if observing.wanted(each))
        return [replace(each, epoch=epochs[each.service_id]) for each in found if each is not None]

    def do_logs(self, service: Service, *, follow: bool, tail: int | None) -> Iterator[str]:
        return self._cluster.logs(service_labels(service.id), container=CONTAINER, follow=follow, tail=tail)

    def do_predict(self, service: Service, data: Any, params: Mapping[str, Any] | None) -> Any:
        """Ask the server for predictions: through the API server where this process does not reach it otherwise."""
        url = service.prediction_url
        through_api = url is not None and not self._reach.reaches(url)
        return request_prediction(service, data, params, send=self._proxied(service) if through_api else None)

    def do_forward(self, service: Service, port: int | None) -> AbstractContextManager[str]:
        return self._cluster.forward(service_labels(service.id), PORT, port)

    def do_manifest(self, service: Service, config: ServiceConfig) -> str:
        made = self._revision(service, _kubernetes(config))
        listed = self._all(made, replicas=made.config.replicas)
        shown = [each for each in listed if each["kind"] != "Secret"]
        note = ""
        if made.secret is not None:
            names = ", ".join(sorted(made.config.secrets))
            note = f"# The pods take {names} from the Secret {made.secret}, which is not shown.\n"
        return note + yaml.safe_dump_all(shown, sort_keys=False, explicit_start=True)

    def do_info(self, service: Service) -> Mapping[str, str]:
        rows = {"NAMESPACE": self._cluster.namespace, "DEPLOYMENT": main_name(service.id)}
        image = service.status.details.get("image_of", {}).get(service.source.digest)
        return rows if image is None else {**rows, "IMAGE": image}

    @cached_property
    def _cluster(self) -> Cluster:
        return Cluster.connect(self.config)

    @cached_property
    def _images(self) -> Images:
        return Images(self.config, self.database)

    @cached_property
    def _reach(self) -> Reach:
        config = self.config
        return Reach(config.kubernetes_namespace, self._cluster.host, config.base_url, config.incluster)

    def _revision(self, service: Service, config: KubernetesServiceConfig) -> Revision:
        image = self._images.name(service, config)
        return objects.revision_of(service, config, image=image, pull_secret=self.config.image_pull_secret)

    def _serve_alone(self, operation: Operation) -> None:
        """Have the service's revision, and it alone, be what the cluster runs or is going over to."""
        service, config = operation.service, _kubernetes(operation.config)
        live = self._cluster.get(DEPLOYMENTS, "Deployment", main_name(service.id))
        replicas = objects.replicas_of(config, 0 if live is None else observing.wanted(live))
        made = self._all(self._revision(service, config), replicas=replicas)
        for each in made:
            self._apply(operation, each)
        self._remove_others(operation, {each["kind"] for each in made})
        self._end(operation, "canary")
        self._remove_old_secrets(operation)

    def _all(self, revision: Revision, *, replicas: int) -> list[KubernetesObject]:
        """The objects of a revision that serves alone, in the order in which they are applied.

        Raises NotSupportedError for what the cluster does not serve, and InvalidConfigError for a patch.
        """
        config = revision.config
        made = [
            objects.make_secret(revision),
            objects.make_service(revision),
            objects.make_deployment(revision, "stable", replicas=replicas),
        ]
        if config.max_replicas is not None:
            version = self._version("HorizontalPodAutoscaler", "max_replicas", *objects.AUTOSCALERS)
            made.append(objects.make_autoscaler(revision, version))
        if config.disruption_budget is not None:
            version = self._version("PodDisruptionBudget", "disruption_budget", *objects.DISRUPTION_BUDGETS)
            made.append(objects.make_disruption_budget(revision, version))
        if config.ingress is not None:
            self._version("Ingress", "ingress", INGRESSES)
            made.append(objects.make_ingress(revision))
        return [patched(each, config) for each in made if each is not None]

    def _version(self, kind: str, field: str, *versions: str) -> str:
        found = self._cluster.newest(kind, *versions)
        if found is None:
            raise NotSupportedError(f"The cluster serves no {kind} of {' or '.join(versions)}.", f"Leave out {field}.")
        return found

    def _apply(self, operation: Operation, made: KubernetesObject) -> None:
        operation.checkpoint()  # whoever has lost the lease writes nothing more
        if "spec" not in made:
            self._cluster.apply(made, epoch=operation.epoch)
            return
        applied = self._cluster.apply(with_copy(made), epoch=operation.epoch)
        if changed(applied) is not None:  # by the cluster itself, whose admission webhooks have the last word
            self._cluster.apply(with_copy(made, applied["spec"]), epoch=operation.epoch)

    def _remove_others(self, operation: Operation, kept: Collection[str]) -> None:
        """Remove what only some configurations have, but for the kinds that this one has."""
        for kind, (_, versions) in objects.OPTIONAL.items():
            version = None if kind in kept else self._cluster.newest(kind, *versions)
            if version is not None:
                self._drop(operation, version, kind, main_name(operation.service.id))

    def _remove_old_secrets(self, operation: Operation) -> None:
        """Remove the Secrets of revisions that no pod is of any more."""
        service = operation.service
        labels = service_labels(service.id)
        secrets = self._cluster.find(CORE, "Secret", labels, patient=True)
        if all(observing.revision_of(each) == service.revision for each in secrets):
            return
        needed = {service.revision, *map(observing.revision_of, self._cluster.find(CORE, "Pod", labels, patient=True))}
        for each in secrets:
            if observing.revision_of(each) not in needed:
                self._drop(operation, CORE, "Secret", each["metadata"]["name"])

    def _end(self, operation: Operation, track: Track) -> None:
        """Have a Deployment removed, which is there until its pods are gone."""
        name = deployment_name(operation.service.id, track)
        self._cluster.delete(DEPLOYMENTS, "Deployment", name, epoch=operation.epoch)

    def _drop(self, operation: Operation, api_version: str, kind: str, name: str) -> None:
        """Remove an object that owns no other: it is gone at once, and not when the garbage collector comes by."""
        self._cluster.delete(api_version, kind, name, epoch=operation.epoch, foreground=False)

    def _find(self, services: Sequence[Service]) -> dict[str, Found]:
        """What the cluster has of these services, by one call for each kind however many they are."""
        labels = {SERVICE: services[0].id} if len(services) == 1 else {}
        kinds = {kind for service in services for kind in objects.optional_kinds(service.config)}
        versions = {kind: self._cluster.newest(kind, *objects.OPTIONAL[kind][1]) for kind in sorted(kinds)}
        return observing.sort(
            self._cluster.find(DEPLOYMENTS, "Deployment", labels),
            self._cluster.find(CORE, "Pod", labels),
            self._cluster.find(CORE, "Service", labels),
            [
                each
                for kind, version in versions.items()
                if version
                for each in self._cluster.find(version, kind, labels)
            ],
        )

    def _events_of(self, services: Sequence[Service]) -> Events:
        """Gives what was told of an object: asked for only where something is wrong, and for many services at once."""
        if len(services) == 1:
            return self._cluster.events

        @cache
        def by_name() -> dict[str, list[KubernetesObject]]:
            grouped: dict[str, list[KubernetesObject]] = {}
            for event in self._cluster.events():
                grouped.setdefault(event["involvedObject"].get("name", ""), []).append(event)
            return grouped

        return lambda name: by_name().get(name, [])

    def _observe(self, service: Service, found: Found, events: Events) -> Observation:
        url = None if found.service is None else self._reach.url(found.service, found.ingress, found.pods)
        seen = observing.observe(service, found, partial(self._explain, service, events), url)
        is_new = seen.state is ServiceState.ACTIVE and service.status.state is ServiceState.PENDING_STARTUP
        if url is not None and is_new and self._reach.is_here and is_node_port(url, found.service):
            # kube-proxy opens a node's port a moment after the pods are ready
            said = answers(url)
            if not said.ready:
                told = f"{url}/ping: {said.message}. {_NODES_ELSEWHERE}"
                return Observation(ServiceState.PENDING_STARTUP, told, revision=seen.revision)
        return seen

    def _proxied(self, service: Service) -> Send:
        def send(body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
            name = main_name(service.id)
            return self._cluster.post_to_service(
                name, objects.HTTP_PORT, "/invocations", body, headers, timeout=_PREDICT_SECONDS
            )

        return send

    def _explain(
        self, service: Service, events: Events, deployment: KubernetesObject, pods: Sequence[KubernetesObject]
    ) -> Trouble | None:
        names = [deployment["metadata"]["name"], *(pod["metadata"]["name"] for pod in pods)]
        told = [event for name in names for event in events(name)]
        trouble = why(deployment, pods, told, log_tail=self._cluster.log_tail)
        if trouble is not None and self._images.has_local(service) and "cannot be pulled" in trouble.message:
            return replace(trouble, message=f"{trouble.message} {_NOT_PUSHED}")
        return trouble


def _canary_replicas(stable: int, percent: int) -> int:
    """How many pods answer about that part of the requests beside ``stable`` others. Raises NotSupportedError."""
    replicas = max(1, round(stable * percent / (100 - percent)))
    got = round(100 * replicas / (stable + replicas))
    if abs(got - percent) <= _FARTHEST_PERCENT:
        return replicas
    needed = round((100 - percent) / percent)
    raise NotSupportedError(
        f"Requests are split by pods: beside {stable} of them, the part nearest to {percent} % is {got} %.",
        f"Ask for {got} %, or have {needed} replicas first.",
    )


def _kubernetes(config: ServiceConfig) -> KubernetesServiceConfig:
    if not isinstance(config, KubernetesServiceConfig):
        raise DeploymentError(f"A {type(config).__name__} cannot be served by the Kubernetes model deployer.")
    return config
