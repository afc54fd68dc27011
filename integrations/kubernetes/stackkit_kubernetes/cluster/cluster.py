"""One namespace of one cluster: the front door of this room."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager

from stackkit.errors import DeploymentError, StackkitError
from stackkit.model_deployers import PlatformIdentity

from . import access, applying, forwarding, logs
from .config import ClusterConfig
from .connection import READ_SECONDS, Connection
from .discovery import Discovery
from .errors import RefusedError, refusal
from .objects import MANAGED_BY, SERVICE, KubernetesObject, labels_of, selector, title

_PAGE = 500
_POD = ("v1", "Pod")

_NOT_SENT = ("no endpoints available", "error trying to reach service: dial tcp")
"""How the API server says that there is nothing yet, or nothing any more, that a request could have been sent to."""

_ENDPOINTS_SECONDS = 5.0
"""For how long a Service's endpoints may lag behind its pods, which come and go a moment before."""
_LOOK_SECONDS = 0.2


class Cluster:
    """Reads and writes a namespace's objects. Safe to use from many threads.

    Every method but ``connect`` asks the API server, and raises PlatformUnavailableError when it does not answer or
    the credentials are not accepted, DeploymentError (RefusedError) in its own words for what it refuses, and
    NotSupportedError for a kind that the cluster does not have.
    """

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.namespace = namespace
        self._connection = connection
        self._discovery = Discovery(connection)

    @classmethod
    def connect(cls, config: ClusterConfig) -> Cluster:
        """The cluster and namespace that ``config`` names. Asks nobody, and reads nothing yet."""
        return cls(Connection(config), config.kubernetes_namespace)

    @property
    def host(self) -> str:
        """The API server's address. Reads the kubeconfig."""
        return self._connection.host

    def close(self) -> None:
        """Close the connections that are open; a later call opens them again."""
        self._connection.close()

    def identity(self) -> PlatformIdentity:
        """The cluster, by its certificate authority, or by its address where the system's authorities vouch for it.

        Reads the kubeconfig and asks nobody: the same cluster is the same by whatever name a kubeconfig calls it.
        """
        host = self._connection.host
        known_by = access.fingerprint(self._connection.configuration) or host
        return PlatformIdentity(f"kubernetes:{known_by}", f"the Kubernetes cluster at {host}")

    # Objects

    def apply(self, manifest: KubernetesObject, *, epoch: int) -> KubernetesObject:
        """Have an object be as ``manifest`` says, by server-side apply; what others have set beside that stays.

        The manifest bears ``service_labels``. ``epoch`` is kept in an annotation, and every write is conditional on
        what was read: a write under a lower epoch than the object's raises LeaseLostError, even when both come at
        once. Raises DeploymentError when an object of that name is not this service's or is being removed.
        """
        if not MANAGED_BY.items() <= labels_of(manifest).items() or SERVICE not in labels_of(manifest):
            raise ValueError(f"{manifest['kind']} {manifest['metadata']['name']} lacks the labels of its service")
        return applying.apply(self._connection, self._discovery, self.namespace, manifest, epoch=epoch)

    def get(self, api_version: str, kind: str, name: str) -> KubernetesObject | None:
        """An object by its name, whoever made it; None when there is none."""
        return applying.read(self._connection, self._path(api_version, kind, name))

    def find(
        self,
        api_version: str,
        kind: str,
        labels: Mapping[str, str],
        *,
        managed: bool = True,
        fields: Mapping[str, str] | None = None,
        patient: bool = False,
    ) -> list[KubernetesObject]:
        """The objects of a kind that bear these labels, by as few calls as pages, each with its apiVersion and kind.

        They are stackkit's own; with ``managed`` False anybody's (such as the pods of another controller).
        ``fields`` are what a field selector of that kind takes. With ``patient``, for those who act and not for those
        who look, an API server that is away for a moment is waited for, as the other methods do.
        """
        path = self._path(api_version, kind)
        chosen = {
            "labelSelector": selector({**(MANAGED_BY if managed else {}), **labels}),
            "fieldSelector": selector(fields or {}),
        }
        query = {"limit": str(_PAGE), **{name: value for name, value in chosen.items() if value}}
        found: list[KubernetesObject] = []
        token = ""
        while True:
            try:
                told = query | ({"continue": token} if token else {})
                page = self._connection.json("GET", path, query=told, patient=patient)
            except RefusedError as error:
                if error.status != 410:
                    raise
                found, token = [], ""  # the list has grown too old to be continued: from its start
                continue
            found += [{"apiVersion": api_version, "kind": kind, **each} for each in page["items"] or ()]
            token = page["metadata"].get("continue") or ""
            if not token:
                return found

    def delete(
        self, api_version: str, kind: str, name: str, *, epoch: int | None = None, foreground: bool = True
    ) -> None:
        """Have an object of ours and all that it owns removed, and return; a no-op when it is gone, or not ours.

        With ``foreground`` it is there until all that it owns is gone. With ``epoch`` it is fenced as ``apply`` is.
        """
        path, what = self._path(api_version, kind, name), title(kind, name, self.namespace)
        applying.remove(self._connection, path, what, epoch=epoch, foreground=foreground)

    def merge(
        self,
        api_version: str,
        kind: str,
        name: str,
        patch: KubernetesObject,
        *,
        epoch: int | None = None,
        subresource: str | None = None,
    ) -> KubernetesObject:
        """Change some fields of an object by a JSON merge patch, and return it. Raises RefusedError when it is gone.

        With ``epoch`` it is fenced as ``apply`` is, and for objects of ours alone; a status is nobody's to fence.
        """
        path = self._path(api_version, kind, name, subresource)
        if epoch is None:
            return applying.send_merge(self._connection, path, patch)
        return applying.merge(self._connection, path, patch, title(kind, name, self.namespace), epoch=epoch)

    def events(self, name: str | None = None) -> list[KubernetesObject]:
        """What has been told in the last hour or so of the objects of that name, or of all, oldest first."""
        fields = {} if name is None else {"involvedObject.name": name}
        found = self.find("v1", "Event", {}, managed=False, fields=fields)
        return sorted(found, key=lambda each: str(each.get("lastTimestamp") or each.get("eventTime") or ""))

    # What the cluster serves

    def serves(self, api_version: str, kind: str) -> bool:
        """Whether the cluster has this kind in this version."""
        return self._discovery.find(api_version, kind) is not None

    def newest(self, kind: str, *api_versions: str) -> str | None:
        """The first of these versions, which go from new to old, in which the cluster has the kind; None when none."""
        return next((each for each in api_versions if self.serves(each, kind)), None)

    # Pods

    def logs(
        self, labels: Mapping[str, str], *, container: str | None, follow: bool, tail: int | None
    ) -> Iterator[str]:
        """The logs of all pods that bear these labels, each line as ``pod | line``.

        ``container`` None is the pod's default one; ``tail`` the last lines of each pod. With ``follow`` goes on with
        what they log, with containers that start again and pods that come later, until there are none.
        """
        read = logs.follow if follow else logs.read
        return read(self._connection, self._pod_path, lambda: self._pods(labels), container, tail)

    def log_tail(self, pod: str, container: str, lines: int = 5) -> list[str]:
        """The last lines that a container has logged, of its last run when it waits for another; for ``why``.

        None of them where they cannot be had, as of a silent node: what else is known can be told without.
        """
        try:
            return logs.tail(self._connection, self._pod_path(pod), container, lines)
        except StackkitError:
            return []

    def forward(
        self, labels_or_pod: Mapping[str, str] | str, target_port: int, port: int | None
    ) -> AbstractContextManager[str]:
        """A port on loopback (None: one that is free) that leads to a ready pod, until the context is left.

        The pod is the one of that name, or for each connection one that bears the labels. Gives the base URL. Raises
        DeploymentError when the port is taken or none is ready.
        """

        def choose() -> str:
            if isinstance(labels_or_pod, str):
                return self._pod_path(labels_or_pod)
            for pod in self._pods(labels_or_pod):
                if is_ready(pod):
                    return self._pod_path(pod["metadata"]["name"])
            raise DeploymentError(
                "None of its pods is ready.", "See how it is: stackkit model-deployer models describe."
            )

        return forwarding.forward(self._connection, choose, target_port, port)

    def post_to_service(
        self,
        name: str,
        port: int,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        timeout: float = READ_SECONDS,
    ) -> tuple[int, bytes]:
        """Post to a Service through the API server; the answer's status and body.

        What the API server itself answers in the Service's place is raised; endpoints that lag behind their pods, so
        that nothing was sent, are waited for.
        """
        proxied = f"{self._path('v1', 'Service', f'{name}:{port}', 'proxy')}/{path.lstrip('/')}"
        until = time.monotonic() + _ENDPOINTS_SECONDS
        while True:
            answer = self._connection.exchange("POST", proxied, body=body, headers=headers, timeout=timeout)
            if answer.status < 400 or not _is_status(answer.data):
                return answer.status, answer.data
            error = refusal("POST", answer.status, answer.data, host=self._connection.host)
            if not any(words in error.message for words in _NOT_SENT) or time.monotonic() > until:
                raise error
            time.sleep(_LOOK_SECONDS)

    def _path(self, api_version: str, kind: str, name: str | None = None, subresource: str | None = None) -> str:
        return self._discovery.get(api_version, kind).path(self.namespace, name, subresource)

    def _pod_path(self, name: str) -> str:
        return self._path(*_POD, name)

    def _pods(self, labels: Mapping[str, str]) -> list[KubernetesObject]:
        return self.find(*_POD, labels, managed=False)


def is_ready(pod: KubernetesObject) -> bool:
    """Whether a pod takes requests."""
    conditions = pod.get("status", {}).get("conditions") or ()
    is_going = pod["metadata"].get("deletionTimestamp") is not None
    return not is_going and any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def has_ended(pod: KubernetesObject) -> bool:
    """Whether a pod runs no more, as one that was evicted, which stays until somebody removes it."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _is_status(body: bytes) -> bool:
    """Whether an answer is one of the API server's own."""
    return b'"kind":"Status"' in body[:200].replace(b" ", b"")
