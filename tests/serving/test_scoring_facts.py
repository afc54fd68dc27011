"""Requests recorded from MLflow's own server, sent to a running server of ours.

STACKKIT_TEST_SCORING_FACTS names a folder with scoring-cases.json and scoring_models.py, which makes the models. A
case has a request, ``expect_status`` (a list), and ``expect_response`` where the body matters.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = os.environ.get("STACKKIT_TEST_SCORING_FACTS")
CASES = json.loads((Path(FOLDER) / "scoring-cases.json").read_text()) if FOLDER else []
MODELS = sorted({case["model"] for case in CASES})

BYTES_ARE_DECODED = {"typed-inputs-row-dicts", "typed-instances-row-dicts"}
"""MLflow hands the model the base64 text itself, and breaks its own base64 into lines. Both are differences on purpose
(docs/serving.md), which these two cases record as MLflow has them."""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scoring")
    command = [sys.executable, "-W", "ignore", str(Path(str(FOLDER)) / "scoring_models.py"), str(folder)]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment)
    return folder


@pytest.mark.parametrize("model", MODELS or [None])
def test_recorded_requests_are_answered_as_expected(
    model: str | None,
    request: pytest.FixtureRequest,
    start_server: Callable[..., Any],
    requires: Callable[[str, str], None],
) -> None:
    if model is None:
        requires("scoring", "STACKKIT_TEST_SCORING_FACTS names no folder with recorded requests")
    pytest.importorskip("mlflow")
    server = start_server(str(request.getfixturevalue("models") / str(model)))
    port = server.wait_ready().port
    failures = [
        f"{case['name']}: {words}"
        for case in CASES
        if case["model"] == model and (words := _difference(case, *_send(port, case)))
    ]
    assert not failures, "\n".join(failures)


def _send(port: int, case: dict[str, Any]) -> tuple[int, bytes]:
    body = case["body"]
    content = base64.b64decode(body["base64"]) if isinstance(body, dict) else (body or "").encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(case["method"], case["path"], content, case["headers"])
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _difference(case: dict[str, Any], status: int, body: bytes) -> str | None:
    if status not in case["expect_status"]:
        return f"answered {status} {body!r}, expected {case['expect_status']}"
    if "expect_response" not in case:
        return None
    expected = case["expect_response"]
    if case["name"] in BYTES_ARE_DECODED:
        expected["predictions"][0]["raw"] = "aGk="
    content = json.loads(body)
    return None if content == expected else f"answered {content}, expected {expected}"
