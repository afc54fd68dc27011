"""Asking a model server for predictions, over MLflow's scoring protocol."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import PredictionError

if TYPE_CHECKING:
    from .service import Service

PAYLOAD_KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")
"""The keys that hold the data in a request of MLflow's scoring protocol."""

Send = Callable[[bytes, Mapping[str, str]], tuple[int, bytes]]
"""A way to post a body with headers to a server; gives the status and the body of the answer."""

_TIMEOUT_SECONDS = (5, 310)  # to connect, and to answer: longer than any request timeout that is worth waiting for


def payload(data: Any, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The request body for ``data``: a DataFrame goes as ``dataframe_split``, everything else as ``inputs``.

    A dictionary with one of the protocol's own keys is a whole request and stays as it is.
    """
    if hasattr(data, "columns") and hasattr(data, "to_dict"):
        split = data.to_dict(orient="split")
        body: dict[str, Any] = {"dataframe_split": {"columns": split["columns"], "data": split["data"]}}
    elif isinstance(data, Mapping) and any(key in data for key in PAYLOAD_KEYS):
        body = dict(data)
    else:
        body = {"inputs": data}
    if params is not None:
        body["params"] = dict(params)
    return body


def request_prediction(
    service: Service,
    data: Any,
    params: Mapping[str, Any] | None,
    *,
    token: str | None = None,
    send: Send | None = None,
) -> Any:
    """Ask for predictions of ``data`` over MLflow's scoring protocol, and return them.

    ``token`` is the bearer token that the server asks for, None where it asks for none. ``send`` is another way to the
    server than its prediction URL: it is given the request's body and headers, and returns the answer's status and
    body. Raises PredictionError when the service serves none, cannot be reached, or answers with an error, whose
    words it carries.
    """
    from pydantic_core import to_json

    if service.prediction_url is None and send is None:
        raise not_serving(service)
    body = to_json(without_arrays(payload(data, params)), inf_nan_mode="constants")
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    status, answered = send(body, headers) if send is not None else _post(service, body, headers)
    if not 200 <= status < 300:
        raise PredictionError(
            f"The service {service.name!r} answered {status}: {_words(answered)}",
            f"See its log: stackkit model-deployer models logs {service.id[:8]}." if status >= 500 else None,
        )
    answer = json.loads(answered)
    return answer["predictions"] if isinstance(answer, dict) and "predictions" in answer else answer


def not_serving(service: Service) -> PredictionError:
    """The error that asking a service without a prediction URL is."""
    return PredictionError(
        f"The service {service.name!r} serves no predictions: its state is {service.status.state.value}.",
        f"Start it: stackkit model-deployer models start {service.id[:8]}.",
    )


def _post(service: Service, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
    import requests

    url = service.prediction_url or ""
    with requests.Session() as session:
        session.trust_env = not is_loopback(url)  # a proxy has no way to this machine's own servers
        try:
            response = session.post(url, data=body, headers=headers, timeout=_TIMEOUT_SECONDS)
        except requests.RequestException as error:
            raise PredictionError(
                f"The service {service.name!r} cannot be reached at {url}: {type(error).__name__}.",
                f"See how it is: stackkit model-deployer models describe {service.id[:8]}.",
            ) from error
    return response.status_code, response.content


def _words(answered: bytes) -> str:
    try:
        return str(json.loads(answered)["message"])
    except (ValueError, KeyError, TypeError):
        return answered.decode("utf-8", "replace")[:500]


def without_arrays(value: Any) -> Any:
    """``value`` with its arrays and numpy scalars as lists and numbers, for JSON."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): without_arrays(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_arrays(item) for item in value]
    return value


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this very machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
