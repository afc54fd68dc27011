"""Asking a model server for predictions, over MLflow's scoring protocol."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import PredictionError

if TYPE_CHECKING:
    from .service import Service

PAYLOAD_KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")
"""The keys that hold the data in a request of MLflow's scoring protocol."""

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
    service: Service, data: Any, params: Mapping[str, Any] | None, *, token: str | None = None
) -> Any:
    """Post ``data`` to the service's prediction URL and return the predictions. ``token`` is the bearer token that the
    server asks for, None where it asks for none.

    Raises PredictionError when it serves none, cannot be reached, or answers with an error, whose words it carries.
    """
    import requests
    from pydantic_core import to_json

    url = service.prediction_url
    if url is None:
        raise PredictionError(
            f"The service {service.name!r} serves no predictions: it is {service.status.state.value}.",
            f"Start it: stackkit model-deployer models start {service.id[:8]}.",
        )
    body = to_json(_without_arrays(payload(data, params)), inf_nan_mode="constants")
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    with requests.Session() as session:
        session.trust_env = not _is_loopback(url)  # a proxy has no way to this machine's own servers
        try:
            response = session.post(url, data=body, headers=headers, timeout=_TIMEOUT_SECONDS)
        except requests.RequestException as error:
            raise PredictionError(
                f"The service {service.name!r} cannot be reached at {url}: {type(error).__name__}.",
                f"See how it is: stackkit model-deployer models describe {service.id[:8]}.",
            ) from error
    if not response.ok:
        raise PredictionError(f"The service {service.name!r} answered {response.status_code}: {_words(response)}")
    answer = response.json()
    return answer["predictions"] if isinstance(answer, dict) and "predictions" in answer else answer


def _words(response: Any) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return str(response.text[:500])


def _without_arrays(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _without_arrays(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_arrays(item) for item in value]
    return value


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
