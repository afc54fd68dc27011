"""Services whose models bring an environment of their own: started in it, rolled over to another, and rolled back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests

from stackkit import Client
from stackkit.errors import InvalidConfigError, ModelError
from stackkit.model_deployers import BaseModelDeployer, LocalServiceConfig, Service, ServiceState
from stackkit.serving import claims

MODEL = """
import answers
import os

def predict(data):
    return [answers.ANSWER] * len(data)

def device(data):
    return [os.environ["CUDA_VISIBLE_DEVICES"]] * len(data)
"""

AsksFor = Callable[..., Path]


@pytest.fixture
def model(tmp_path: Path, asks_for: AsksFor) -> str:
    (tmp_path / "model.py").write_text(MODEL, encoding="utf-8")
    asks_for(tmp_path, "answers==1.0")
    return f"{tmp_path}/model.py:predict"


def supervisor_of(service: Service) -> psutil.Process:
    holder = claims.lock_holder(Path(service.status.details["folder"]))
    assert holder
    return psutil.Process(holder)


def environment_of(service: Service) -> str:
    rows = service.as_dict()["details"]["environments"]
    return str(rows[str(service.revision)]["name"])


def test_a_model_runs_in_the_environment_that_it_asks_for(
    client: Client, deployer: BaseModelDeployer, model: str, home: Path
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    assert service.predict([[1]]) == ["1.0"]
    (worker,) = supervisor_of(service).children()
    assert worker.cmdline()[0] == str(home / "environments" / environment_of(service) / "env" / "bin" / "python")
    info = deployer.do_info(service)
    assert info["ENVIRONMENT"] == f"uv {environment_of(service)}"
    assert info["DIFFERS"] == "answers ==1.0 (not here)"
    (listed,) = client.environments.find_all()
    assert listed.used_by == ("m",)


def test_the_environment_is_part_of_the_revision(
    client: Client, deployer: BaseModelDeployer, model: str, tmp_path: Path, asks_for: AsksFor
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    supervisor = supervisor_of(service)
    answers: list[str] = []
    enough, some, more = threading.Event(), threading.Event(), threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not enough.is_set():
                answer = session.post(str(service.prediction_url), json={"inputs": [[1]]}, timeout=10)
                answers.append(f"{answer.status_code} {answer.json()['predictions']}")
                some.set()
                if answers[-1].endswith("['2.0']"):
                    more.set()

    asks_for(tmp_path, "answers==2.0")
    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        assert some.wait(20)
        updated = deployer.update_model_server(service)
        assert more.wait(20)
        enough.set()
    assert [each.result() for each in asking] == [None, None]
    assert set(answers) == {"200 ['1.0']", "200 ['2.0']"}
    assert (updated.revision, updated.prediction_url) == (2, service.prediction_url)
    assert supervisor_of(updated) == supervisor
    assert environment_of(updated) != environment_of(service)

    names = {environment_of(service), environment_of(updated)}
    assert client.environments.remove(names) == [], "a rollback needs the first"
    back = deployer.rollback_model_server(service)
    assert back.predict([[1]]) == ["1.0"]
    assert environment_of(back) == environment_of(service)
    back.delete()
    assert set(client.environments.remove(names)) == names


def test_a_requirement_that_cannot_be_met_leaves_the_old_one_serving(
    deployer: BaseModelDeployer, model: str, tmp_path: Path, asks_for: AsksFor, home: Path
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    asks_for(tmp_path, "answers==3.0")
    with pytest.raises(ModelError, match=r"could not be built with uv: .*answers==3\.0"):
        deployer.update_model_server(service)
    seen = deployer.get_model_server(service)
    assert (seen.is_running, seen.revision, seen.predict([[1]])) == (True, 1, ["1.0"])
    assert [path.name for path in (home / "environments").iterdir()] == [environment_of(seen)]
    with pytest.raises(ModelError, match=r"answers==3\.0"):
        deployer.deploy_model(model_name="other", model_uri=model)
    (failed,) = deployer.find_model_server(model_name="other")
    assert failed.status.state is ServiceState.ERROR
    assert "answers==3.0" in failed.status.message


def test_a_server_goes_over_from_this_environment_to_another_and_back(
    deployer: BaseModelDeployer, model: str, tmp_path: Path, asks_for: AsksFor
) -> None:
    (tmp_path / "plain.py").write_text("def predict(data):\n    return ['here'] * len(data)\n", encoding="utf-8")
    (tmp_path / "requirements.txt").unlink()
    service = deployer.deploy_model(model_name="m", model_uri=f"{tmp_path}/plain.py:predict")
    assert deployer.do_info(service)["ENVIRONMENT"] == "local"
    asks_for(tmp_path, "answers==1.0")
    moved = deployer.update_model_server(service, model_uri=model)
    assert (supervisor_of(moved), moved.predict([[1]])) == (supervisor_of(service), ["1.0"])
    back = deployer.rollback_model_server(moved)
    assert (supervisor_of(back), back.predict([[1]])) == (supervisor_of(service), ["here"])
    assert "environments" not in back.status.details or "3" not in back.status.details["environments"]


def test_an_environment_that_somebody_deleted_is_built_again(
    client: Client, deployer: BaseModelDeployer, model: str, home: Path
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    service.stop()
    (home / "environments" / environment_of(service) / "environment.json").unlink()
    service.start()
    assert service.predict([[1]]) == ["1.0"]


def test_a_server_that_is_adopted_keeps_its_environment(
    client: Client, deployer: BaseModelDeployer, model: str
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    name = environment_of(service)
    deployer.delete_model_server(service, forget=True)
    adopted = deployer.adopt_model_server(service.uuid)
    assert environment_of(adopted) == name
    assert client.environments.remove([name]) == []


def test_each_worker_has_its_device(
    deployer: BaseModelDeployer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "model.py").write_text(MODEL.replace("import answers\n", ""), encoding="utf-8")
    service = deployer.deploy_model(model_name="m", model_uri=f"{tmp_path}/model.py:device", gpus=["2", "5"])
    workers = supervisor_of(service).children()
    assert sorted(worker.environ()["CUDA_VISIBLE_DEVICES"] for worker in workers) == ["2", "5"]
    assert service.predict([[1]])[0] in {"2", "5"}
    fewer = deployer.update_model_server(service, gpus=["5"])
    assert (fewer.revision, fewer.predict([[1]])) == (2, ["5"])
    none = deployer.update_model_server(service, gpus=[])
    assert none.predict([[1]]) == [""], "no GPU is seen that was not named"


def test_a_hidden_gpu_is_not_taken(
    deployer: BaseModelDeployer, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(InvalidConfigError, match="GPU 0 is hidden here"):
        deployer.deploy_model(model_name="m", model_uri=model, gpus=["0"])


@pytest.mark.parametrize("given", ["0, 1", ["0", "1"], [0, 1]], ids=["text", "texts", "numbers"])
def test_devices_are_written_as_cuda_does(given: object) -> None:
    config = LocalServiceConfig.model_validate({"model_name": "m", "model_uri": "m", "gpus": given})
    assert config.gpus == ["0", "1"]


def test_there_is_one_worker_for_each_device() -> None:
    with pytest.raises(ValueError, match="gpus names 2 devices, one worker each, and workers is 3"):
        LocalServiceConfig(model_name="m", model_uri="m", gpus=["0", "1"], workers=3)
