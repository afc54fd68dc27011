"""A stand-in for KServe's controller, for the tests alone.

Modelled on KServe's sources at https://github.com/kserve/kserve (release 0.16 and after), under
``pkg/controller/v1beta1/inferenceservice`` and ``pkg/apis/serving/v1beta1``; each part names its file. What it leaves
out: autoscaling, fetching models, and who else may send requests. A ``ServingRuntime`` is an image by model format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import kube
from stackkit_kubernetes.cluster import KubernetesObject
from stand_in import Backend, StandIn, condition, is_available, of_deployment

KNATIVE = ("serving.knative.dev/v1", "Revision")

KNATIVE_CRD: KubernetesObject = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "revisions.serving.knative.dev"},
    "spec": {
        "group": "serving.knative.dev",
        "names": {"kind": "Revision", "listKind": "RevisionList", "plural": "revisions", "singular": "revision"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        ],
    },
}
"""Knative's revisions with no schema: stackkit reads their names and labels, and writes none."""

_FINALIZER = "inferenceservice.finalizers"
_STOP = "serving.kserve.io/stop"


class StandInKServe(StandIn):
    """Has InferenceServices served. ``runtimes`` are images by model format; ``knows_stop`` is False for an
    older KServe, which has no annotation that stops one; ``default_mode`` is the cluster's.
    """

    API, KIND = "serving.kserve.io/v1beta1", "InferenceService"

    def __init__(self, place: kube.Namespace, runtimes: Mapping[str, str]) -> None:
        super().__init__(place)
        self.runtimes = runtimes
        self.knows_stop = True
        self.default_mode = "Standard"

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        for left in self.place.admin.find(self.API, self.KIND, {}, managed=False):
            self._set_finalizers(left, [])  # nobody would take them away any more, and the namespace could not go

    def reconcile(self, resource: KubernetesObject) -> None:
        metadata = resource["metadata"]
        finalizers = metadata.get("finalizers") or []
        if metadata.get("deletionTimestamp"):
            if _FINALIZER in finalizers:  # controller.go: what is outside of the cluster's own garbage collection
                rest = [each for each in finalizers if each != _FINALIZER]
                self._set_finalizers(resource, rest)
            return
        if _FINALIZER not in finalizers:
            self._set_finalizers(resource, [*finalizers, _FINALIZER])
            return
        annotations = metadata.get("annotations") or {}
        # constants.go ParseDeploymentMode: the names before 0.16 mean those of today
        named = annotations.get("serving.kserve.io/deploymentMode", self.default_mode)
        mode = {"RawDeployment": "Standard", "Serverless": "Knative"}.get(named, named)
        if self.knows_stop and annotations.get(_STOP) == "true":
            self._stop(resource, mode)
            return
        pods = self._pod_template(resource, "predictor")
        if pods is None:
            self._refuse(resource, mode)
        elif mode == "Standard":
            self._serve_standard(resource, pods)
        else:
            self._serve_knative(resource, pods)

    # Pods: components/predictor.go, components/transformer.go

    def _pod_template(self, resource: KubernetesObject, component: str) -> dict[str, Any] | None:
        """The pods of a component; None for a model that no runtime takes."""
        spec, name = dict(resource["spec"][component]), resource["metadata"]["name"]
        model = spec.pop("model", None)
        if model is not None:
            image = self.runtimes.get(model["modelFormat"]["name"])
            if image is None:
                return None
            kept = {key: model[key] for key in ("env", "envFrom", "resources") if key in model}
            spec["containers"] = [
                {"name": "kserve-container", "image": image, "imagePullPolicy": "IfNotPresent", **kept}
            ]
        first = dict(spec["containers"][0])
        first["env"] = [*first.get("env", ()), {"name": "INFERENCE_SERVICE_NAME", "value": name}]
        first.setdefault("ports", [{"containerPort": 8080, "protocol": "TCP"}])
        # a queue proxy, or a probe by default, sees to it that nobody is sent to a container that does not listen
        first.setdefault("readinessProbe", {"tcpSocket": {"port": 8080}})
        first["readinessProbe"] = {**first["readinessProbe"], "periodSeconds": 1}
        fields = (
            "serviceAccountName",
            "nodeSelector",
            "tolerations",
            "imagePullSecrets",
            "automountServiceAccountToken",
        )
        labels = {
            **resource["metadata"]["labels"],
            **spec.get("labels", {}),
            "serving.kserve.io/inferenceservice": name,
            "component": component,
        }
        pod = {key: spec[key] for key in fields if key in spec}
        pod |= {"containers": [first, *spec["containers"][1:]], "terminationGracePeriodSeconds": self.grace_seconds}
        return {"metadata": {"labels": labels}, "spec": pod}

    # reconcilers/raw: one Deployment, which rolls over

    def _serve_standard(self, resource: KubernetesObject, pods: Mapping[str, Any]) -> None:
        name, spec = resource["metadata"]["name"], resource["spec"]
        parts = {"predictor": pods}
        if "transformer" in spec:
            transformer = self._pod_template(resource, "transformer")
            assert transformer is not None
            parts["transformer"] = transformer
        deployments = {
            part: self.deploy(
                resource,
                f"{name}-{part}",
                template,
                replicas=spec[part].get("minReplicas", 1),
                strategy=spec[part].get("deploymentStrategy"),
            )
            for part, template in parts.items()
        }
        self._remove_all_but(resource, {f"{name}-{part}" for part in deployments})
        conditions = [_of_component(part, each) for part, each in deployments.items()]
        is_ready = all(each["status"] == "True" for each in conditions)
        self._route(resource, self.backend(f"{name}-{[*parts][-1]}"))
        self._tell(resource, "Standard", conditions, is_ready, {"predictor": {"url": self._url(resource)}})

    # reconcilers/knative/ksvc_reconciler.go, and the routes that Knative makes of what it asks for

    def _serve_knative(self, resource: KubernetesObject, pods: Mapping[str, Any]) -> None:
        name, percent = resource["metadata"]["name"], resource["spec"]["predictor"].get("canaryTrafficPercent")
        before = (resource.get("status") or {}).get("components", {}).get("predictor", {})
        revisions = sorted(self.find(*KNATIVE, resource))
        digest = hashlib.sha256(json.dumps(pods, sort_keys=True).encode()).hexdigest()
        latest = self.place.admin.get(*KNATIVE, revisions[-1]) if revisions else None
        if latest is None or latest["spec"]["digest"] != digest:
            created = f"{name}-predictor-{len(revisions) + 1:05d}"
            manifest = {"apiVersion": KNATIVE[0], "kind": KNATIVE[1], "metadata": {"name": created}}
            manifest["metadata"]["labels"] = dict(pods["metadata"]["labels"])
            latest = self.own(resource, {**manifest, "spec": {"digest": digest, "template": pods}})
        created = latest["metadata"]["name"]
        newest = self.deploy(resource, created, pods, replicas=1)
        ready = created if is_available(newest) else before.get("latestReadyRevision", "")
        rolled_out = before.get("latestRolledoutRevision", "")
        # createKnativeService: the newest revision that is ready has the canary's part, the one rolled out the rest
        targets = [{"latestRevision": True, "percent": 100 if percent is None or not rolled_out else percent}]
        if targets[0]["percent"] < 100:
            targets.append(
                {
                    "latestRevision": False,
                    "percent": 100 - targets[0]["percent"],
                    "revisionName": rolled_out,
                    "tag": "prev",
                }
            )
        targets[0]["revisionName"] = ready
        traffic = targets if ready else []
        # PropagateStatus in inference_service_status.go
        previous = before.get("previousRolledoutRevision", "")
        if ready and targets[0]["percent"] == 100 and ready != rolled_out:
            previous, rolled_out = rolled_out, ready
        used = {created, *(each["revisionName"] for each in traffic)}
        self._remove_all_but(resource, used)  # as Knative scales to nothing what no route names
        self._route(
            resource, [found for each in traffic for found in self.backend(each["revisionName"], each["percent"])]
        )
        predictor = {
            "latestCreatedRevision": created,
            "latestReadyRevision": ready,
            "latestRolledoutRevision": rolled_out,
            "previousRolledoutRevision": previous,
            "traffic": traffic,
            "url": self._url(resource),
        }
        conditions = [_of_component("predictor", newest)]
        told = {key: value for key, value in predictor.items() if value}
        self._tell(resource, "Knative", conditions, conditions[0]["status"] == "True", {"predictor": told})

    # Status: inference_service_status.go

    def _tell(
        self,
        resource: KubernetesObject,
        mode: str,
        conditions: list[dict[str, str]],
        is_ready: bool,
        components: Mapping[str, Any],
    ) -> None:
        told = [*conditions, condition("IngressReady", is_ready or None), condition("Ready", is_ready or None)]
        if self.knows_stop:
            told.append(condition("Stopped", False))
        status: dict[str, Any] = {"conditions": told, "components": dict(components), "deploymentMode": mode}
        known = resource.get("status") or {}
        if is_ready or known.get("url"):
            status["url"] = self._url(resource)
        status["modelStatus"] = {"transitionStatus": "UpToDate" if is_ready else "InProgress"}
        self.tell(resource, status)

    def _refuse(self, resource: KubernetesObject, mode: str) -> None:
        """components/predictor.go, reconcileModel: what was served before goes on."""
        known = resource.get("status") or {}
        failure = {
            "reason": "NoSupportingRuntime",
            "message": "No runtime found to support specified framework/version",
        }
        status = {
            **known,
            "conditions": known.get("conditions") or [condition("PredictorReady", None), condition("Ready", None)],
            "deploymentMode": mode,
            "modelStatus": {"transitionStatus": "InvalidSpec", "lastFailureInfo": failure},
        }
        self.tell(resource, status)

    def _stop(self, resource: KubernetesObject, mode: str) -> None:
        """components/predictor.go: all that was made is removed, and all status but these conditions."""
        self._route(resource, [])
        self._remove_all_but(resource, set())
        for name in self.find(*KNATIVE, resource):
            self.remove(*KNATIVE, name)
        told = [condition("PredictorReady", False, "Stopped"), condition("Ready", False, "Stopped")]
        self.tell(resource, {"conditions": [*told, condition("Stopped", True)], "deploymentMode": mode})

    # Routes: reconcilers/ingress, with a pathTemplate in the ConfigMap inferenceservice-config

    def host(self, resource: KubernetesObject) -> str:
        return f"{resource['metadata']['name']}-{self.place.name}.example.com"

    def _url(self, resource: KubernetesObject) -> str:
        return f"{self.gateway.url}/serving/{self.place.name}/{resource['metadata']['name']}"

    def _route(self, resource: KubernetesObject, backends: list[Backend]) -> None:
        self.gateway.routes[f"/serving/{self.place.name}/{resource['metadata']['name']}"] = backends
        self.gateway.routes[self.host(resource)] = backends

    def _remove_all_but(self, resource: KubernetesObject, kept: set[str]) -> None:
        for name in set(self.find("apps/v1", "Deployment", resource)) - kept:
            self.remove("apps/v1", "Deployment", name)
            self.remove("v1", "Service", name)

    def _set_finalizers(self, resource: KubernetesObject, finalizers: list[str]) -> None:
        changed = {**resource, "metadata": {**resource["metadata"], "finalizers": finalizers}}
        self.place.raw("PUT", self.place.admin._path(self.API, self.KIND, resource["metadata"]["name"]), changed)


def _of_component(component: str, deployment: KubernetesObject) -> dict[str, str]:
    """PropagateRawStatus: the component is ready when its Deployment is; else in the Deployment's own words."""
    name = f"{component.title()}Ready"
    if is_available(deployment):
        return condition(name, True)
    progress = of_deployment(deployment, "Progressing")
    if progress.get("status") == "False":
        return condition(name, False, progress.get("reason", ""), progress.get("message", ""))
    available = of_deployment(deployment, "Available")
    holds = False if available.get("status") == "False" else None
    return condition(name, holds, available.get("reason", ""), available.get("message", ""))
