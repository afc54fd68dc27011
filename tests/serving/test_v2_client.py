"""The official client of the Open Inference Protocol against a running server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# what the client and its dependencies warn about is none of ours
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def client(tmp_path: Path, start_server: Callable[..., Any]) -> Iterator[Any]:
    """A client of a server whose model returns what it was given, and which process it is in."""
    tritonclient = pytest.importorskip("tritonclient.http")
    path = tmp_path / "echo.py"
    path.write_text("def predict(data):\n    return data if isinstance(data, dict) else {'echo': data}\n")
    server = start_server(f"{path}:predict", model_name="echo model")
    client = tritonclient.InferenceServerClient(f"127.0.0.1:{server.wait_ready().port}")
    yield client
    client.close()


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo model")
    assert client.is_model_ready("echo model", "1")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["name"] == "stackkit"
    assert client.get_model_metadata("echo model")["name"] == "echo model"
    (model,) = client.get_model_repository_index()
    assert (model["name"], model["version"], model["state"]) == ("echo model", "1", "READY")


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_inference(client: Any, is_binary: bool, compression: str | None) -> None:
    import tritonclient.http as http

    numbers = np.arange(6, dtype="int64").reshape(2, 3)
    text = np.array(["a", "é"], dtype=object)
    given = [http.InferInput("n", numbers.shape, "INT64"), http.InferInput("s", text.shape, "BYTES")]
    given[0].set_data_from_numpy(numbers, binary_data=is_binary)
    given[1].set_data_from_numpy(text, binary_data=is_binary)
    outputs = [http.InferRequestedOutput(name, binary_data=is_binary) for name in ("s", "n")]
    result = client.infer(
        "echo model", given, outputs=outputs, request_id="7", request_compression_algorithm=compression
    )
    assert result.get_response()["id"] == "7"
    np.testing.assert_array_equal(result.as_numpy("n"), numbers)
    received = [each.decode() if isinstance(each, bytes) else each for each in result.as_numpy("s").tolist()]
    assert received == ["a", "é"]


def test_errors_are_the_clients_own(client: Any) -> None:
    import tritonclient.http as http
    from tritonclient.utils import InferenceServerException

    given = http.InferInput("n", [1], "INT64")
    given.set_data_from_numpy(np.array([1]))
    with pytest.raises(InferenceServerException, match="no model of that name"):
        client.infer("other", [given])
    with pytest.raises(InferenceServerException, match="has no output nothing"):
        client.infer("echo model", [given], outputs=[http.InferRequestedOutput("nothing")])
