"""Requests to a cluster's API server: authenticated, bounded in time, and refused in one line."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import urllib3
from urllib3.exceptions import HTTPError

from stackkit.errors import PlatformUnavailableError, StackkitError

from . import access
from .config import ClusterConfig
from .errors import NotNowError, refusal

if TYPE_CHECKING:
    from kubernetes.client import Configuration

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0

_STARTING_SECONDS = 3.0
"""For how long one that forbids even to ask whether it is ready may be just starting."""

_PATIENCE_SECONDS = 60.0
"""For how long an API server that has answered before is asked again: as long as one takes to start anew."""

_POOL_SIZE = 32
_POOL = re.compile(r"^\w+Pool\(.*?\): ")


class Connection:
    """The API server of one cluster. Safe to use from many threads; opens nothing before it is first used."""

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._loaded: tuple[Configuration, urllib3.PoolManager] | None = None
        self._has_answered = False

    @property
    def configuration(self) -> Configuration:
        """How the cluster is reached. Reads the kubeconfig when first asked for; raises PlatformUnavailableError."""
        return self._load()[0]

    @property
    def host(self) -> str:
        return str(self.configuration.host)

    def headers(self) -> dict[str, str]:
        """The headers that say who asks."""
        value = access.authorization(self.configuration)
        return {} if value is None else {"Authorization": value}

    def json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        patient: bool = False,
    ) -> Any:
        """Send a request and read the JSON that answers it.

        With ``patient``, for what may be sent twice, a server that has answered before and does not now is asked
        again for a while. Raises PlatformUnavailableError and RefusedError.
        """
        encoded = None if body is None else json.dumps(body).encode()
        told = {"Accept": "application/json", "Content-Type": content_type}
        until = time.monotonic() + (_PATIENCE_SECONDS if patient and self._has_answered else 0.0)
        pause = 0.1
        while True:
            try:
                answer = self.send(method, path, query=query, body=encoded, headers=told)
                return _read(answer.data, self.host)
            except NotNowError:
                if time.monotonic() + pause > until:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, 1.0)

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = READ_SECONDS,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request; its answer is below 400, and with ``stream`` still to be read and closed.

        Credentials that are not accepted are read anew once: they may have been renewed since. What is forbidden is
        asked for once more when the server says that it is ready. ``timeout`` is how many seconds it may be silent,
        None for as long as it likes.
        """
        ask = partial(
            self.exchange, method, path, query=query, body=body, headers=headers, timeout=timeout, stream=stream
        )
        answer = ask()
        if answer.status == 401:
            answer.close()
            self._forget()
            answer = ask()
        if answer.status == 403:
            self._refuse_while_starting(answer)
            answer = ask()
        if answer.status >= 400:
            raise refusal(method, answer.status, answer.data, host=self.host)
        self._has_answered = True
        return answer

    def exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = READ_SECONDS,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request and give its answer, whatever its status. Raises PlatformUnavailableError."""
        configuration, pool = self._load()
        url = f"{configuration.host}{quote(path, safe='/:%')}"
        try:
            return pool.request(
                method,
                f"{url}?{urlencode(query)}" if query else url,
                body=body,
                headers={**(headers or {}), **self.headers()},
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=timeout),
                retries=False,
                redirect=False,
                preload_content=not stream,
            )
        except (HTTPError, OSError) as error:
            raise unreachable(str(configuration.host), error) from error

    def close(self) -> None:
        """Close what is open; a later request opens it again."""
        self._forget()

    def _refuse_while_starting(self, answer: urllib3.BaseHTTPResponse) -> None:
        """Raise NotNowError where ``answer`` refuses only since the API server has not read the roles yet.

        One that has just started forbids everything for a moment, and says so by its readiness; what this asks for is
        a right of everybody, but for that moment too. So it is waited for where the server has answered before.
        """
        said = answer.data
        readiness = self.exchange("GET", "/readyz").status
        until = time.monotonic() + (_STARTING_SECONDS if self._has_answered else 0.0)
        while readiness == 403 and time.monotonic() < until:
            time.sleep(0.1)
            readiness = self.exchange("GET", "/readyz").status
        if readiness >= 500 or (readiness == 403 and b"RBAC: " in said):
            raise NotNowError(
                f"The cluster at {self.host} is just starting, and knows no rights yet.",
                "Try again; kubectl get --raw /readyz says how it is.",
            )

    def _load(self) -> tuple[Configuration, urllib3.PoolManager]:
        with self._lock:
            if self._loaded is None:
                from kubernetes.client.rest import RESTClientObject

                configuration = access.load(self._config)
                configuration.connection_pool_maxsize = _POOL_SIZE
                self._loaded = configuration, RESTClientObject(configuration).pool_manager
            return self._loaded

    def _forget(self) -> None:
        with self._lock:
            loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded[1].clear()


def _read(body: bytes, host: str) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise PlatformUnavailableError(
            f"What answers at {host} is no Kubernetes API server.",
            "See that nothing stands before it that answers in its place, such as a login page.",
        ) from error


def unreachable(host: str, error: BaseException) -> StackkitError:
    """The error that a request which got no answer is."""
    said = _words(error)
    if "CERTIFICATE_VERIFY_FAILED" in said or "certificate verify failed" in said:
        return PlatformUnavailableError(
            f"The certificate of the cluster at {host} is not the one that the kubeconfig asks for: {said}",
            "It may be another cluster by now: get its kubeconfig anew.",
        )
    return NotNowError(
        f"No cluster answers at {host}: {said}", "See that it is up and reached from here: kubectl get --raw /readyz."
    )


def _words(error: BaseException) -> str:
    """The innermost reason, without the objects that urllib3 names beside it."""
    arguments = (getattr(error, "reason", None), *error.args)
    inner = next((each for each in arguments if isinstance(each, BaseException)), None)
    if inner is not None:
        return _words(inner)
    text = (error.strerror if isinstance(error, OSError) else None) or str(error).rpartition(">: ")[2]
    text = _POOL.sub("", text) or type(error).__name__
    return " ".join(text.split()).rstrip(".") + "."
