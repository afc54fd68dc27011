"""``serve``: the server started as SageMaker and other platforms start a container."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from stackkit.serving import commands
from stackkit.serving.container import UnknownOptionError, defaults

COMMAND = [sys.executable, "-P", "-m", "stackkit.serving", "serve"]
SAGEMAKER = {
    "X-Amzn-SageMaker-Custom-Attributes": "trace=1",
    "X-Amzn-SageMaker-Target-Model": "a.tar.gz",
    "X-Amzn-SageMaker-Inference-Id": "7",
}
"""Headers that SageMaker passes on, and that a container has to tolerate."""


def test_without_a_word_it_is_what_sagemaker_expects() -> None:
    assert defaults({}) == {"model": "/opt/ml/model", "host": "0.0.0.0", "port": "8080"}


@pytest.mark.parametrize(
    ("environment", "port"),
    [
        ({"PORT": "9000"}, "9000"),
        ({"PORT": "9000", "SAGEMAKER_BIND_TO_PORT": "9001"}, "9001"),
        ({"PORT": "9000", "SAGEMAKER_BIND_TO_PORT": "9001", "STACKKIT_SERVING_PORT": "9002"}, "9002"),
        ({"PORT": "", "STACKKIT_SERVING_PORT": ""}, "8080"),
    ],
)
def test_the_port_is_the_one_of_the_name_nearest_to_us(environment: Mapping[str, str], port: str) -> None:
    assert defaults(environment)["port"] == port


def test_sagemakers_names_for_workers_and_time() -> None:
    given = {"SAGEMAKER_MODEL_SERVER_WORKERS": "3", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "3600", "SAGEMAKER_REGION": "x"}
    options = defaults(given)
    assert (options["workers"], options["request_timeout"]) == ("3", "3600")


def test_every_option_can_be_given_in_the_environment() -> None:
    options = {action.dest for action in commands._parser()._actions} - {"help", "claim", "starter", "python"}
    assert defaults({f"STACKKIT_SERVING_{name.upper()}": "x" for name in options}) == dict.fromkeys(options, "x")


def test_a_name_that_is_no_option_is_refused() -> None:
    with pytest.raises(UnknownOptionError, match=r"STACKKIT_SERVING_WORKER is no option .* STACKKIT_SERVING_WORKERS"):
        defaults({"STACKKIT_SERVING_WORKER": "2"})


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"STACKKIT_SERVING_WORKER": "2"}, "STACKKIT_SERVING_WORKER is no option"),
        ({"SAGEMAKER_MODEL_SERVER_WORKERS": "many"}, "--workers: invalid int value: 'many'"),
        ({"STACKKIT_SERVING_BATCHING": "always"}, "batching is none of"),
        ({"STACKKIT_SERVING_MODEL": "/nowhere", "STACKKIT_SERVING_HOST": "127.0.0.1", "PORT": "0"}, "no model at"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(environment: Mapping[str, str], words: str) -> None:
    ended = subprocess.run(COMMAND, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert ended.returncode in (1, 2)
    assert words in ended.stderr.splitlines()[-1]


class Container:
    """A server started by ``serve``; ``ask`` sends it one request."""

    def __init__(self, environment: Mapping[str, str], *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
        )
        self.log: list[str] = []
        self.port = self._port()

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str | None, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()} | SAGEMAKER
            connection.request("GET" if body is None else "POST", path, body, given)
            response = connection.getresponse()
            return response.status, response.getheader("content-type"), response.read()
        finally:
            connection.close()

    def _port(self) -> int:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if match := re.search(r"serving at http://[\d.]+:(\d+)", line):
                return int(match[1])
        raise AssertionError("".join(self.log))


@pytest.fixture
def start_container() -> Iterator[Callable[..., Container]]:
    """Starts a server by ``serve``; it is on a loopback address, on a port of the system's, and ends with the test."""
    started: list[Container] = []

    def start(*arguments: str, **environment: str) -> Container:
        away = {"SAGEMAKER_BIND_TO_PORT": "0", "STACKKIT_SERVING_HOST": "127.0.0.1"}
        started.append(Container({**away, **environment}, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.process.terminate()
        each.process.communicate()


@pytest.fixture
def model_folder(tmp_path: Path, estimators: Path) -> Path:
    """What stands for /opt/ml/model: a model file beside papers about it."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.joblib").write_bytes((estimators / "named.joblib").read_bytes())
    (folder / "requirements.txt").write_text("scikit-learn\n")
    return folder


BODIES = {
    "application/json": b'{"dataframe_records": [{"a": 1, "b": 0}, {"a": 2, "b": 1}]}',
    "text/csv": b"a,b\n1,0\n2,1\n",
    "application/jsonlines": b'{"a": 1, "b": 0}\n{"a": 2, "b": 1}\n',
}


def numbers_in(kind: str | None, answer: bytes) -> list[float]:
    if kind == "application/json":
        numbers: list[float] = json.loads(answer)["predictions"]
        return numbers
    return [float(line) for line in answer.splitlines()]


def test_sagemakers_contract(start_container: Callable[..., Container], model_folder: Path) -> None:
    container = start_container(STACKKIT_SERVING_MODEL=str(model_folder), SAGEMAKER_MODEL_SERVER_WORKERS="2")
    assert container.ask("/ping")[0] == 200
    for content_type, accept in itertools.product(BODIES, [*BODIES, "*/*"]):
        status, kind, answer = container.ask(
            "/invocations", BODIES[content_type], Content_Type=content_type, Accept=accept
        )
        assert (status, kind) == (200, accept if accept in BODIES else "application/json")
        assert numbers_in(kind, answer) == pytest.approx([2.0, 5.0])
    assert container.ask("/invocations", b"1,2", Content_Type="text/libsvm")[0] == 415
    container.process.terminate()
    assert container.process.wait() == 0


def test_an_argument_wins_over_the_environment(start_container: Callable[..., Container], echo_model: str) -> None:
    container = start_container(echo_model, "--model-name", "mine", STACKKIT_SERVING_MODEL_NAME="other")
    assert container.ask("/v2/models/mine/ready")[0] == 200


def test_it_is_asked_from_other_machines(start_container: Callable[..., Container], echo_model: str) -> None:
    """On every address there is no name that it could insist on being asked for by."""
    container = start_container(echo_model, STACKKIT_SERVING_HOST="0.0.0.0")
    assert container.ask("/ping", Host="model.internal:8080")[0] == 200


def test_ping_is_answered_while_the_model_is_busy(start_container: Callable[..., Container], tmp_path: Path) -> None:
    """SageMaker gives /ping two seconds, whatever the model does."""
    with socket.create_server(("127.0.0.1", 0)) as gate:
        gate.settimeout(60)
        path = tmp_path / "slow.py"
        wait = f"socket.create_connection({gate.getsockname()!r}).recv(1)"
        path.write_text(f"import socket\ndef predict(data):\n    {wait}\n    return data\n")
        container = start_container(f"{path}:predict")
        connection = http.client.HTTPConnection("127.0.0.1", container.port, timeout=60)
        connection.request("POST", "/invocations", b'{"inputs": [1]}', {"Content-Type": "application/json"})
        busy, _ = gate.accept()
        with busy, contextlib.closing(connection):
            assert container.ask("/ping")[0] == 200
            busy.sendall(b"!")
            assert json.loads(connection.getresponse().read()) == {"predictions": [1]}
