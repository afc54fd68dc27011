"""Where a server is reached, as its objects in the cluster say."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from stackkit.local.probes import base_url as url_of

from .cluster import KubernetesObject

_IN_CLUSTER = ".svc"


@dataclass(frozen=True)
class Reach:
    """How this process reaches the cluster: its API server's address, and where its ingress is, if that was told."""

    namespace: str
    api_server: str
    base_url: str | None
    is_inside: bool

    def url(self, service: KubernetesObject, ingress: KubernetesObject | None, pods: Iterable[KubernetesObject]) -> str:
        """The base URL of a server: its ingress, load balancer or node port, the deployer's ``base_url``, else the
        Service's name in the cluster.
        """
        kind = service["spec"].get("type")
        if ingress is not None and (address := _of_ingress(ingress)) is not None:
            return address
        if kind == "LoadBalancer" and (found := _of_load_balancer(service)) is not None:
            return found
        if kind == "NodePort" and (port := service["spec"]["ports"][0].get("nodePort")):
            return url_of(self._node(pods), port)
        name = service["metadata"]["name"]
        if self.base_url is not None:
            return f"{self.base_url}/{self.namespace}/{name}"
        return f"http://{name}.{self.namespace}{_IN_CLUSTER}"

    def reaches(self, url: str) -> bool:
        """Whether this process can ask the server there itself, as far as can be told."""
        return self.is_inside or not (urlsplit(url).hostname or "").endswith(_IN_CLUSTER)

    @property
    def is_here(self) -> bool:
        """Whether the cluster is on this machine, so that what it opens is open at once from here too."""
        return _is_loopback(urlsplit(self.api_server).hostname or "")

    def _node(self, pods: Iterable[KubernetesObject]) -> str:
        """A node's address. Each opens the port, whether or not a pod runs there."""
        if self.base_url is not None:
            return urlsplit(self.base_url).hostname or ""
        if self.is_here:
            return "127.0.0.1"
        found = (pod.get("status", {}).get("hostIP") for pod in pods)
        return next((str(address) for address in found if address), urlsplit(self.api_server).hostname or "")


def is_node_port(url: str, service: KubernetesObject | None) -> bool:
    """Whether a server's base URL is its Service's port of a node, and not that of an ingress or gateway before it."""
    ports = [] if service is None or service["spec"].get("type") != "NodePort" else service["spec"]["ports"]
    return any(urlsplit(url).port == port.get("nodePort") is not None for port in ports)


def _of_ingress(ingress: KubernetesObject) -> str | None:
    """None where it names no one host: it has a wildcard, or was patched or changed to have none."""
    spec = ingress["spec"]
    host = next((rule["host"] for rule in spec.get("rules") or () if rule.get("host")), "*")
    return None if host.startswith("*") else f"{'https' if spec.get('tls') else 'http'}://{host}"


def _of_load_balancer(service: KubernetesObject) -> str | None:
    """None while the cloud has given it no address."""
    given: list[dict[str, Any]] = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    host = next((each.get("hostname") or each.get("ip") for each in given), None)
    port = service["spec"]["ports"][0]["port"]
    return None if host is None else url_of(host, port).removesuffix(":80")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
