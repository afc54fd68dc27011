"""A service and its revision, without a database."""

from __future__ import annotations

import http.client
import threading
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from stackkit_kubernetes import objects
from stackkit_kubernetes.config import KubernetesServiceConfig
from stackkit_kubernetes.pods import Revision

from stackkit.errors import PlatformUnavailableError, PredictionError
from stackkit.model_deployers import ModelSource, Service, ServiceState, Target
from stackkit.stack.configs import parse, plain

ID = "8f6f2c1e-0000-4000-8000-000000000000"


def _ends_within(seconds: int) -> dict[str, Any]:
    return {"Deployment": {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": seconds}}}}}


ENDS_AT_ONCE = _ends_within(0)
"""A patch by which the cluster forgets a pod when it is deleted: for tests that send nothing while pods leave, and for
which it is no matter how they do. A kubelet takes ten seconds and more to tell that one has left."""

ENDS_SOON = _ends_within(1)
"""A patch by which pods leave as they do otherwise, but do not wait until everybody knows it: for tests in which
somebody waits for their end, or removes the image that they run."""


_SECONDS_BETWEEN = 0.005  # 24,000 requests in two minutes, for 28,000 ports


def configuration(**fields: Any) -> KubernetesServiceConfig:
    return parse(KubernetesServiceConfig, {"model_name": "iris", **fields}, "a kubernetes service")


def make_service(
    *, number: int = 3, state: ServiceState = ServiceState.ACTIVE, target: Target = Target.ACTIVE, **fields: Any
) -> Service:
    """A service as its row has it."""
    config = configuration(**fields)
    stored = {**plain(config), "secrets": dict.fromkeys(config.secrets, "{{kept.secret}}")}
    row = {
        "id": ID,
        "service_name": "iris",
        "revision": number,
        "config": stored,
        "source": ModelSource(config.model_uri or config.image or "").as_dict(),
        "details": {},
        "state": state,
        "target": target,
        "state_since": datetime.now(UTC),
        "message": "",
        "prediction_url": None,
        "unknown_since": None,
        "unknown_reason": None,
        "canary_revision": None,
        "canary_percent": None,
    }
    deployer: Any = SimpleNamespace(service_config_class=KubernetesServiceConfig)
    return Service(row, deployer)


def revision(**fields: Any) -> Revision:
    """What its objects are made of."""
    config = configuration(**fields)
    return objects.revision_of(make_service(**fields), config, image=config.image or "built:1", pull_secret=None)


_ROW = [0]


def said(service: Service, data: Any = _ROW) -> Any:
    """What a server answers; None when it did not.

    Pods that end at once are gone before the nodes know it, and an old API server that passes requests on may lose an
    answer after which the connection is closed.
    """
    try:
        return service.predict(data)
    except (PredictionError, PlatformUnavailableError):
        return None


class Load:
    """Requests one after the other on each of some threads, every one on a connection of its own.

    So few a second that none has the port of one before it within the two minutes for which the kernel remembers where
    a connection led: while a container ends, Docker forgets those to its address by their ports alone, and would cut a
    new one that has the same.
    """

    def __init__(self, url: str, connections: int) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._url = urlsplit(url)
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(connections)]

    def _ask(self) -> None:
        while not self._done.is_set():
            connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=30)
            try:
                connection.request("POST", self._url.path, b'{"inputs": [0]}', {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                if answer.status == http.client.OK:
                    self.answered += 1
                else:
                    self.failures.append(f"it answered {answer.status}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            finally:
                connection.close()
            self._done.wait(len(self._threads) * _SECONDS_BETWEEN)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
