"""``/openapi.json``, made from the model's own signature, and ``/docs``, a page that shows it and tries it out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import __version__
from .media_types import CSV_TYPES, JSON, JSON_LINES_TYPES, PARQUET
from .models import ExemplaryModel
from .routing import Request, Response, RouteTable
from .schemas import request_example, request_schema
from .scoring import write_error
from .service import Service
from .signature import Signature
from .v2_schemas import INFERENCE, METADATA, inference_example, inference_schema

_REASONS = {
    400: "The body cannot be read, or does not fit the model",
    401: "The request bears no valid token",
    404: "There is no such model",
    413: "The body is too large",
    415: "The content type, charset or encoding is not supported",
    421: "The server was asked for under another name",
    500: "The model failed; the log says why under the request id",
    503: "The model is still loading, or too many requests wait",
    504: "The request took too long",
}


def routes(service: Service) -> RouteTable:
    async def openapi(_: Request) -> Response:
        model = service.model
        example = model.example if isinstance(model, ExemplaryModel) else None
        return Response(200, json.dumps(document(service.name, model.signature, example)).encode())

    page = (Path(__file__).parent / "docs.html").read_bytes()
    headers = {"content-security-policy": _policy(page)}

    async def docs(_: Request) -> Response:
        return Response(200, page, "text/html; charset=utf-8", headers)

    # MLflow's server has a page under either name
    paths = {"/openapi.json": {"GET": openapi}, "/docs": {"GET": docs}, "/redoc": {"GET": docs}}
    return RouteTable(paths, write_error, prefix="/openapi")


def document(name: str, signature: Signature | None, example: Any = None) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a server with this model; ``example`` is for a model without a signature."""
    scoring = request_example(signature) if example is None else example
    model = {"parameters": [{"name": "model", "in": "path", "required": True, "schema": {"const": name}}]}
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": __version__, "description": "A model served by stackkit."},
        "paths": {
            "/invocations": {"post": _invocations(signature, scoring)},
            "/ping": {"get": _operation("Whether the model is loaded", {JSON: {}})},
            "/health": {"get": _operation("Whether the model is loaded", {JSON: {}})},
            "/version": {"get": _operation("The server's version", {"text/plain": {"schema": {"type": "string"}}})},
            "/v2": {"get": _v2("The server's name, version and extensions", {"type": "object"})},
            "/v2/health/live": {"get": _v2("Whether the server lives", {"type": "object"})},
            "/v2/health/ready": {"get": _v2("Whether the model is loaded", {"type": "object"})},
            "/v2/models/{model}": {"get": _v2("The model's inputs and outputs", METADATA) | model},
            "/v2/models/{model}/ready": {"get": _v2("Whether the model is loaded", {"type": "object"}) | model},
            "/v2/models/{model}/infer": {"post": _infer(signature, scoring) | model},
        },
        "components": {
            "schemas": {
                "Error": _error(["error_code", "message"]),
                "V2Error": _error(["error"]),
            }
        },
    }


def _invocations(signature: Signature | None, example: Any) -> dict[str, Any]:
    content: dict[str, Any] = {JSON: {"schema": request_schema(signature), "example": example}}
    predictions: dict[str, Any] = {"type": "object", "required": ["predictions"]}
    text = {"schema": {"type": "string"}}
    replies = {JSON: {"schema": predictions}, **dict.fromkeys((*CSV_TYPES, *JSON_LINES_TYPES), text)}
    operation = _operation("Predictions for some rows", replies, range(400, 600))
    further = ", ".join((*CSV_TYPES, *JSON_LINES_TYPES, PARQUET))
    operation["description"] = f"The body may also be {further}, and compressed with gzip."
    return operation | {"requestBody": {"required": True, "content": content}}


def _infer(signature: Signature | None, scoring: Any) -> dict[str, Any]:
    example = inference_example(signature, scoring)
    content = {JSON: {"schema": inference_schema(signature), "example": example}}
    replies = {JSON: {"schema": INFERENCE}, "application/octet-stream": {}}
    operation = _operation("Predictions for some rows, by tensors", replies, range(400, 600), "V2Error")
    operation["description"] = (
        "One row is shown; of several rows the shapes and the data have as many. In place of columns a matrix as wide"
        " will do, and other datatypes where nothing is lost. Binary data may follow the JSON, and answers where an"
        " output's parameters have binary_data."
    )
    return operation | {"requestBody": {"required": True, "content": content}}


def _operation(
    summary: str,
    content: Mapping[str, Any],
    statuses: range | tuple[int, ...] = (401, 421, 503, 504),
    error: str = "Error",
) -> dict[str, Any]:
    refused = {JSON: {"schema": {"$ref": f"#/components/schemas/{error}"}}}
    responses: dict[str, Any] = {"200": {"description": "It worked", "content": dict(content)}}
    for status, reason in _REASONS.items():
        if status in statuses:
            responses[str(status)] = {"description": reason, "content": refused}
    return {"summary": summary, "responses": responses}


def _v2(summary: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return _operation(summary, {JSON: {"schema": dict(schema)}}, (401, 404, 421, 503, 504), "V2Error")


def _error(fields: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": {field: {"type": "string"} for field in fields}, "required": fields}


def _policy(page: bytes) -> str:
    """The page's own script and style, by their digests, and requests to this server; nothing else."""

    def digests(tag: bytes) -> str:
        found = re.findall(b"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
        return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(each).digest()).decode()}'" for each in found)

    return f"default-src 'none'; script-src {digests(b'script')}; style-src {digests(b'style')}; connect-src 'self'"
