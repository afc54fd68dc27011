"""The Open Inference Protocol (V2) over REST: its paths, its bodies, and its errors ``{"error"}``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from . import __version__
from .errors import RequestError
from .media_types import is_gzipped
from .routing import Handler, Request, Response, RouteTable
from .scoring import gunzip
from .service import Service, aside
from .signature import Column, DataType, Signature, Tensor
from .v2_inference import HEADER_LENGTH, NAMELESS_OUTPUT, VERSION, read, to_payload, write

COLUMN_DATATYPES = {
    DataType.BOOLEAN: "BOOL",
    DataType.INTEGER: "INT32",
    DataType.LONG: "INT64",
    DataType.FLOAT: "FP32",
    DataType.DOUBLE: "FP64",
    DataType.STRING: "BYTES",
    DataType.BINARY: "BYTES",
    DataType.DATETIME: "BYTES",
}
NAMELESS_INPUT = "input"
"""What an input is called that has no name in the signature; under which name it is sent makes no difference."""


def routes(service: Service) -> RouteTable:
    """The protocol's paths, answered by ``service``, with and without a version."""

    server = _always({"name": "stackkit", "version": __version__, "extensions": ["binary_tensor_data"]})
    live = _always({"live": True})

    async def ready(_: Request) -> Response:
        service.check_ready()
        return _json({"ready": True})

    async def models(_: Request) -> Response:
        return _json({"models": [service.name]})

    async def index(_: Request) -> Response:
        service.check_ready()
        return _json([{"name": service.name, "version": VERSION, "state": "READY", "reason": ""}])

    async def model(request: Request) -> Response:
        _check_name(request, service.name)
        return _json(metadata(service.name, service.model.signature))

    async def model_ready(request: Request) -> Response:
        _check_name(request, service.name)
        service.check_ready()
        return _json({"name": service.name, "ready": True})

    async def infer(request: Request) -> Response:
        _check_name(request, service.name)
        is_compressed = is_gzipped(request.headers.get("content-encoding"))
        signature = service.model.signature
        body = await request.body()
        if is_compressed:
            body = await aside(request, gunzip, body, request.max_body)
        inference = await aside(request, read, body, request.headers.get(HEADER_LENGTH))
        data = await aside(request, to_payload, inference.inputs, signature)
        predictions = await service.predict(request, data, inference.params_of(signature))
        return await aside(request, write, predictions, inference, service.name, signature)

    handlers: dict[str, dict[str, Handler]] = {
        "/v2": {"GET": server},
        "/v2/health/live": {"GET": live, "HEAD": live},
        "/v2/health/ready": {"GET": ready, "HEAD": ready},
        "/v2/models": {"GET": models},
        "/v2/repository/index": {"POST": index},
    }
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        handlers[path] = {"GET": model}
        handlers[f"{path}/ready"] = {"GET": model_ready, "HEAD": model_ready}
        handlers[f"{path}/infer"] = {"POST": infer}
    return RouteTable(handlers, write_error, prefix="/v2")


def write_error(error: RequestError) -> bytes:
    return json.dumps({"error": error.message}).encode()


def metadata(name: str, signature: Signature | None) -> dict[str, Any]:
    """What the model takes and returns; both lists are empty where it does not say."""
    inputs = outputs = None
    if signature is not None:
        inputs, outputs = signature.inputs, signature.outputs
    return {
        "name": name,
        "versions": [VERSION],
        "platform": "stackkit",
        "inputs": described(inputs, NAMELESS_INPUT),
        "outputs": described(outputs, NAMELESS_OUTPUT),
    }


def described(fields: Sequence[Column | Tensor] | None, nameless: str) -> list[dict[str, Any]]:
    """Name, datatype and shape of each, as the protocol says them; ``nameless`` is the name of one that has none."""
    from .v2_tensors import datatype_of

    entries: list[dict[str, Any]] = []
    for field in fields or ():
        if isinstance(field, Tensor):
            shape = list(field.shape)
            entries.append({"name": field.name or nameless, "datatype": datatype_of(field.dtype), "shape": shape})
        elif field.name is not None:
            entries.append({"name": field.name, "datatype": COLUMN_DATATYPES[field.type], "shape": [-1]})
        else:  # columns without names come as one tensor
            shape = [-1] if len(fields or ()) == 1 else [-1, len(fields or ())]
            return [{"name": nameless, "datatype": COLUMN_DATATYPES[field.type], "shape": shape}]
    return entries


def _check_name(request: Request, name: str) -> None:
    if request.parameters["model"] != name:
        raise RequestError(404, "RESOURCE_DOES_NOT_EXIST", f"There is no model of that name here, there is {name}.")
    if request.parameters.get("version", VERSION) != VERSION:
        raise RequestError(404, "RESOURCE_DOES_NOT_EXIST", f"The model has no such version, it has {VERSION}.")


def _always(content: Mapping[str, Any]) -> Handler:
    async def answer(_: Request) -> Response:
        return _json(content)

    return answer


def _json(content: Mapping[str, Any] | Sequence[Any]) -> Response:
    return Response(200, json.dumps(content).encode())
