"""What the deployers share whose servers are custom resources that another project's controller sees to."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import urlsplit

import yaml

from stackkit.environments import sweeping
from stackkit.errors import DeploymentError
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
    ShowsManifest,
    SplitsTraffic,
)
from stackkit.model_deployers.open_inference import Protocol, Route, request_inference
from stackkit.model_deployers.predictions import not_serving

from .cluster import REVISION, SERVICE, Cluster, KubernetesObject, Trouble, epoch_of, service_labels, why
from .cluster.cluster import is_ready
from .config import PodServiceConfig
from .custom_resources import secret
from .images import Images
from .objects import KEPT, kept, main_name, secret_name
from .pods import PORT

_CLUSTER_DOMAIN = ".svc.cluster.local"
"""How addresses end that are known within a cluster alone, unless it has another domain."""


class CustomResourceDeployer(BaseModelDeployer, SplitsTraffic, FindsServers, ShowsManifest, ForwardsPorts):
    """A deployer whose services are custom resources called ``stackkit-<uuid>``, and a Secret for each revision.

    A flavor says how a revision is written (``_manifest``), what a resource's status means (``_observe``), and does
    the updates.
    """

    API: ClassVar[str]
    KIND: ClassVar[str]
    PROJECT: ClassVar[str]
    """The project whose controller has to run in the cluster, by its name for people."""

    CONTAINER: ClassVar[str]
    """The container of a pod that has the model."""

    @abstractmethod
    def _manifest(self, service: Service, config: PodServiceConfig) -> KubernetesObject:
        """The custom resource of the service's revision, serving alone."""

    @abstractmethod
    def _observe(
        self,
        service: Service,
        resource: KubernetesObject | None,
        pods: Sequence[KubernetesObject],
        beside: Sequence[KubernetesObject],
    ) -> Observation:
        """How the service is, by its custom resource, the pods that bear its label, and what ``_beside`` found."""

    @abstractmethod
    def _asks_for(self, resource: KubernetesObject) -> tuple[Mapping[str, str], str | None]:
        """The labels of the pods that a custom resource asks for, and the image; None where it names none."""

    @abstractmethod
    def _asked(self, service: Service) -> Mapping[str, str]:
        """The labels by which those of the service's pods are told that its requests are sent to."""

    def _beside(self, chosen: Mapping[str, str]) -> Sequence[KubernetesObject]:
        """What else of the services with these labels has to be looked at, by one call. By default nothing."""
        return ()

    def do_identify(self) -> PlatformIdentity:
        return self._cluster.identity()

    def do_resolve(self, config: ServiceConfig, progress: Progress) -> ModelSource:
        self._require_controller()
        pods = _pods(config)
        if not pods.builds_image:
            return ModelSource(pods.model_uri or pods.image or "")
        return self._images.resolve(pods, progress)

    def do_hold(self) -> AbstractContextManager[None]:
        return sweeping.holding(self.database.settings.models_folder)

    def do_sweep(self, named: Callable[[Collection[str]], Collection[str]]) -> Sequence[str]:
        return sweeping.sweep(self.database.settings.models_folder, self.database.url, named)

    def do_prepare(self, operation: Operation) -> None:
        config = _pods(operation.config)
        if config.builds_image:
            self._images.provide(operation, config)

    def do_start(self, operation: Operation) -> None:
        service = operation.service
        operation.checkpoint()  # what others may just have made is not ours to remove once the lease is lost
        self._remove_secrets(operation, but=secret_name(service.id, service.revision))
        self._apply(operation, self._manifest(service, _pods(operation.config)))

    def do_delete(self, operation: Operation) -> None:
        self._remove(operation)
        self._remove_secrets(operation)
        self._images.discard(operation.service.status.details.get("images", ()))

    def do_check(self, services: Sequence[Service]) -> Mapping[str, Observation]:
        if not services:
            return {}
        chosen = {SERVICE: services[0].id} if len(services) == 1 else {}
        resources = {
            each["metadata"]["labels"].get(SERVICE): each
            for each in (self._cluster.find(self.API, self.KIND, chosen) if self._has_controller else ())
        }
        pods: dict[str, list[KubernetesObject]] = {service.id: [] for service in services}
        for pod in self._cluster.find("v1", "Pod", chosen):
            pods.get(pod["metadata"]["labels"].get(SERVICE, ""), []).append(pod)
        beside = self._beside(chosen)
        return {each.id: self._observe(each, resources.get(each.id), pods[each.id], beside) for each in services}

    def do_logs(self, service: Service, *, follow: bool, tail: int | None) -> Iterator[str]:
        return self._cluster.logs({SERVICE: service.id}, container=self.CONTAINER, follow=follow, tail=tail)

    def do_forward(self, service: Service, port: int | None) -> AbstractContextManager[str]:
        asked = {SERVICE: service.id, **self._asked(service)}
        pods = self._cluster.find("v1", "Pod", asked)
        return self._cluster.forward(asked, _port(pods, self.CONTAINER), port)

    def do_predict(self, service: Service, data: Any, params: Mapping[str, Any] | None) -> Any:
        """Ask over the protocol that the service speaks; by a forwarded port where its address is the cluster's own."""
        url = service.prediction_url
        if url is None:
            raise not_serving(service)
        parts = urlsplit(url)
        if self.config.incluster or not str(parts.hostname).endswith(_CLUSTER_DOMAIN):
            return request_inference(service, self._route(url), self._protocol(service), data, params)
        with self.do_forward(service, None) as base:
            return request_inference(service, Route(f"{base}{parts.path}"), self._protocol(service), data, params)

    @abstractmethod
    def _protocol(self, service: Service) -> Protocol:
        """What the service speaks."""

    def _route(self, url: str) -> Route:
        """Where a prediction URL is reached from here. By default at that URL."""
        return Route(url)

    def do_manifest(self, service: Service, config: ServiceConfig) -> str:
        """The custom resource. Its Secret is named in a comment alone: what is in it is shown nowhere."""
        pods = _pods(config)
        resource = self._manifest(service, pods)
        resource["metadata"]["annotations"][KEPT] = kept(service)
        manifest: str = yaml.safe_dump(resource, sort_keys=False)
        if not pods.secrets:
            return manifest
        names = ", ".join(pods.secrets)
        return f"# needs the Secret {secret_name(service.id, service.revision)}, which holds {names}\n{manifest}"

    def do_find(self) -> Sequence[FoundServer]:
        found = self._cluster.find(self.API, self.KIND, {}) if self._has_controller else []
        return [server for each in found if (server := _found(each, *self._asks_for(each))) is not None]

    def do_info(self, service: Service) -> Mapping[str, str]:
        return {self.KIND.upper(): self._name(service), "NAMESPACE": self._cluster.namespace}

    @cached_property
    def _cluster(self) -> Cluster:
        return Cluster.connect(self.config)

    @cached_property
    def _images(self) -> Images:
        return Images(self.config, self.database)

    @property
    def _has_controller(self) -> bool:
        return self._cluster.serves(self.API, self.KIND)

    def _require_controller(self) -> None:
        if not self._has_controller:
            raise DeploymentError(
                f"The cluster has no {self.KIND} ({self.API}).",
                f"Install {self.PROJECT} in it, or name another: --kubernetes_context=…",
            )

    def _name(self, service: Service) -> str:
        return main_name(service.id)

    def _image(self, service: Service, config: PodServiceConfig) -> str | None:
        """The image of the service's revision; None where the platform has a server for it."""
        if config.image is None and not config.builds_image:
            return None
        return self._images.name(service, config)

    def _live(self, service: Service) -> KubernetesObject | None:
        return self._cluster.get(self.API, self.KIND, self._name(service)) if self._has_controller else None

    def _remove(self, operation: Operation) -> None:
        """Have the custom resource removed; a no-op when it is gone, or its definition with all of its kind."""
        if self._has_controller:
            self._cluster.delete(self.API, self.KIND, self._name(operation.service), epoch=operation.epoch)

    def _remove_secrets(self, operation: Operation, but: str | None = None) -> None:
        """Remove the Secrets of the service's revisions: at once, and not when the garbage collector comes by."""
        for found in self._cluster.find("v1", "Secret", {SERVICE: operation.service.id}, patient=True):
            name = found["metadata"]["name"]
            if name != but:
                self._cluster.delete("v1", "Secret", name, epoch=operation.epoch, foreground=False)

    def _apply(self, operation: Operation, manifest: KubernetesObject) -> KubernetesObject:
        """Have the custom resource be so, and before it the Secret that its pods take their variables from."""
        service = operation.service
        manifest["metadata"]["annotations"].setdefault(KEPT, kept(service))
        labels = {**service_labels(service.id), REVISION: str(service.revision)}
        variables = secret(service.id, service.revision, _pods(operation.config), labels)
        if variables is not None:
            self._cluster.apply(variables, epoch=operation.epoch)
        return self._cluster.apply(manifest, epoch=operation.epoch)

    def _explain(self, pods: Sequence[KubernetesObject]) -> Trouble | None:
        """What keeps these pods from being ready; None when nothing is known to."""
        events = [event for pod in pods for event in self._cluster.events(pod["metadata"]["name"])]
        return why(None, pods, events, log_tail=self._cluster.log_tail)


