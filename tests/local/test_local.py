"""The local flavor with real processes: what outlives whom, what is signalled, what is kept and what is told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from stackkit import Client
from stackkit.environments import sweeping
from stackkit.errors import AlreadyExistsError, DeploymentError, InUseError, LeaseLostError, ModelError, NotFoundError
from stackkit.local import folders
from stackkit.local.folders import ServerFolder
from stackkit.local.probes import Answer
from stackkit.model_deployers import BaseModelDeployer, LocalModelDeployer, LocalServiceConfig, Service, ServiceState
from stackkit.serving import claims
from stackkit.stack import ComponentType

MODEL = """
import os

def predict(data):
    return [os.environ.get("ANSWER", "{answer}") for row in data]
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model.py").write_text(MODEL.format(answer="one"), encoding="utf-8")
    return f"{tmp_path}/model.py:predict"


def supervisor_of(service: Service) -> psutil.Process:
    holder = claims.lock_holder(folder_of(service))
    assert holder
    return psutil.Process(holder)


def folder_of(service: Service) -> Path:
    return Path(service.status.details["folder"])


def wait_until(condition: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_a_typed_configuration_and_an_http_request(deployer: BaseModelDeployer, model: str) -> None:
    service = deployer.deploy_model(LocalServiceConfig(model_name="m", model_uri=model, workers=2))
    assert isinstance(deployer, LocalModelDeployer)
    assert service.prediction_url is not None
    assert service.prediction_url.startswith("http://127.0.0.1:")
    answer = requests.post(service.prediction_url, json={"inputs": [[1], [2]]}, timeout=10)
    assert answer.json() == {"predictions": ["one", "one"]}
    assert len(supervisor_of(service).children()) == 2


def test_what_the_server_is_told_reaches_it(deployer: BaseModelDeployer, model: str) -> None:
    told = {"batching": "off", "max_batch_size": 7, "casting": "mlflow", "request_timeout": 5}
    service = deployer.deploy_model(model_name="m", model_uri=model, **told)
    launch = claims.read_launch(folder_of(service))
    assert {name: getattr(launch, name) for name in told} == told


def test_the_server_outlives_the_process_that_deployed_it(deployer: BaseModelDeployer, model: str, home: Path) -> None:
    code = (
        "import sys; from stackkit.model_deployers import LocalModelDeployer as L;"
        "L.get_active_model_deployer().deploy_model(model_name='m', model_uri=sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, model], check=True, cwd=home)
    (service,) = deployer.find_model_server(running=True)
    assert service.predict([[1]]) == ["one"]
    assert supervisor_of(service).parent() != psutil.Process()
    assert os.getsid(supervisor_of(service).pid) != os.getsid(0)


def test_only_loopback_is_bound_unless_told_otherwise(deployer: BaseModelDeployer, model: str) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    bound = {
        connection.laddr.ip
        for process in supervisor_of(service).children()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert bound == {"127.0.0.1"}


def test_a_server_that_was_killed_is_told_and_deployed_again(deployer: BaseModelDeployer, model: str) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    supervisor = supervisor_of(service)
    workers = supervisor.children()
    supervisor.kill()
    psutil.wait_procs([supervisor, *workers], timeout=20)
    seen = deployer.get_model_server(service)
    assert seen.status.state is ServiceState.ERROR
    assert "died" in seen.status.message
    again = deployer.deploy_model(model_name="m", model_uri=model)
    assert (again.uuid, again.prediction_url) == (service.uuid, service.prediction_url)
    assert again.is_running


def test_a_foreign_process_with_the_recorded_pid_is_never_signalled(deployer: BaseModelDeployer, model: str) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    supervisor = supervisor_of(service)
    supervisor.kill()
    supervisor.wait(20)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as foreign:
        state = json.loads((folder_of(service) / claims.STATE_FILE).read_text(encoding="utf-8"))
        (folder_of(service) / claims.STATE_FILE).write_text(json.dumps({**state, "pid": foreign.pid}), encoding="utf-8")
        service.stop()
        service.delete()
        assert foreign.poll() is None
        foreign.communicate(b"\n")


def test_a_foreign_file_in_the_folder_is_left_alone(deployer: BaseModelDeployer, model: str) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    foreign = folder_of(service) / "notes.txt"
    foreign.write_text("mine", encoding="utf-8")
    service.delete()
    assert [path.name for path in foreign.parent.iterdir()] == ["notes.txt"]


def test_a_deleted_server_leaves_neither_folder_nor_model(deployer: BaseModelDeployer, model: str, home: Path) -> None:
    first = deployer.deploy_model(model_name="m", model_uri=model)
    second = deployer.deploy_model(model_name="other", model_uri=model)
    kept = home / "models" / str(first.source.digest).removeprefix("sha256:")
    first.delete()
    assert kept.exists(), "the other service serves the same bytes"
    assert not folder_of(first).exists()
    second.delete()
    assert not kept.exists()


KILLED_BEFORE_THE_ROW = """
import os, signal, sys
from stackkit.model_deployers import LocalModelDeployer
from stackkit.model_deployers.lifecycle import Lifecycle
Lifecycle._insert = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
LocalModelDeployer.get_active_model_deployer().deploy_model(model_name="m", model_uri=sys.argv[1])
"""


def test_what_a_killed_deploy_has_kept_is_swept(
    client: Client, deployer: BaseModelDeployer, model: str, home: Path
) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_BEFORE_THE_ROW, model], check=False)
    assert killed.returncode == -signal.SIGKILL
    (kept,) = (home / "models").iterdir()
    assert client.servers.sweep() == [f"sha256:{kept.name}"]
    assert not list((home / "models").iterdir())
    assert client.servers.sweep() == []


def test_the_model_of_a_server_that_lost_its_row_is_not_swept(
    client: Client, deployer: BaseModelDeployer, model: str
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    deployer.delete_model_server(service, forget=True)
    assert client.servers.sweep() == []
    settings = deployer.database.settings
    assert sweeping.sweep(settings.models_folder, deployer.database.url, lambda digests: ()) == [], "another flavor's"
    adopted = deployer.adopt_model_server(service.uuid)
    adopted.stop()
    adopted.start()
    assert adopted.predict([[1]]) == ["one"]


def test_a_deploy_that_is_refused_keeps_nothing(deployer: BaseModelDeployer, model: str, tmp_path: Path) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    folder = deployer.database.settings.models_folder
    before = list(folder.iterdir())
    (tmp_path / "other.py").write_text(MODEL.format(answer="other"), encoding="utf-8")
    with pytest.raises(AlreadyExistsError):
        deployer.deploy_model(model_name="m", model_uri=f"{tmp_path}/other.py:predict")
    assert list(folder.iterdir()) == before
    assert service.predict([[1]]) == ["one"]


def test_why_it_failed_reaches_the_person(deployer: BaseModelDeployer, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no weights here')", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(DeploymentError, match="RuntimeError: no weights here"):
            deployer.deploy_model(model_name="m", model_uri=f"{broken}:predict")
    (service,) = deployer.find_model_server()
    assert service.status.state is ServiceState.ERROR
    assert "RuntimeError: no weights here" in service.status.message
    assert any("no weights here" in line for line in service.logs())
    assert claims.lock_holder(folder_of(service)) is None


def test_a_taken_port_is_told_with_who_has_it(deployer: BaseModelDeployer, model: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DeploymentError, match=rf"port {port} on 127.0.0.1 is taken by .* \(PID {os.getpid()}\)"):
            deployer.deploy_model(model_name="m", model_uri=model, port=port)
        assert taken.fileno() > 0
    assert deployer.deploy_model(model_name="m", model_uri=model, port=port).is_running


def test_a_model_retrained_to_the_same_path_is_another(deployer: BaseModelDeployer, model: str, tmp_path: Path) -> None:
    first = deployer.deploy_model(model_name="m", model_uri=model)
    (tmp_path / "model.py").write_text(MODEL.format(answer="two"), encoding="utf-8")
    first.stop()
    first.start()
    assert first.predict([[1]]) == ["one"], "the kept bytes are served until it is deployed again"
    second = deployer.deploy_model(model_name="m", model_uri=model, replace=True)
    assert (second.uuid, second.revision) == (first.uuid, 2)
    assert second.predict([[1]]) == ["two"]


def test_an_update_loses_no_request_and_keeps_the_supervisor(
    deployer: BaseModelDeployer, model: str, tmp_path: Path
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    supervisor = supervisor_of(service)
    answers: list[object] = []
    enough = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not enough.is_set():
                try:
                    answer = session.post(str(service.prediction_url), json={"inputs": [[1]]}, timeout=10)
                    answers.append((answer.status_code, answer.json()["predictions"]))
                except requests.RequestException as error:
                    answers.append(error)

    (tmp_path / "model.py").write_text(MODEL.format(answer="two"), encoding="utf-8")
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(ask)
        wait_until(lambda: len(answers) > 50)
        updated = deployer.update_model_server(service)
        count = len(answers)
        wait_until(lambda: len(answers) > count + 50)
        enough.set()
    assert {str(answer) for answer in answers} == {"(200, ['one'])", "(200, ['two'])"}
    assert (updated.revision, updated.prediction_url) == (2, service.prediction_url)
    assert supervisor_of(updated) == supervisor
    assert updated.predict([[1]]) == ["two"]


def test_an_update_that_cannot_be_loaded_leaves_the_old_one_serving(
    deployer: BaseModelDeployer, model: str, tmp_path: Path
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    supervisor = supervisor_of(service)
    (tmp_path / "model.py").write_text("raise RuntimeError('no weights here')", encoding="utf-8")
    with pytest.raises(DeploymentError, match=r"did not update: .*no weights here"):
        deployer.update_model_server(service)
    seen = deployer.get_model_server(service)
    assert (seen.is_running, seen.revision, seen.predict([[1]])) == (True, 1, ["one"])
    assert supervisor_of(seen) == supervisor


def test_what_the_supervisor_was_started_with_needs_a_new_one(deployer: BaseModelDeployer, model: str) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    supervisor = supervisor_of(service)
    updated = deployer.update_model_server(service, workers=2)
    assert (updated.revision, updated.is_running) == (2, True)
    assert updated.prediction_url == service.prediction_url
    assert supervisor_of(updated) != supervisor


def test_a_model_served_in_place_is_not_copied(deployer: BaseModelDeployer, model: str, home: Path) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model, in_place=True)
    assert service.source.reference == model
    assert not (home / "models").exists()


def test_a_model_that_is_gone_is_told(deployer: BaseModelDeployer, model: str, tmp_path: Path) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model, in_place=True)
    service.stop()
    (tmp_path / "model.py").unlink()
    with pytest.raises(ModelError, match=r"model\.py does not exist"):
        service.start()


def test_environment_variables_reach_the_server_and_are_kept_nowhere_in_clear(
    client: Client, deployer: BaseModelDeployer, model: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STACKKIT_SECRET_KEY", "c3RhY2traXQgdGVzdHMgb25seSBzdGFja2tpdCB0ZXM=")
    client.secrets.create("vault", {"answer": "hunter2-from-the-vault"})
    service = deployer.deploy_model(model_name="m", model_uri=model, env={"ANSWER": "{{vault.answer}}"})
    assert service.predict([[1]]) == ["hunter2-from-the-vault"]
    other = deployer.deploy_model(model_name="n", model_uri=model, env={"ANSWER": "hunter2-given"})
    assert other.predict([[1]]) == ["hunter2-given"]
    assert deployer.deploy_model(model_name="n", model_uri=model, env={"ANSWER": "hunter2-given"}).revision == 1
    inherited = psutil.Process(supervisor_of(other).pid).environ()
    assert not [name for name in inherited if name.startswith("STACKKIT_")]
    shown = f"{other!r} {other.config!r} {other.as_dict()} {other.config['env']} {client.servers.history(other.id)}"
    assert "hunter2" not in shown
    for path in home.rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes(), path


def test_a_start_that_somebody_overtook_starts_nothing(deployer: BaseModelDeployer, model: str) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    service.stop()
    folder = ServerFolder(folder_of(service))
    launch = folder.launch()
    assert launch is not None
    late = folder.write_launch(launch)
    folder.withdraw(launch.epoch)
    started = subprocess.run(
        [sys.executable, "-P", "-m", "stackkit.serving", "--claim", str(folder.path), late],
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode != 0
    assert "superseded" in started.stderr
    assert folder.holder() is None
    current = folder.launch()
    assert current is not None
    with pytest.raises(LeaseLostError):
        folder.write_launch(claims.Launch(token="", model="x", epoch=current.epoch - 1))


def test_a_stop_or_deletion_that_somebody_overtook_ends_nothing(deployer: BaseModelDeployer, model: str) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    folder = ServerFolder(folder_of(service))
    late = folder.launch()
    assert late is not None
    service.stop()
    service.start()
    for act in (folder.terminate, folder.remove):
        with pytest.raises(LeaseLostError):
            act(late.epoch)
    assert service.predict([[1]]) == ["one"]
    assert deployer.get_model_server(service).is_running


def test_a_server_whose_launch_somebody_has_deleted_can_be_stopped(deployer: BaseModelDeployer, model: str) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    (folder_of(service) / claims.LAUNCH_FILE).unlink()
    service.stop()
    assert service.status.state is ServiceState.INACTIVE
    assert claims.lock_holder(folder_of(service)) is None
    assert service.start().is_running


def test_a_supervisor_that_does_not_end_is_killed_in_the_end(
    deployer: BaseModelDeployer, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_KILL_AFTER_SECONDS", 0.0)
    monkeypatch.setattr("stackkit.model_deployers.waiting._REPEAT_SECONDS", 0.1)
    service = deployer.deploy_model(model_name="m", model_uri=model)
    supervisor = supervisor_of(service)
    workers = supervisor.children()
    supervisor.send_signal(signal.SIGSTOP)
    service.stop()
    assert service.status.state is ServiceState.INACTIVE
    _, alive = psutil.wait_procs([supervisor, *workers], timeout=20)
    assert not alive


def test_the_log_is_followed_until_the_server_ends(deployer: BaseModelDeployer, model: str) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    lines = service.logs(follow=True)
    first = next(lines)
    assert "worker 0 started" in first
    service.predict([[1]])
    service.stop()
    rest = list(lines)
    assert any("POST /invocations 200" in line for line in rest)
    assert any("stopped" in line for line in rest)
    assert list(service.logs(tail=2)) == [*rest][-2:]


def test_a_hung_server_is_not_called_active(deployer: BaseModelDeployer, model: str) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    (worker,) = supervisor_of(service).children()
    worker.send_signal(signal.SIGSTOP)
    seen = deployer.get_model_server(service)
    assert seen.status.state is ServiceState.ERROR
    assert "/ping" in seen.status.message
    worker.send_signal(signal.SIGCONT)
    wait_until(lambda: deployer.get_model_server(service).is_running)


def test_a_worker_that_is_replaced_while_it_is_asked_makes_no_error(
    deployer: BaseModelDeployer, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    (worker,) = supervisor_of(service).children()

    def die_of_the_question(url: str) -> Answer:
        before = claims.read_state(folder_of(service))
        worker.kill()
        wait_until(lambda: claims.read_state(folder_of(service)) != before)
        return Answer(ready=False, loading=False, message="TimeoutError: timed out")

    with monkeypatch.context() as patched:
        patched.setattr("stackkit.local.deployer.answers", die_of_the_question)
        assert deployer.get_model_server(service).status.state is ServiceState.PENDING_STARTUP
    wait_until(lambda: deployer.get_model_server(service).is_running)


def test_a_folder_is_removed_where_that_was_interrupted(deployer: BaseModelDeployer, model: str) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    service.stop()
    folder = folder_of(service)
    folder.rename(folder.with_name(f".{folder.name}.removed"))
    service.delete()
    assert not list(folder.parent.iterdir())


def test_a_server_that_lost_its_row_is_found_and_adopted(
    client: Client, deployer: BaseModelDeployer, model: str, tmp_path: Path
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model, pipeline_name="p")
    for seconds in (10, 20, 30):  # each under a higher epoch than the last
        deployer.update_model_server(service, request_timeout=seconds)
    assert deployer.find_orphans() == []
    deployer.delete_model_server(service, forget=True)
    assert not deployer.find_model_server()
    (orphan,) = deployer.find_orphans()
    assert orphan.service_id == service.id
    adopted = deployer.adopt_model_server(service.uuid)
    assert (adopted.uuid, adopted.prediction_url) == (service.uuid, service.prediction_url)
    assert (adopted.is_running, adopted.revision, adopted.status.message) == (True, 4, "")
    assert adopted.config["request_timeout"] == 30
    assert deployer.deploy_model(model_name="m", model_uri=model, pipeline_name="p", request_timeout=30).revision == 4
    assert deployer.update_model_server(adopted, request_timeout=40).is_running
    assert deployer.find_orphans() == []
    with pytest.raises(NotFoundError):
        deployer.adopt_model_server(service.uuid)


def test_two_who_adopt_a_server_at_once_both_get_it(
    client: Client, deployer: BaseModelDeployer, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    deployer.delete_model_server(service, forget=True)
    orphans = deployer.find_orphans()
    monkeypatch.setattr(deployer, "find_orphans", lambda: orphans)  # as both of them have seen it
    first, second = (deployer.adopt_model_server(service.uuid) for _ in range(2))
    assert (first.uuid, second.uuid) == (service.uuid, service.uuid)
    assert [each["action"] for each in client.servers.history(service.id)].count("adopt") == 1


def test_after_an_update_that_failed_what_is_kept_beside_a_server_is_of_the_revision_that_serves(
    client: Client, deployer: BaseModelDeployer, model: str, tmp_path: Path
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    served = client.servers.revisions(service.id)[0]["model_digest"]
    (tmp_path / "model.py").write_text("raise RuntimeError('no weights here')", encoding="utf-8")
    with pytest.raises(DeploymentError, match="no weights here"):
        deployer.update_model_server(service, model_uri=model)
    client.servers.sweep()
    kept = [path.name for path in client.settings.models_folder.glob("[!.]*")]
    assert kept == [served.removeprefix("sha256:")]
    deployer.delete_model_server(service, forget=True)
    adopted = deployer.adopt_model_server(service.uuid)
    assert (adopted.is_running, adopted.revision, adopted.source.digest) == (True, 1, served)


def test_a_deployer_with_servers_cannot_be_pointed_elsewhere_or_deleted(
    client: Client, deployer: BaseModelDeployer, model: str, tmp_path: Path
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    with pytest.raises(InUseError, match="folder"):
        client.update_component(ComponentType.MODEL_DEPLOYER, "local", {"folder": str(tmp_path / "elsewhere")})
    with pytest.raises(InUseError, match="1 model server"):
        client.components.delete(ComponentType.MODEL_DEPLOYER, "local")
    service.delete()
    client.components.delete(ComponentType.MODEL_DEPLOYER, "local")
    client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {"folder": str(tmp_path / "elsewhere")})
    moved = client.model_deployer("local").deploy_model(model_name="m", model_uri=model)
    assert folder_of(moved).parent == tmp_path / "elsewhere"


def test_an_update_that_takes_too_long_is_undone_without_stopping_anything(
    deployer: BaseModelDeployer, model: str, tmp_path: Path
) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model)
    supervisor = supervisor_of(service)
    (tmp_path / "slow.py").write_text(f"import time\ntime.sleep(600)\n{MODEL.format(answer='two')}", encoding="utf-8")
    with pytest.raises(DeploymentError, match="did not update in time"):
        deployer.update_model_server(service, model_uri=f"{tmp_path}/slow.py:predict", timeout=1)
    seen = deployer.get_model_server(service)
    assert (seen.is_running, seen.revision, seen.status.message) == (True, 1, "")
    assert seen.predict([[1]]) == ["one"]
    assert supervisor_of(seen) == supervisor
