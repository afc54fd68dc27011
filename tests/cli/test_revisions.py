"""``models update | rollback | history | prune`` and ``model-deployer watch``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import Field, SecretStr

from stackkit import Client
from stackkit.cli import upkeep
from stackkit.cli.main import cli
from stackkit.cli.models import HISTORY_COLUMNS
from stackkit.environments.models import resolve
from stackkit.errors import DeploymentError
from stackkit.model_deployers import Operation, ServiceState
from stackkit.model_deployers.memory import MemoryModelDeployer, MemoryModelDeployerFlavor, MemoryServiceConfig
from stackkit.stack import ComponentType
from stackkit.stack.configs import MASK

FLAVOR = "stackkit.model_deployers.memory.MemoryModelDeployerFlavor"
MODELS = ("model-deployer", "models")


@pytest.fixture
def deployer(tmp_path: Path) -> MemoryModelDeployer:
    client = Client()
    client.flavors.register(ComponentType.MODEL_DEPLOYER, FLAVOR)
    client.register_component(ComponentType.MODEL_DEPLOYER, "memory", "memory", {"platform": str(tmp_path)})
    loaded = client.model_deployer()
    assert isinstance(loaded, MemoryModelDeployer)
    loaded.deploy_model(model_name="iris", model_uri="one", timeout=5)
    return loaded


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, [*MODELS, *arguments])


def printed(*arguments: str) -> Any:
    result = run(*arguments, "--output", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


class NestedServiceConfig(MemoryServiceConfig):
    env: dict[str, SecretStr] = Field(default={})


class NestedFlavor(MemoryModelDeployerFlavor):
    NAME = "nested"
    service_config_class = NestedServiceConfig


def test_one_key_of_a_nested_field_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flavor_of_revisions", sys.modules[__name__])
    client = Client()
    client.flavors.register(ComponentType.MODEL_DEPLOYER, "flavor_of_revisions.NestedFlavor")
    client.register_component(ComponentType.MODEL_DEPLOYER, "nested", "nested", {"platform": str(tmp_path)})
    client.secrets.create("vault", {"token": "hunter2"})
    given = ("-c", "env.A=1", "-c", "env.TOKEN={{vault.token}}")
    printed("deploy", "--model-name", "iris", "--model-uri", "one", *given)
    updated = printed("update", "iris", "-c", "env.A=2", "-c", "env.B=3")
    assert updated["config"]["env"] == {"A": MASK, "B": MASK, "TOKEN": "{{vault.token}}"}
    service = client.servers.get("iris")
    with client.database.read() as connection:
        revealed = client.secrets.reveal(connection, service.stored()["config"])
    assert revealed["env"] == {"A": "2", "B": "3", "TOKEN": "hunter2"}


@pytest.mark.usefixtures("deployer")
def test_an_update_a_rollback_and_their_history() -> None:
    updated = printed("update", "iris", "--model-uri", "two", "-c", "replicas=3")
    assert (updated["revision"], updated["model_uri"], updated["config"]["replicas"]) == (2, "two", 3)
    back = printed("rollback", "iris")
    assert (back["revision"], back["model_uri"], back["config"]["replicas"]) == (3, "one", 1)
    assert printed("rollback", "iris", "--to", "2")["model_uri"] == "two"
    assert [event["action"] for event in printed("history", "iris")][:3] == ["deploy", "start", "replace"]
    assert [each["number"] for each in printed("history", "iris", "--revisions")] == [1, 2, 3, 4]


@pytest.mark.usefixtures("deployer")
def test_the_table_of_revisions_tells_of_a_configuration_what_its_other_columns_do_not() -> None:
    header, line = run("history", "iris", "--revisions").stdout.splitlines()
    config = json.loads(line[header.index("CONFIG") :])
    assert config == {"model_name": "iris", "replicas": 1, "behaviour": "run"}


@pytest.mark.usefixtures("deployer")
def test_a_failed_update_says_why_and_that_the_old_one_serves() -> None:
    result = run("update", "iris", "-c", "behaviour=fail")
    assert result.exit_code == 1
    assert "it is broken" in result.stderr
    assert printed("describe", "iris")["state"] == "active"
    assert any("revision 1 serves again" in event["message"] for event in printed("history", "iris"))


def test_the_table_of_a_history_leaves_logs_out() -> None:
    message = HISTORY_COLUMNS[-1]
    assert message.text("It did not start.\nThe end of its log:\n  Traceback") == "It did not start."
    assert message.text("") == message.text(None) == "-"


def test_a_list_without_refresh_shows_what_is_recorded(deployer: MemoryModelDeployer) -> None:
    deployer.platform.servers[deployer.get_model_server("iris").id].running = False
    assert [row["state"] for row in printed("list", "--no-refresh")] == ["active"]
    assert [row["state"] for row in printed("list")] == ["error"]
    assert [row["state"] for row in printed("list", "--no-refresh")] == ["error"]


@pytest.mark.usefixtures("deployer")
def test_a_revision_that_does_not_exist_is_refused() -> None:
    result = run("rollback", "iris", "--to", "9")
    assert result.exit_code == 1
    assert "Hint: It has: 1." in result.stderr


def test_the_history_outlives_the_server(deployer: MemoryModelDeployer) -> None:
    service = deployer.get_model_server("iris")
    service.delete()
    assert printed("history", service.id)[-1]["action"] == "delete"


def test_prune_deletes_what_is_stopped_for_long_enough(deployer: MemoryModelDeployer) -> None:
    kept = deployer.deploy_model(model_name="other", model_uri="one", timeout=5)
    stopped = deployer.get_model_server("iris").stop()
    assert "no server to prune" in run("prune", "--older-than", "1h").stderr
    result = run("prune", "--older-than", "0s")
    assert result.exit_code == 0
    assert result.stdout == f"{stopped.id}\n"
    assert [service.id for service in deployer.find_model_server()] == [kept.id]


def test_prune_goes_on_past_what_cannot_be_deleted(
    deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = deployer.deploy_model(model_name="stuck", model_uri="one", timeout=5).stop()
    stopped = deployer.get_model_server("iris").stop()
    delete = MemoryModelDeployer.do_delete

    def refuse_one(self: MemoryModelDeployer, operation: Operation) -> None:
        if operation.service.id == stuck.id:
            raise DeploymentError("The platform says no.")
        delete(self, operation)

    monkeypatch.setattr(MemoryModelDeployer, "do_delete", refuse_one)
    result = run("prune", "--older-than", "0s")
    assert result.exit_code == 1
    assert result.stdout == f"{stopped.id}\n"
    assert "'stuck' could not be deleted: The platform says no." in result.stderr
    assert "1 of 2 model servers could not be deleted" in result.stderr
    assert [service.id for service in deployer.find_model_server()] == [stuck.id]


@pytest.mark.parametrize("how", ["started", "back by itself", "deleted"])
def test_prune_leaves_what_has_changed_while_it_asked(
    deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    service = deployer.get_model_server("iris")
    deployer.platform.servers[service.id].running = False
    assert deployer.get_model_server("iris").status.state is ServiceState.ERROR

    def change(*_: object) -> None:
        if how == "started":
            service.start()
        elif how == "deleted":
            service.delete()
        else:
            deployer.platform.servers[service.id].running = True

    monkeypatch.setattr(upkeep, "confirm_deletion", change)
    result = run("prune", "--older-than", "0s")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "'iris' was left alone" in result.stderr
    assert len(deployer.find_model_server(running=True)) == (how != "deleted")


def test_prune_sweeps_what_no_server_names(home: Path, tmp_path: Path, deployer: MemoryModelDeployer) -> None:
    client = Client()
    client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
    (tmp_path / "model.py").write_text("def predict(data):\n    return [1]\n", encoding="utf-8")
    resolve(f"{tmp_path}/model.py:predict", models_folder=home / "models")
    result = run("prune")
    assert result.exit_code == 0
    assert "Removed the files of 1 model that no server names." in result.stderr
    assert not list((home / "models").iterdir())
    assert len(deployer.find_model_server()) == 1


def test_a_duration_that_is_none_is_wrong_usage() -> None:
    result = run("prune", "--older-than", "soon")
    assert result.exit_code == 2
    assert "30m" in result.stderr


def test_watch_starts_again_what_was_killed_until_it_is_told_to_end(home: Path, tmp_path: Path) -> None:
    client = Client()
    client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
    (tmp_path / "model.py").write_text("def predict(data):\n    return [1]\n", encoding="utf-8")
    service = client.model_deployer().deploy_model(model_name="m", model_uri=f"{tmp_path}/model.py:predict")
    try:
        command = [sys.executable, "-m", "stackkit", "model-deployer", "watch", "--interval", "0.1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as watching:
            assert watching.stdout is not None
            assert "Watching" in watching.stdout.readline()
            pid = int(service.deployer.do_info(service)["PID"])
            os.kill(pid, signal.SIGKILL)
            assert watching.stdout.readline() == f"restart: m ({service.id})\n"
            watching.send_signal(signal.SIGTERM)
            assert watching.wait(60) == 0
        assert service.refresh().is_running
    finally:
        service.delete()
