"""A stand-in for Seldon Core's controller, for the tests alone.

Modelled on version 1.18 of Seldon Core's sources at https://github.com/SeldonIO/seldon-core, under
``operator/controllers`` and ``operator/apis/machinelearning.seldon.io/v1``; each part names its file. What it leaves
out: the service orchestrator that passes requests on within a pod, autoscaling, explainers, fetching models, and
graphs of more than one node. Seldon's own servers are images by implementation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import kube
from stackkit_kubernetes.cluster import KubernetesObject
from stand_in import StandIn, condition, is_available, of_deployment


class StandInSeldon(StandIn):
    """Has SeldonDeployments served."""

    API, KIND = "machinelearning.seldon.io/v1", "SeldonDeployment"

    def __init__(self, place: kube.Namespace, servers: Mapping[str, str]) -> None:
        super().__init__(place)
        self.servers = servers

    def reconcile(self, resource: KubernetesObject) -> None:
        if resource["metadata"].get("deletionTimestamp"):
            self.gateway.routes.pop(self._path(resource), None)
            return
        refused = self._refusal(resource)
        if refused is not None:
            # updateStatusForError in seldondeployment_controller.go
            self.tell(resource, {**(resource.get("status") or {}), "state": "Failed", "description": refused})
            return
        predictors = resource["spec"]["predictors"]
        names = {each["name"]: self._deployment_name(resource, each) for each in predictors}
        deployments = {each["name"]: self._deploy(resource, each, names[each["name"]]) for each in predictors}
        is_ready = all(is_available(each) for each in deployments.values())
        if is_ready:
            # completeServiceCreation: routes first, then what the spec no longer has
            self._route(resource, names)
            for name in set(self.find("apps/v1", "Deployment", resource)) - set(names.values()):
                self.remove("apps/v1", "Deployment", name)
                self.remove("v1", "Service", name)
        self._tell(resource, deployments, is_ready=is_ready)

    # seldondeployment_webhook.go: ValidateSeldonDeployment

    def _refusal(self, resource: KubernetesObject) -> str | None:
        predictors = resource["spec"]["predictors"]
        if resource["spec"].get("protocol") not in ("v2", "kfserving"):
            return "the stand-in speaks v2 alone"
        if len({each["name"] for each in predictors}) != len(predictors):
            return "Duplicate predictor name"
        answering = [each for each in predictors if not each.get("shadow")]
        if len(predictors) - len(answering) > 1:
            return "Multiple shadows are not allowed"
        if len(answering) > 1 and sum(each.get("traffic", 0) for each in answering) != 100:
            return "Traffic must sum to 100 for multiple predictors"
        for each in predictors:
            implementation = each["graph"].get("implementation")
            if implementation is not None and implementation not in self.servers:
                return f"No entry in predictors map for {implementation}"
            if implementation is not None and not each["graph"].get("modelUri"):
                return "Predictive unit modelUri required when using standalone servers"
        return None

    # seldondeployment_controller.go: createComponents, createDeploymentWithoutEngine; model_initializer.go

    def _deploy(self, resource: KubernetesObject, predictor: Mapping[str, Any], name: str) -> KubernetesObject:
        graph = predictor["graph"]
        spec = dict(predictor["componentSpecs"][0]["spec"])
        container = dict(next(each for each in spec["containers"] if each["name"] == graph["name"]))
        if "implementation" in graph:
            container |= {"image": self.servers[graph["implementation"]], "imagePullPolicy": "IfNotPresent"}
        container.setdefault("ports", [{"name": "http", "containerPort": 8080, "protocol": "TCP"}])
        container.setdefault("readinessProbe", {"tcpSocket": {"port": 8080}})
        container["readinessProbe"] = {**container["readinessProbe"], "periodSeconds": 1}
        variables = {
            "PREDICTIVE_UNIT_HTTP_SERVICE_PORT": str(container["ports"][0]["containerPort"]),
            "PREDICTIVE_UNIT_ID": graph["name"],
            "PREDICTOR_ID": predictor["name"],
            "SELDON_DEPLOYMENT_ID": resource["metadata"]["name"],
        }
        container["env"] = [
            *container.get("env", ()),
            *({"name": key, "value": value} for key, value in variables.items()),
        ]
        # as in createDeploymentWithoutEngine, where each label of the predictor's becomes the pods'
        labels = {
            "seldon-deployment-id": resource["metadata"]["name"],
            "app": name,
            "fluentd": "true",
            "version": predictor["name"],
            **predictor.get("labels", {}),
        }
        template = {
            "metadata": {"labels": labels},
            "spec": {**spec, "containers": [container], "terminationGracePeriodSeconds": self.grace_seconds},
        }
        return self.deploy(
            resource,
            name,
            template,
            replicas=predictor.get("replicas", 1),
            strategy={"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
        )

    def _deployment_name(self, resource: KubernetesObject, predictor: Mapping[str, Any]) -> str:
        """GetDeploymentName in seldondeployment_types.go."""
        name = f"{resource['metadata']['name']}-{predictor['name']}-0-{predictor['graph']['name']}"
        return name if len(name) <= 63 else f"seldon-{hashlib.md5(name.encode()).hexdigest()}"

    # seldon_deployment_status.go

    def _tell(self, resource: KubernetesObject, deployments: Mapping[str, KubernetesObject], *, is_ready: bool) -> None:
        told = {}
        for each in deployments.values():
            status = each.get("status") or {}
            counts = {key: status[key] for key in ("replicas", "availableReplicas") if key in status}
            told[each["metadata"]["name"]] = counts
        stuck = [each for each in deployments.values() if of_deployment(each, "Progressing").get("status") == "False"]
        first = resource["spec"]["predictors"][0]
        # createAddressableResource: the first predictor's Service, in the cluster
        host = f"{resource['metadata']['name']}-{first['name']}.{self.place.name}.svc.cluster.local:8000"
        status = {
            "state": "Available" if is_ready else "Failed" if stuck else "Creating",
            "address": {"url": f"http://{host}/v2/models/{first['graph']['name']}/infer"},
            "conditions": [condition("DeploymentsReady", is_ready), condition("ServicesReady", is_ready)],
            "deploymentStatus": told,
            "replicas": sum(each["spec"]["replicas"] for each in deployments.values()),
        }
        if stuck and not is_ready:
            status["description"] = "Deployment is no longer progressing and not available."
        self.tell(resource, status)

    # createIstioResources

    def _path(self, resource: KubernetesObject) -> str:
        return f"/seldon/{self.place.name}/{resource['metadata']['name']}"

    def _route(self, resource: KubernetesObject, names: Mapping[str, str]) -> None:
        predictors = resource["spec"]["predictors"]
        is_alone = len([each for each in predictors if not each.get("shadow")]) == 1
        self.gateway.routes[self._path(resource)] = [
            found
            for each in predictors
            for found in self.backend(
                names[each["name"]], 100 if is_alone else each.get("traffic", 0), shadow=bool(each.get("shadow"))
            )
        ]
