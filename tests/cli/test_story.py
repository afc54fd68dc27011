"""One whole story on this machine, from the registration to the deletion."""

from __future__ import annotations

import json

import joblib
import pytest
import requests

sklearn_linear_model = pytest.importorskip("sklearn.linear_model")

MODELS = ("model-deployer", "models")


@pytest.fixture
def model_uri(tmp_path) -> str:
    path = tmp_path / "model.joblib"
    joblib.dump(sklearn_linear_model.LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]), path)
    return str(path)


@pytest.fixture
def no_server_left(read, ok):
    """Whatever a failed test has left running ends with it."""
    yield
    for row in read(*MODELS, "list"):
        ok(*MODELS, "delete", row["uuid"])


@pytest.mark.usefixtures("no_server_left")
def test_from_register_to_delete(ok, fails, read, model_uri):
    ok("model-deployer", "register", "local", "--flavor=local")
    assert ok("model-deployer", "get").stdout == "local\n"

    deployed = ok(
        *MODELS, "deploy", "--model-uri", model_uri, "--model-name", "iris", "-c", "env.TOKEN=hunter2", "-o", "json"
    )
    service = json.loads(deployed.stdout)
    uuid = service["uuid"]
    assert service["state"] == "active"
    assert service["config"]["env"] == {"TOKEN": "********"}

    assert [row["uuid"] for row in read(*MODELS, "list", "--running")] == [uuid]
    for command in (("describe", uuid), ("describe", uuid, "-o", "json"), ("list", "--columns=all"), ("logs", uuid)):
        assert "hunter2" not in ok(*MODELS, *command).output

    url = ok(*MODELS, "get-url", uuid).stdout.strip()
    assert requests.post(url, json={"inputs": [[0], [3]]}, timeout=30).json() == {"predictions": [0, 1]}
    assert json.loads(ok(*MODELS, "predict", uuid, "-d", "[[0], [3]]").stdout) == [0, 1]
    assert ok(*MODELS, "logs", uuid, "--tail", "1").stdout.count("\n") == 1

    fails("model-deployer", "delete", "local")

    ok(*MODELS, "stop", uuid)
    assert read(*MODELS, "describe", uuid)["state"] == "inactive"
    assert read(*MODELS, "list", "--running") == []
    with pytest.raises(requests.ConnectionError):
        requests.post(url, json={"inputs": [[0]]}, timeout=30)

    assert read(*MODELS, "start", uuid)["prediction_url"] == url
    ok(*MODELS, "delete", uuid)
    assert read(*MODELS, "list") == []
    ok("model-deployer", "delete", "local")
