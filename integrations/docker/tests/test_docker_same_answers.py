"""One MLflow folder, served in three ways, answers the same requests with the same bytes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
import requests
from stackkit_docker.deployer import DockerModelDeployer

from stackkit import Client
from stackkit.stack import ComponentType

pytestmark = [pytest.mark.docker, pytest.mark.environments]

_ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
_COLUMNS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
_RECORD = dict(zip(_COLUMNS, _ROWS[0], strict=True))
_CSV = "\n".join(",".join(map(str, row)) for row in [_COLUMNS, *_ROWS])
_V2_INPUT = {"name": "rows", "shape": [2, 4], "datatype": "FP64", "data": _ROWS}

REQUESTS = {
    "split": ("/invocations", "application/json", {"dataframe_split": {"columns": _COLUMNS, "data": _ROWS}}),
    "records": (
        "/invocations",
        "application/json",
        {"dataframe_records": [_RECORD]},
    ),
    "instances": ("/invocations", "application/json", {"instances": [_RECORD]}),
    "csv": ("/invocations", "text/csv", _CSV),
    "one column too few": ("/invocations", "application/json", {"dataframe_split": {"columns": ["a"], "data": [[1]]}}),
    "no JSON": ("/invocations", "application/json", "{"),
    "v2": ("/v2/models/iris/infer", "application/json", {"inputs": [_V2_INPUT]}),
}


TRAINING = """
import sys
from mlflow.models import infer_signature
from mlflow.sklearn import save_model
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

features, classes = load_iris(return_X_y=True, as_frame=True)
model = LogisticRegression(max_iter=1000).fit(features, classes)
signature = infer_signature(features, model.predict(features))
save_model(model, sys.argv[1], serialization_format="cloudpickle", signature=signature)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A scikit-learn model as MLflow saves it, that asks for the libraries which it was trained with."""
    folder = tmp_path / "model"
    subprocess.run([sys.executable, "-W", "ignore", "-c", TRAINING, str(folder)], check=True, capture_output=True)
    # MLflow asks for itself too, which takes minutes to install and is not needed to serve this model
    asked = [f"{name}=={version(name)}" for name in ("scikit-learn", "cloudpickle", "numpy", "pandas", "pyyaml")]
    (folder / "requirements.txt").write_text("\n".join(asked), encoding="utf-8")
    return folder


@contextmanager
def served(model: Path) -> Iterator[str]:
    """The address at which ``stackkit serve`` serves the model."""
    command = [sys.executable, "-m", "stackkit", "serve", str(model), "--port=0", "--model-name=iris"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            for line in server.stderr:
                if found := re.search(r"serving at (\S+)", line):
                    yield found[1]
                    return
            pytest.fail("it ended before it served")
        finally:
            server.terminate()
            server.stderr.read()


def answers(address: str) -> dict[str, tuple[int, str, bytes]]:
    given = {}
    for name, (path, content_type, body) in REQUESTS.items():
        data = body if isinstance(body, str) else json.dumps(body)
        headers = {"Content-Type": content_type}
        response = requests.post(f"{address}{path}", data=data, headers=headers, timeout=30)
        given[name] = (response.status_code, response.headers["Content-Type"], response.content)
    return given


def test_three_servers_of_one_model_give_the_same_bytes(
    model: Path, client: Client, deployer: DockerModelDeployer
) -> None:
    with served(model) as address:
        expected = answers(address)
    assert {name: status for name, (status, _, _) in expected.items()} == {
        name: 400 if name in ("one column too few", "no JSON") else 200 for name in REQUESTS
    }
    client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
    for other, fields in ((client.model_deployer("local"), {"env_manager": "uv"}), (deployer, {})):
        service = other.deploy_model(model_name="iris", model_uri=str(model), timeout=900, **fields)
        assert answers(str(service.prediction_url).removesuffix("/invocations")) == expected, other.name
        service.delete()
