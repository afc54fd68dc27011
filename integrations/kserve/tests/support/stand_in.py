"""What the stand-ins for KServe's and Seldon Core's controllers share.

A stand-in is none of those controllers, which cannot run on the tests' cluster. It is a thread of the test that turns
custom resources into real Deployments and Services, and writes of their status what the real controller writes; each
module names the source for that. A gateway, also of the test, stands for the cluster's ingress.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import kube
from stackkit_kubernetes.cluster import KubernetesObject

from stackkit.errors import StackkitError

_LOOK_SECONDS = 0.25
_ANSWER_SECONDS = 5.0
_CONNECT_SECONDS = 30.0
_TEMPLATE = "stand-in/template"


@dataclass(frozen=True)
class Backend:
    """A Service's port on this machine, and the part of the requests that it answers; ``shadow`` gets copies alone."""

    node_port: int
    weight: int
    shadow: bool = False


class Gateway:
    """An HTTP server that sends each request on to one of a route's backends, as an ingress gateway does.

    A route is known by the beginning of the path, which is cut off, or by the name of the host.
    """

    def __init__(self) -> None:
        self.routes: dict[str, list[Backend]] = {}
        self.shadowed = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, answer = outer.pass_on(self.headers["Host"], self.path, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *words: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def pass_on(self, host: str, path: str, body: bytes) -> tuple[int, bytes]:
        prefix = next((each for each in self.routes if each.startswith("/") and path.startswith(each)), None)
        backends = self.routes.get(prefix or host) or []
        answering = [each for each in backends if not each.shadow and each.weight]
        if not answering:
            return 503, b"no healthy upstream"
        for shadow in (each for each in backends if each.shadow):
            self.shadowed += 1
            _post(shadow.node_port, path.removeprefix(prefix or ""), body)
        (chosen,) = random.choices(answering, [each.weight for each in answering])
        return _post(chosen.node_port, path.removeprefix(prefix or ""), body)


class StandIn:
    """Looks at all custom resources of a kind in a namespace again and again, and has the cluster be as they say."""

    API: str
    KIND: str

    def __init__(self, place: kube.Namespace) -> None:
        self.place = place
        self.grace_seconds = 0
        """How long pods may take to leave; with 0 the cluster forgets them when they are deleted."""
        self.gateway = Gateway()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"stand-in for {self.KIND}", daemon=True)

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._ending.set()
        self._thread.join()
        self.gateway.close()

    def reconcile(self, resource: KubernetesObject) -> None:
        """Have the cluster be as a custom resource says, and tell how that is in its status."""
        raise NotImplementedError

    def _run(self) -> None:
        while not self._ending.wait(_LOOK_SECONDS):
            try:
                for resource in self.place.admin.find(self.API, self.KIND, {}, managed=False):
                    self.reconcile(resource)
            except StackkitError:
                continue  # somebody was quicker, or the API server is away: look again

    # Objects

    def find(self, api: str, kind: str, owner: KubernetesObject) -> dict[str, KubernetesObject]:
        """The objects of a kind that belong to a custom resource, by name."""
        found = self.place.admin.find(api, kind, {"stand-in/owner": owner["metadata"]["name"]}, managed=False)
        return {each["metadata"]["name"]: each for each in found}

    def own(self, owner: KubernetesObject, manifest: KubernetesObject) -> KubernetesObject:
        """Make an object that goes with a custom resource, or return the one that is there."""
        metadata = manifest["metadata"]
        metadata.setdefault("labels", {})["stand-in/owner"] = owner["metadata"]["name"]
        reference = {"apiVersion": self.API, "kind": self.KIND, "blockOwnerDeletion": True, "controller": True}
        reference |= {"name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
        metadata["ownerReferences"] = [reference]
        there = self.place.admin.get(manifest["apiVersion"], manifest["kind"], metadata["name"])
        return there if there is not None else kube.create(self.place, manifest)

    def deploy(
        self,
        owner: KubernetesObject,
        name: str,
        template: Mapping[str, Any],
        *,
        replicas: int,
        strategy: Mapping[str, Any] | None = None,
    ) -> KubernetesObject:
        """A Deployment of these pods, and a Service on a port of this machine; both bear the Deployment's name."""
        digest = hashlib.sha256(json.dumps([template, replicas], sort_keys=True).encode()).hexdigest()
        selector = {"stand-in/app": name}
        pods = {**template, "metadata": {**template["metadata"]}}
        pods["metadata"]["labels"] = {**template["metadata"].get("labels", {}), **selector}
        spec = {
            "replicas": replicas,
            "selector": {"matchLabels": selector},
            "template": pods,
            **({"strategy": dict(strategy)} if strategy else {}),
        }
        metadata = {"name": name, "annotations": {_TEMPLATE: digest}, "labels": dict(pods["metadata"]["labels"])}
        wanted = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
        there = self.own(owner, wanted)
        if there["metadata"]["annotations"].get(_TEMPLATE) != digest:
            there["spec"], there["metadata"]["annotations"][_TEMPLATE] = spec, digest
            there = self.place.raw("PUT", self.place.admin._path("apps/v1", "Deployment", name), there)
        ports = [{"port": 80, "protocol": "TCP", "targetPort": 8080}]
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}}
        self.own(owner, {**service, "spec": {"type": "NodePort", "selector": selector, "ports": ports}})
        return there

    def backend(self, name: str, weight: int = 100, *, shadow: bool = False) -> list[Backend]:
        """What answers for a Deployment, by its Service; nothing where that is gone."""
        found = self.place.admin.get("v1", "Service", name)
        return [] if found is None else [Backend(found["spec"]["ports"][0]["nodePort"], weight, shadow)]

    def remove(self, api: str, kind: str, name: str) -> None:
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        try:
            self.place.raw("DELETE", self.place.admin._path(api, kind, name), body)
        except StackkitError as error:
            if getattr(error, "status", None) != 404:
                raise

    def tell(self, resource: KubernetesObject, status: Mapping[str, Any]) -> None:
        """Write the status where it is another than the one that is there."""
        if resource.get("status") == status:
            return
        path = self.place.admin._path(self.API, self.KIND, resource["metadata"]["name"], "status")
        self.place.raw("PUT", path, {**resource, "status": dict(status)})


def condition(name: str, holds: bool | None, reason: str = "", message: str = "") -> dict[str, str]:
    status = "Unknown" if holds is None else str(holds)
    return {"type": name, "status": status} | {
        key: value for key, value in (("reason", reason), ("message", message)) if value
    }


def of_deployment(deployment: KubernetesObject, name: str) -> dict[str, str]:
    """A condition of a Deployment; empty while it is not told for its present spec."""
    status = deployment.get("status") or {}
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return {}
    return next((each for each in status.get("conditions") or () if each["type"] == name), {})


def is_available(deployment: KubernetesObject) -> bool:
    """Whether all pods of its present spec take requests, and no others are left."""
    status = deployment.get("status") or {}
    wanted = deployment["spec"]["replicas"]
    return (
        of_deployment(deployment, "Available").get("status") == "True"
        and status.get("updatedReplicas", 0)
        == status.get("replicas", 0)
        == status.get("availableReplicas", 0)
        == wanted
    )


def _post(node_port: int, path: str, body: bytes) -> tuple[int, bytes]:
    """Ask a backend; again where it takes no connection, as gateways do: the routes to pods lag behind them."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{node_port}{path}", body, {"Content-Type": "application/json"}, method="POST"
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            with opener.open(request, timeout=_ANSWER_SECONDS) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError as error:
            if time.monotonic() > deadline:
                return 503, str(error).encode()
        time.sleep(_LOOK_SECONDS)
