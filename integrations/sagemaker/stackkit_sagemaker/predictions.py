"""Asking an endpoint for predictions: a signed call for one that answers at once, and objects in S3 for one that
answers later.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError
from pydantic_core import to_json

from stackkit.errors import NotSupportedError, PredictionError
from stackkit.model_deployers import Service
from stackkit.model_deployers.predictions import payload

from .clients import Clients
from .errors import code_of, is_missing, words_of
from .names import endpoint_name

_JSON, _CSV = "application/json", "text/csv"
_POLL_SECONDS = 1.0
_ANSWER_SECONDS = 3600.0  # how long an asynchronous endpoint may take for one request


def encode(data: Any, params: Mapping[str, Any] | None) -> tuple[bytes, str]:
    """The body of a request, and its content type: text is CSV as it stands, everything else is JSON."""
    if isinstance(data, str | bytes):
        if params is not None:
            raise NotSupportedError("Data in CSV goes without params.", "Give the data as JSON or a DataFrame.")
        return data.encode() if isinstance(data, str) else data, _CSV
    return to_json(payload(data, params), inf_nan_mode="constants", fallback=_plain), _JSON


def predict_now(clients: Clients, service: Service, data: Any, params: Mapping[str, Any] | None) -> Any:
    """Ask a real-time or serverless endpoint. Raises PredictionError with the model server's own words."""
    body, content_type = encode(data, params)
    with clients.calling(f"The service {service.name!r} was not asked"):
        try:
            answer = clients.runtime.invoke_endpoint(
                EndpointName=endpoint_name(service.id), ContentType=content_type, Accept=_JSON, Body=body
            )
            answered = answer["Body"].read()
        except ClientError as error:
            if (told := _refusal(service, error)) is not None:
                raise told from error
            raise
    return decoded(answered)


def predict_later(
    clients: Clients,
    service: Service,
    folder: str,
    data: Any,
    params: Mapping[str, Any] | None,
    wait: Callable[[float], None] = time.sleep,
) -> Any:
    """Ask an asynchronous endpoint, and wait for the answer. ``folder`` is the URI where the request is put.

    The request is removed from S3 afterwards, unless it may be answered yet; the answer stays where the endpoint puts
    its answers. Raises PredictionError with the model server's own words.
    """
    body, content_type = encode(data, params)
    bucket, key = _split(f"{folder}requests/{uuid.uuid4()}")
    owner, is_late = clients.caller().account, False
    with clients.calling(f"The service {service.name!r} was not asked"):
        clients.s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type, ExpectedBucketOwner=owner)
        try:
            asked = clients.runtime.invoke_endpoint_async(
                EndpointName=endpoint_name(service.id),
                ContentType=content_type,
                Accept=_JSON,
                InputLocation=f"s3://{bucket}/{key}",
            )
            output = asked["OutputLocation"]
            answered = _await_answer(clients, service, output, asked.get("FailureLocation"), wait)
            is_late = answered is None
        except ClientError as error:
            if (told := _refusal(service, error)) is not None:
                raise told from error
            raise
        finally:
            if not is_late:
                clients.s3.delete_object(Bucket=bucket, Key=key, ExpectedBucketOwner=owner)
    if answered is None:
        raise PredictionError(
            f"The service {service.name!r} has not answered within {_ANSWER_SECONDS:.0f} seconds.",
            f"The answer will be at {output}.",
        )
    return decoded(answered)


def _await_answer(
    clients: Clients, service: Service, output: str, failure: str | None, wait: Callable[[float], None]
) -> bytes | None:
    """The answer; None when there is none in time. Raises PredictionError when the model failed."""
    waited = 0.0
    while waited < _ANSWER_SECONDS:
        if (answer := _object(clients, output)) is not None:
            return answer
        if failure is not None and (told := _object(clients, failure)) is not None:
            words = " ".join(told.decode("utf-8", "replace").split())
            raise PredictionError(f"The service {service.name!r} failed to answer: {words}")
        wait(_POLL_SECONDS)
        waited += _POLL_SECONDS
    return None


def _object(clients: Clients, uri: str) -> bytes | None:
    bucket, key = _split(uri)
    try:
        return clients.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        if is_missing(error):
            return None
        raise


def _refusal(service: Service, error: ClientError) -> PredictionError | None:
    """What SageMaker or the model server said against the request; None when it is AWS that cannot be asked."""
    code, words = code_of(error), words_of(error)
    if code == "ModelError":
        status = error.response.get("OriginalStatusCode")
        original = str(error.response.get("OriginalMessage") or words)
        return PredictionError(f"The service {service.name!r} answered {status}: {said_by_server(original)}")
    if code in ("ValidationError", "ValidationException", "ModelNotReadyException"):
        return PredictionError(
            f"The service {service.name!r} was not asked: {words}",
            f"See how it is: stackkit model-deployer models describe {service.id[:8]}.",
        )
    return None


def said_by_server(original: str) -> str:
    """The words in a model server's error, which is JSON with a message in MLflow's protocol."""
    try:
        return str(json.loads(original)["message"])
    except (ValueError, KeyError, TypeError):
        return original[:500]


def decoded(answered: bytes) -> Any:
    """The predictions in an answer, which are its text when it is no JSON."""
    try:
        answer = json.loads(answered)
    except ValueError:
        return answered.decode("utf-8", "replace")
    return answer["predictions"] if isinstance(answer, dict) and "predictions" in answer else answer


def _split(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    return parts.netloc, parts.path.lstrip("/")


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is no JSON")
