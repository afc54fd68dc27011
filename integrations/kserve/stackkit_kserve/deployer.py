"""The KServe model deployer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from stackkit_kubernetes.cluster import KubernetesObject
from stackkit_kubernetes.config import PodServiceConfig
from stackkit_kubernetes.custom_resource_deployer import CustomResourceDeployer
from stackkit_kubernetes.custom_resources import CONTENT_LABEL

from stackkit.errors import DeploymentError, NotSupportedError
from stackkit.model_deployers import Observation, Operation, Service, ServiceConfig, Target
from stackkit.model_deployers.open_inference import Protocol, Route

from . import inference_service
from .config import KServeServiceConfig
from .inference_service import API, COMPONENT, CONTAINER, KIND, STOP, labels_of_spec
from .observations import Found, has_stop_condition, is_serverless, observe

_KNATIVE = ("serving.knative.dev/v1", "Revision")


class KServeModelDeployer(CustomResourceDeployer):
    """Serves each model by an InferenceService, whose requests, pods and routes KServe sees to."""

    API, KIND, PROJECT, CONTAINER = API, KIND, "KServe", CONTAINER

    def can_update(self, before: ServiceConfig, after: ServiceConfig) -> bool:
        """Not from Knative to a plain Deployment or back: those are other objects under the same name."""
        return bool(before["deployment_mode"] == after["deployment_mode"])

    def do_update(self, operation: Operation) -> None:
        """Have the revision serve alone: what served goes when it is ready, and what was beside it goes at once.

        While requests are split, the revision that is asked for is either the canary, which then gets all, or the
        stable one. KServe knows that as its last revision with all requests and goes on sending them there, as long
        as the newest has none: without that, they would go to the canary until the stable one has started anew.
        """
        service = operation.service
        manifest = self._manifest(service, _kserve(operation.config))
        live = self._live(service)
        if live is not None and is_serverless(live.get("status") or {}):
            percent = live["spec"]["predictor"].get("canaryTrafficPercent")
            is_same = _content(live) == _content(manifest)
            is_aborted = percent == 0 and is_same
            if is_aborted or (percent and not is_same):
                manifest["spec"]["predictor"]["canaryTrafficPercent"] = 0
        self._apply(operation, manifest)

    def check_split(self, service: Service, config: ServiceConfig, percent: int) -> None:
        live = self._live(service)
        if live is not None and not is_serverless(live.get("status") or {}):
            raise NotSupportedError(
                f"{service.name!r} is a plain Deployment, and KServe splits the requests of serverless services alone.",
                "Update it without --canary, or deploy it with deployment_mode=serverless.",
            )
        if _kserve(service.config).transformer != _kserve(config).transformer:
            raise NotSupportedError(
                "KServe splits what comes to the predictors: all requests would pass the canary's transformer.",
                "Update it without --canary, or leave the transformer as it is.",
            )

    def do_split(self, operation: Operation, percent: int) -> None:
        service = operation.service
        if self._live(service) is None:
            raise DeploymentError(f"The InferenceService of {service.name!r} is gone.", "Start it again.")
        manifest = self._manifest(service, _kserve(operation.config))
        manifest["spec"]["predictor"]["canaryTrafficPercent"] = percent
        self._apply(operation, manifest)

    def do_stop(self, operation: Operation) -> None:
        """Stop it by KServe's annotation, which keeps the InferenceService; delete that where KServe is too old for it.

        Nothing else stops a serverless service for sure: with no replicas asked for, the next request has it run.
        """
        service = operation.service
        live = self._live(service)
        if live is None:
            return
        if service.status.target is Target.DELETED or not has_stop_condition(live):
            self._remove(operation)
            return
        stopped = {"metadata": {"annotations": {STOP: "true"}}}
        self._cluster.merge(API, KIND, live["metadata"]["name"], stopped, epoch=operation.epoch)

    def _protocol(self, service: Service) -> Protocol:
        return _kserve(service.config).protocol

    def _manifest(self, service: Service, config: PodServiceConfig) -> KubernetesObject:
        return inference_service.build(
            service.id,
            service.revision,
            _kserve(config),
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
        return observe(service, Found(resource, pods, beside), self._explain)

    def _asked(self, service: Service) -> Mapping[str, str]:
        """A transformer's pods, which the others do not go before; without one there are only the predictor's."""
        return {} if _kserve(service.config).transformer is None else {COMPONENT: "transformer"}

    def _beside(self, chosen: Mapping[str, str]) -> Sequence[KubernetesObject]:
        """Knative's revisions: its routes name these, and they bear our labels."""
        return self._cluster.find(*_KNATIVE, chosen) if self._cluster.serves(*_KNATIVE) else ()

    def _asks_for(self, resource: KubernetesObject) -> tuple[Mapping[str, str], str | None]:
        containers = resource["spec"]["predictor"].get("containers") or [{}]
        return labels_of_spec(resource), containers[0].get("image")

    def _route(self, url: str) -> Route:
        """Where a prediction URL is reached: at the gateway, which tells services apart by the header ``Host``."""
        if self.config.base_url is None:
            return Route(url)
        parts = urlsplit(url)
        return Route(f"{self.config.base_url}{parts.path}", parts.netloc)


def _kserve(config: ServiceConfig) -> KServeServiceConfig:
    if not isinstance(config, KServeServiceConfig):
        raise DeploymentError(f"A {type(config).__name__} cannot be served by the KServe model deployer.")
    return config


def _content(found: KubernetesObject) -> str | None:
    return labels_of_spec(found).get(CONTENT_LABEL)
