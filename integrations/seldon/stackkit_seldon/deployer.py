"""The Seldon Core model deployer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from stackkit_kubernetes.cluster import KubernetesObject
from stackkit_kubernetes.config import PodServiceConfig
from stackkit_kubernetes.custom_resource_deployer import CustomResourceDeployer
from stackkit_kubernetes.objects import KEPT

from stackkit.errors import DeploymentError
from stackkit.model_deployers import Observation, Operation, Service, ServiceConfig
from stackkit.model_deployers.open_inference import Protocol

from . import seldon_deployment
from .config import SeldonServiceConfig
from .observations import observe, prediction_url
from .seldon_deployment import API, CANARY, GRAPH, KIND, PREDICTOR, STABLE, predictor_of


class SeldonModelDeployer(CustomResourceDeployer):
    """Serves each model by a SeldonDeployment, whose requests, pods and routes Seldon Core sees to."""

    API, KIND, PROJECT, CONTAINER = API, KIND, "Seldon Core 1", GRAPH

    def can_update(self, before: ServiceConfig, after: ServiceConfig) -> bool:
        """Always: Seldon rolls over from one revision to the next."""
        return True

    def do_update(self, operation: Operation) -> None:
        """Have the revision serve alone. Seldon removes a canary when the others are up, and not before."""
        self._apply(operation, self._manifest(operation.service, _seldon(operation.config)))

    def do_split(self, operation: Operation, percent: int) -> None:
        service, config = operation.service, _seldon(operation.config)
        live = self._live(service)
        if live is None or predictor_of(live, STABLE) is None:
            raise DeploymentError(f"The SeldonDeployment of {service.name!r} is gone.", "Start it again.")
        canary = seldon_deployment.predictor(
            service.id,
            service.revision,
            config,
            image=self._image(service, config),
            image_pull_secret=self.config.image_pull_secret,
            name=CANARY,
        )
        manifest = self._manifest(service, config)
        manifest["spec"]["predictors"] = seldon_deployment.split(live, canary, percent)
        if (kept := (live["metadata"].get("annotations") or {}).get(KEPT)) is not None:
            manifest["metadata"]["annotations"][KEPT] = kept  # the stable revision's, as long as that is it
        self._apply(operation, manifest)

    def do_stop(self, operation: Operation) -> None:
        """Delete the SeldonDeployment: without replicas it would go on being called available."""
        self._remove(operation)

    def _protocol(self, service: Service) -> Protocol:
        return "v2"

    def _manifest(self, service: Service, config: PodServiceConfig) -> KubernetesObject:
        return seldon_deployment.build(
            service.id,
            service.revision,
            _seldon(config),
            image=self._image(service, config),
            image_pull_secret=self.config.image_pull_secret,
        )

    def _observe(
        self,
        service: Service,
        resource: KubernetesObject | None,
        pods: Sequence[KubernetesObject],
        beside: Sequence[KubernetesObject],
    ) -> Observation:
        url = partial(prediction_url, self.config.base_url, self._cluster.namespace, self._name(service))
        return observe(service, resource, pods, self._explain, url)

    def _asked(self, service: Service) -> Mapping[str, str]:
        """The stable revision's pods: neither a canary's nor a shadow's."""
        return {PREDICTOR: STABLE}

    def _asks_for(self, resource: KubernetesObject) -> tuple[Mapping[str, str], str | None]:
        stable = predictor_of(resource, STABLE)
        if stable is None:
            return {}, None
        return stable.get("labels") or {}, stable["componentSpecs"][0]["spec"]["containers"][0].get("image")


def _seldon(config: ServiceConfig) -> SeldonServiceConfig:
    if not isinstance(config, SeldonServiceConfig):
        raise DeploymentError(f"A {type(config).__name__} cannot be served by the Seldon Core model deployer.")
    return config
