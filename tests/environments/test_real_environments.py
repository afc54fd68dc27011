"""Environments of real packages, from the package index: what a model pins is what it runs with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackkit import Client
from stackkit.environments.interpreters import find_python
from stackkit.model_deployers import BaseModelDeployer
from stackkit.stack import ComponentType

pytestmark = pytest.mark.environments

OLD_PINS = """\
pydantic==1.10.13
sqlalchemy==1.3.24
"""
OLD_PINS_MODEL = """\
import sys
import pydantic
import sqlalchemy

class Row(pydantic.BaseModel):
    value: float

    @pydantic.validator("value")  # pydantic 2 would warn
    def doubled(cls, value):
        return value * 2

def predict(data):
    return [[Row(value=row[0]).dict()["value"], pydantic.VERSION, sqlalchemy.__version__] for row in data]

def version(data):
    return ["%d.%d" % sys.version_info[:2]] * len(data)
"""
OLD_LEARN = """\
scikit-learn==1.5.2
numpy==1.26.4
"""
TRAIN = """\
import sys, joblib, numpy as np
from sklearn.linear_model import LinearRegression
joblib.dump(LinearRegression().fit(np.eye(3), [1.0, 2.0, 3.0]), sys.argv[1])
"""


@pytest.fixture(autouse=True)
def _index() -> None:
    if "environments" not in os.environ.get("STACKKIT_TEST_REQUIRE", ""):
        pytest.skip("installs from the package index, for a minute: STACKKIT_TEST_REQUIRE=environments")


@pytest.fixture
def deployer(client: Client) -> Iterator[BaseModelDeployer]:
    client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
    yield client.model_deployer("local")
    for service in list(client.servers.find(refresh=False)):
        service.delete()


@pytest.mark.parametrize("manager", ["uv", "virtualenv"])
def test_a_model_that_pins_pydantic_1_and_an_old_sqlalchemy(
    deployer: BaseModelDeployer, tmp_path: Path, manager: str
) -> None:
    (tmp_path / "model.py").write_text(OLD_PINS_MODEL)
    (tmp_path / "requirements.txt").write_text(OLD_PINS)
    service = deployer.deploy_model(model_name="m", model_uri=f"{tmp_path}/model.py:predict", env_manager=manager)
    assert service.predict([[2.0], [3.0]]) == [[4.0, "1.10.13", "1.3.24"], [6.0, "1.10.13", "1.3.24"]]


def test_a_model_of_an_older_scikit_learn(client: Client, deployer: BaseModelDeployer, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(OLD_LEARN)
    (tmp_path / "model.joblib").write_bytes(b"not trained yet")
    chosen, built = client.environments.prepare(str(tmp_path / "model.joblib"))
    assert built is not None
    assert any("scikit-learn ==1.5.2" in text for text in chosen.differences)
    subprocess.run([built.python, "-P", "-c", TRAIN, str(tmp_path / "model.joblib")], check=True)
    service = deployer.deploy_model(model_name="m", model_uri=str(tmp_path / "model.joblib"))
    (environment,) = service.status.details["environments"].values()
    assert environment["name"] == built.name
    assert service.predict([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) == pytest.approx([1.0, 3.0])


def test_a_model_of_another_python(deployer: BaseModelDeployer, tmp_path: Path) -> None:
    others = [minor for minor in ("3.11", "3.12", "3.13") if minor != f"3.{sys.version_info.minor}"]
    minor = next(filter(find_python, others), None)
    if minor is None:
        pytest.skip(f"there is no other Python here: {', '.join(others)}")
    (tmp_path / "MLmodel").write_text(
        "flavors:\n  python_function: {loader_module: model, code: code, env: conda.yaml}\n"
    )
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "model.py").write_text(
        "import sys\n\nclass Model:\n    def predict(self, data):\n"
        "        return ['%d.%d' % sys.version_info[:2]] * len(data)\n\ndef _load_pyfunc(path):\n    return Model()\n"
    )
    (tmp_path / "conda.yaml").write_text(f"dependencies: [python={minor}, pip: [mlflow-skinny]]\n")
    service = deployer.deploy_model(model_name="m", model_uri=str(tmp_path), timeout=600)
    assert service.predict([[1.0]]) == [minor]