def _pods(config: ServiceConfig) -> PodServiceConfig:
    if not isinstance(config, PodServiceConfig):
        raise DeploymentError(f"A {type(config).__name__} cannot be served by custom resources.")
    return config


def _port(pods: Sequence[KubernetesObject], container: str) -> int:
    """The port that the container of some ready pod listens on, by what its specification says."""
    for pod in filter(is_ready, pods):
        for each in pod["spec"]["containers"]:
            if each["name"] == container and each.get("ports"):
                named = [port for port in each["ports"] if port.get("name") == "http"]
                return int((named or each["ports"])[0]["containerPort"])
    return PORT


def _found(resource: KubernetesObject, labels: Mapping[str, str], image: str | None) -> FoundServer | None:
    """The server that a custom resource is, with what is kept beside it; None where that was taken away."""
    metadata = resource["metadata"]
    try:
        stored = json.loads(metadata["annotations"][KEPT])
        revision, service_id = int(labels[REVISION]), metadata["labels"][SERVICE]
    except (KeyError, ValueError):
        return None
    source = ModelSource(**stored["source"])
    details: dict[str, Any] = {}
    if image is not None and stored["config"].get("image") is None:
        details = {"images": [image], "image_of": {source.digest: image}}
    return FoundServer(service_id, stored["config"], source, revision, details, epoch=max(1, epoch_of(resource)))
