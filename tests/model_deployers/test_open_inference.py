"""The client's side of the V1 and V2 protocols, against a server of the test's and against our own code for V2."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stackkit.errors import NotSupportedError, PredictionError
from stackkit.model_deployers import Service
from stackkit.model_deployers.open_inference import Route, path, request_inference
from stackkit.serving import v2_inference


class Server:
    """Answers every POST with ``answer`` and keeps what it was asked."""

    def __init__(self) -> None:
        self.status, self.answer = 200, b""
        self.asked: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append((self.path, dict(self.headers), json.loads(body)))
                self.send_response(outer.status)
                if outer.status == 302:
                    self.send_header("Location", "http://127.0.0.1:9/")
                self.send_header("Content-Length", str(len(outer.answer)))
                self.end_headers()
                self.wfile.write(outer.answer)

            def log_message(self, *words: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def replies(self, answer: Any, status: int = 200) -> None:
        self.status, self.answer = status, answer if isinstance(answer, bytes) else json.dumps(answer).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


@pytest.fixture
def service() -> Service:
    return Service({"id": str(uuid.UUID(int=1)), "service_name": "iris"}, None)


OUTPUTS = {"outputs": [{"name": "predict", "shape": [2], "datatype": "INT64", "data": [1, 2]}]}


@pytest.mark.parametrize(
    ("data", "inputs"),
    [
        pytest.param(
            [[1.5, 2.0], [3.0, 4.0]],
            [{"name": "input-0", "shape": [2, 2], "datatype": "FP64", "data": [1.5, 2.0, 3.0, 4.0]}],
            id="rows",
        ),
        pytest.param(
            np.array([[1, 2]], dtype=np.int32),
            [{"name": "input-0", "shape": [1, 2], "datatype": "INT32", "data": [1, 2]}],
            id="array",
        ),
        pytest.param(
            pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
            [
                {"name": "a", "shape": [2], "datatype": "INT64", "data": [1, 2]},
                {"name": "b", "shape": [2], "datatype": "BYTES", "data": ["x", None]},
            ],
            id="frame",
        ),
        pytest.param(
            {"a": [True], "b": [float("nan")]},
            [
                {"name": "a", "shape": [1], "datatype": "BOOL", "data": [True]},
                {"name": "b", "shape": [1], "datatype": "FP64", "data": [None]},
            ],
            id="columns",
        ),
        pytest.param(
            {"dataframe_split": {"columns": ["a"], "data": [[1]]}},
            [{"name": "a", "shape": [1], "datatype": "INT64", "data": [1]}],
            id="mlflow-split",
        ),
        pytest.param(
            {"inputs": ["one", "two"]},
            [{"name": "input-0", "shape": [2], "datatype": "BYTES", "data": ["one", "two"]}],
            id="mlflow-inputs",
        ),
        pytest.param(
            {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]},
            [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}],
            id="whole-request",
        ),
    ],
)
def test_v2_sends_tensors_that_our_own_server_reads(
    server: Server, service: Service, data: Any, inputs: list[Any]
) -> None:
    server.replies(OUTPUTS)
    assert request_inference(service, Route(f"{server.url}/v2/models/iris/infer"), "v2", data, None) == [1, 2]
    ((asked, _, body),) = server.asked
    assert asked == path("v2", "iris")
    assert body["inputs"] == inputs
    read = v2_inference.read(json.dumps(body).encode(), None)
    assert list(read.inputs) == [each["name"] for each in inputs]


def test_v2_answers_come_in_their_shape_and_by_name(server: Server, service: Service) -> None:
    first = {"name": "a", "shape": [2, 2], "datatype": "FP64", "data": [1.0, 2.0, 3.0, 4.0]}
    server.replies({"outputs": [first, {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["x"]}]})
    answer = request_inference(service, Route(server.url), "v2", [[1]], {"top": 3})
    assert answer == {"a": [[1.0, 2.0], [3.0, 4.0]], "b": ["x"]}
    assert server.asked[0][2]["parameters"] == {"top": 3}


@pytest.mark.parametrize(
    ("data", "instances"),
    [
        pytest.param([[1.0, 2.0]], [[1.0, 2.0]], id="rows"),
        pytest.param(pd.DataFrame({"a": [1], "b": ["x"]}), [{"a": 1, "b": "x"}], id="frame"),
        pytest.param({"a": [1, 2]}, [{"a": 1}, {"a": 2}], id="columns"),
        pytest.param({"dataframe_records": [{"a": 1}]}, [{"a": 1}], id="mlflow-records"),
        pytest.param({"instances": [1], "signature_name": "s"}, [1], id="whole-request"),
    ],
)
def test_v1_sends_instances(server: Server, service: Service, data: Any, instances: list[Any]) -> None:
    server.replies({"predictions": [0.5]})
    assert request_inference(service, Route(server.url + path("v1", "iris")), "v1", data, None) == [0.5]
    asked, _, body = server.asked[0]
    assert (asked, body["instances"]) == ("/v1/models/iris:predict", instances)


def test_the_host_is_named_to_a_gateway(server: Server, service: Service) -> None:
    server.replies({"predictions": []})
    request_inference(service, Route(server.url, "iris.models.example.com"), "v1", [], None)
    assert server.asked[0][1]["Host"] == "iris.models.example.com"


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        pytest.param(400, {"error": "no such input"}, "answered 400: no such input", id="v2-words"),
        pytest.param(500, b"upstream connect error", "answered 500: upstream connect error", id="gateway"),
        pytest.param(302, b"", "answered 302", id="redirect-not-followed"),
        pytest.param(200, {"unexpected": 1}, "did not answer in the protocol v2", id="another-protocol"),
        pytest.param(200, b"<html>", "did not answer in the protocol v2", id="no-json"),
    ],
)
def test_what_is_refused_comes_with_the_servers_words(
    server: Server, service: Service, status: int, answer: Any, words: str
) -> None:
    server.replies(answer, status)
    with pytest.raises(PredictionError, match=words):
        request_inference(service, Route(server.url), "v2", [[1]], None)


def test_a_server_that_is_not_there(service: Service) -> None:
    with pytest.raises(PredictionError, match=r"cannot be reached at http://127\.0\.0\.1:9"):
        request_inference(service, Route("http://127.0.0.1:9"), "v2", [[1]], None)


def test_what_no_protocol_can_say_is_refused_before_it_is_sent(server: Server, service: Service) -> None:
    with pytest.raises(NotSupportedError, match="no parameters"):
        request_inference(service, Route(server.url), "v1", [[1]], {"top": 3})
    with pytest.raises(PredictionError, match="not equally long"):
        request_inference(service, Route(server.url), "v2", [[1], [1, 2]], None)
    assert not server.asked
