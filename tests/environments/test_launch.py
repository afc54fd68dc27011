from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest

from stackkit.environments.launch import (
    check_gpus,
    claim_command,
    ports,
    predict_command,
    serve_command,
    server_environment,
)
from stackkit.errors import InvalidConfigError

SERVER = ["-P", "-m", "stackkit.serving"]


def test_serve_command() -> None:
    command = serve_command("/m/model.joblib", {"host": "127.0.0.1", "port": 0, "max_batch_size": 2, "format": None})
    assert command == [
        sys.executable, *SERVER, "/m/model.joblib", "--host=127.0.0.1", "--port=0", "--max-batch-size=2",
    ]  # fmt: skip


def test_claim_command() -> None:
    command = claim_command(Path("/home/services/a b"), "token", 7)
    assert command == [sys.executable, *SERVER, "--claim", "/home/services/a b", "token", "--starter", "7"]


def test_the_server_does_not_see_our_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKKIT_DATABASE_URL", "postgresql://u:p@db/stackkit")
    monkeypatch.setenv("STACKKIT_SECRET_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    environment = server_environment({"OMP_NUM_THREADS": "1", "MODEL_FLAG": "yes"})
    assert not [name for name in environment if name.startswith("STACKKIT_")]
    assert environment["PYTHONPATH"] == "/somewhere"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["MODEL_FLAG"] == "yes"


def test_no_gpu_is_taken_that_nobody_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert server_environment({})["CUDA_VISIBLE_DEVICES"] == ""
    assert server_environment({"CUDA_VISIBLE_DEVICES": "1"})["CUDA_VISIBLE_DEVICES"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert server_environment({})["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_a_hidden_gpu_is_refused() -> None:
    check_gpus(["0", "1"], {})
    check_gpus(["3"], {"CUDA_VISIBLE_DEVICES": "2, 3"})
    check_gpus([], {"CUDA_VISIBLE_DEVICES": ""})
    with pytest.raises(InvalidConfigError, match="GPU 0 is hidden here: CUDA_VISIBLE_DEVICES is '2,3'"):
        check_gpus(["0", "2"], {"CUDA_VISIBLE_DEVICES": "2,3"})


def test_predict_command_with_another_interpreter() -> None:
    command = predict_command("/m", Path("a.csv"), Path("b.csv"), {}, {"format": None}, python="/env/bin/python")
    assert command[:5] == ["/env/bin/python", "-P", "-m", "stackkit.serving.batch", "/m"]


def test_a_service_is_given_the_same_ports_each_time() -> None:
    service = uuid.uuid4()
    given = list(ports(service))
    assert given == list(ports(service))
    assert len(set(given)) == len(given), "each once"
    assert min(given) > 1023
    assert max(given) < 32768, "Linux gives those from here on to outgoing connections"
    assert next(ports(uuid.UUID(int=service.int + 1))) != given[0]
