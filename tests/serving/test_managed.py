"""Real supervisors with real workers, in the background."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackkit.serving import claims
from stackkit.serving.claims import Launch, Phase, WorkerPhase

Start = Callable[..., Any]
Gone = Callable[[int], None]


def test_a_start_returns_when_the_lock_is_held_and_the_state_tells_the_rest(
    start_server: Start, echo_model: str
) -> None:
    server = start_server(echo_model, revision=4)
    assert (server.started.returncode, server.started.stderr) == (0, "")
    holder = claims.lock_holder(server.folder)
    state = server.wait_ready()
    assert holder == state.pid
    assert (state.token, state.revision, state.host, state.error) == (server.token, 4, "127.0.0.1", None)
    assert [(worker.slot, worker.phase, worker.restarts) for worker in state.workers] == [(0, WorkerPhase.READY, 0)]
    assert server.request("/ping").status == 200
    reply = server.request("/invocations", {"inputs": [1]})
    assert reply.content["predictions"] == {"data": [1], "pid": state.workers[0].pid}


def test_the_supervisor_has_left_the_terminal_and_its_files_are_private(start_server: Start, echo_model: str) -> None:
    server = start_server(echo_model)
    state = server.wait_ready()
    assert os.getsid(state.pid) == state.pid
    assert {path.stat().st_mode & 0o077 for path in server.folder.rglob("*")} == {0}


def test_both_workers_get_connections(start_server: Start, echo_model: str) -> None:
    server = start_server(echo_model, workers=2)
    expected = {worker.pid for worker in server.wait_ready().workers}
    answered = {server.request("/invocations", {"inputs": []}).content["predictions"]["pid"] for _ in range(64)}
    assert answered == expected


def test_a_killed_worker_is_replaced(start_server: Start, echo_model: str, gone: Gone) -> None:
    server = start_server(echo_model)
    before = server.wait_ready()
    os.kill(before.workers[0].pid, signal.SIGKILL)
    after = server.wait(lambda state: state.workers[0].restarts == 1 and state.workers[0].phase is WorkerPhase.READY)
    assert after.workers[0].pid != before.workers[0].pid
    assert (after.phase, after.port) == (Phase.READY, before.port)
    assert server.request("/invocations", {"inputs": []}).content["predictions"]["pid"] == after.workers[0].pid
    assert "worker 0 was killed by SIGKILL; it is replaced in 0.1 seconds" in server.log


def test_a_worker_that_cannot_load_again_is_tried_again(start_server: Start, tmp_path: Path) -> None:
    (tmp_path / "fickle.py").write_text(
        "import pathlib\n"
        f"if pathlib.Path({str(tmp_path / 'broken')!r}).exists():\n    raise RuntimeError('broken')\n"
        "def predict(data):\n    return data\n"
    )
    server = start_server(f"{tmp_path / 'fickle.py'}:predict")
    pid = server.wait_ready().workers[0].pid
    (tmp_path / "broken").touch()
    os.kill(pid, signal.SIGKILL)
    state = server.wait(lambda state: state.workers[0].restarts >= 2)
    assert (state.phase, state.error) == (Phase.READY, None)
    (tmp_path / "broken").unlink()
    server.wait(lambda state: state.workers[0].phase is WorkerPhase.READY and state.workers[0].pid != pid)
    assert server.request("/ping").status == 200


def test_workers_do_not_outlive_a_killed_supervisor(start_server: Start, echo_model: str, gone: Gone) -> None:
    server = start_server(echo_model, workers=2)
    server.wait_ready()
    supervisor, *workers = server.processes()
    supervisor.kill()
    for process in (supervisor, *workers):
        gone(process.pid)
    assert claims.lock_holder(server.folder) is None
    assert server.state.phase is Phase.READY  # the file alone does not say who lives


def test_sigterm_ends_it_in_order(start_server: Start, echo_model: str, gone: Gone) -> None:
    server = start_server(echo_model, workers=2)
    server.wait_ready()
    supervisor, *workers = server.processes()
    supervisor.send_signal(signal.SIGTERM)
    for process in (supervisor, *workers):
        gone(process.pid)
    state = server.state
    assert (state.phase, state.error) == (Phase.STOPPED, None)
    assert {(worker.pid, worker.phase) for worker in state.workers} == {(None, WorkerPhase.ENDED)}
    assert "SIGKILL" not in server.log
    assert claims.lock_holder(server.folder) is None


def test_a_request_that_is_being_answered_when_it_stops_gets_its_reply(
    start_server: Start, tmp_path: Path, gone: Gone
) -> None:
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        "def predict(folder):\n"
        "    (pathlib.Path(folder) / 'began').touch()\n"
        "    while not (pathlib.Path(folder) / 'released').exists():\n"
        "        time.sleep(0.01)\n"
        "    return 'done'\n"
    )
    server = start_server(f"{tmp_path / 'slow.py'}:predict")
    pid = server.wait_ready().pid
    script = (
        "import json, sys, urllib.request\n"
        "body = json.dumps({'inputs': sys.argv[2]}).encode()\n"
        "request = urllib.request.Request(sys.argv[1], body, {'content-type': 'application/json'})\n"
        "sys.stdout.write(urllib.request.urlopen(request).read().decode())\n"
    )
    url = f"http://127.0.0.1:{server.state.port}/invocations"
    client = subprocess.Popen([sys.executable, "-c", script, url, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with client:
        server.wait(lambda _: (tmp_path / "began").exists())
        os.kill(pid, signal.SIGTERM)
        server.wait(lambda state: state.phase is Phase.STOPPING)
        (tmp_path / "released").touch()
        assert client.communicate()[0] == '{"predictions": "done"}'
    gone(pid)


def test_sighup_changes_nothing(start_server: Start, echo_model: str) -> None:
    server = start_server(echo_model)
    state = server.wait_ready()
    os.kill(state.pid, signal.SIGHUP)
    assert server.request("/ping").status == 200
    assert claims.lock_holder(server.folder) == state.pid


def test_a_model_that_cannot_be_loaded_is_the_error_of_the_state(
    start_server: Start, tmp_path: Path, gone: Gone
) -> None:
    (tmp_path / "bad.py").write_text("raise RuntimeError('no weights here')\n")
    server = start_server(f"{tmp_path / 'bad.py'}:predict", workers=2)
    state = server.wait(lambda state: state.phase is Phase.FAILED)
    gone(state.pid)
    assert state.error == "RuntimeError: no weights here"
    assert "Traceback" in server.log
    assert claims.lock_holder(server.folder) is None


def test_what_is_no_model_fails_without_a_traceback(start_server: Start, tmp_path: Path) -> None:
    server = start_server(str(tmp_path / "absent.joblib"))
    state = server.wait(lambda state: state.phase is Phase.FAILED)
    assert state.error == f"ModelFormatError: there is no model at {tmp_path / 'absent.joblib'}"
    assert "Traceback" not in server.log


def test_a_worker_that_dies_while_it_loads_is_told_with_its_last_words(start_server: Start, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import os, sys\nsys.stderr.write('out of luck')\nos._exit(7)\n")
    server = start_server(f"{tmp_path / 'bad.py'}:predict")
    state = server.wait(lambda state: state.phase is Phase.FAILED)
    assert state.error == "worker 0 ended with exit code 7 before it had loaded the model: out of luck"


def test_a_worker_that_is_killed_while_it_loads_has_no_last_words(start_server: Start, tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text("import os, sys\nsys.stderr.write('so far')\nos.kill(os.getpid(), 9)\n")
    server = start_server(f"{tmp_path / 'large.py'}:predict")
    state = server.wait(lambda state: state.phase is Phase.FAILED)
    assert state.error == "worker 0 was killed by SIGKILL before it had loaded the model"


def test_an_interpreter_that_is_not_there(start_server: Start, echo_model: str, tmp_path: Path) -> None:
    server = start_server(echo_model, python=str(tmp_path / "python"))
    state = server.wait(lambda state: state.phase is Phase.FAILED)
    assert state.error == f"the interpreter {tmp_path / 'python'} cannot be started: No such file or directory"


def test_a_taken_port_is_the_error_of_the_state(start_server: Start, echo_model: str, gone: Gone) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = start_server(echo_model, port=port)
        state = server.wait(lambda state: state.phase is Phase.FAILED)
        gone(state.pid)
    assert (state.error, state.workers) == (f"port {port} on 127.0.0.1 is taken", ())


def test_a_server_has_its_port_again_when_it_starts_again(start_server: Start, echo_model: str) -> None:
    first = start_server(echo_model)
    port = first.wait_ready().port
    first.request("/ping")
    first.stop()
    second = start_server(echo_model, preferred_port=port)
    assert second.wait_ready().port == port


def test_ipv6(start_server: Start, echo_model: str) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    server = start_server(echo_model, host="::1", workers=2)
    server.wait_ready()
    assert server.request("/ping").status == 200


def test_the_health_is_503_while_the_model_loads(start_server: Start, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        f"while not pathlib.Path({str(tmp_path / 'released')!r}).exists():\n    time.sleep(0.01)\n"
        "def predict(data):\n    return data\n"
    )
    server = start_server(f"{tmp_path / 'slow.py'}:predict")
    assert server.wait(lambda state: state.phase is Phase.LOADING).port
    reply = server.request("/ping")
    assert (reply.status, reply.content["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    assert server.request("/invocations", {"inputs": 1}).status == 503
    (tmp_path / "released").touch()
    server.wait_ready()
    assert server.request("/ping").status == 200


def test_a_second_supervisor_of_a_folder_ends_and_names_the_first(
    start_server: Start, claim: Any, echo_model: str
) -> None:
    server = start_server(echo_model)
    state = server.wait_ready()
    second = claim(server.folder, server.token)
    assert second.returncode == 1
    assert f"is already running (pid {state.pid})" in second.stderr
    assert server.state == state
    assert server.request("/ping").status == 200


def test_a_stale_token_binds_and_writes_nothing(tmp_path: Path, claim: Any, echo_model: str) -> None:
    claims.write_launch(tmp_path, Launch(token="newer", model=echo_model))
    stale = claim(tmp_path, "older")
    assert stale.returncode == 1
    assert "was superseded by another one" in stale.stderr
    assert claims.read_state(tmp_path) is None
    assert not (tmp_path / "logs").exists()
    assert claims.lock_holder(tmp_path) is None


def test_a_start_whose_asker_has_ended_binds_nothing(tmp_path: Path, echo_model: str) -> None:
    claims.write_launch(tmp_path, Launch(token="token", model=echo_model))
    reader, writer = os.pipe()
    os.close(writer)  # as the end of its process does
    command = [sys.executable, "-P", "-m", "stackkit.serving", "--claim", str(tmp_path), "token"]
    orphan = subprocess.run(
        [*command, "--starter", str(reader)], pass_fds=(reader,), capture_output=True, text=True, check=False
    )
    os.close(reader)
    assert orphan.returncode == 1
    assert "whoever asked for this start" in orphan.stderr
    assert claims.read_state(tmp_path) is None
    assert not (tmp_path / claims.LOCK_FILE).exists(), "it seemed to live for a moment"


def test_a_launch_that_cannot_be_read_is_a_failure_in_words(tmp_path: Path, claim: Any) -> None:
    (tmp_path / "launch.json").write_text('{"token": "t"')
    failed = claim(tmp_path, "t")
    assert failed.returncode == 1
    assert "launch.json cannot be used" in failed.stderr
    assert "Traceback" not in failed.stderr
    state = claims.read_state(tmp_path)
    assert state is not None
    assert (state.phase, state.token) == (Phase.FAILED, "t")


def test_a_folder_that_is_not_there_is_a_failure_in_words(tmp_path: Path, claim: Any) -> None:
    failed = claim(tmp_path / "absent", "t")
    assert failed.returncode == 1
    assert "No such file or directory" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_the_workers_output_is_in_the_rotated_log(start_server: Start, tmp_path: Path, gone: Gone) -> None:
    (tmp_path / "loud.py").write_text(
        "def predict(count):\n    for number in range(count):\n        print('said', number)\n    return count\n"
    )
    server = start_server(f"{tmp_path / 'loud.py'}:predict", log_max_bytes=2000, log_backups=2)
    pid = server.wait_ready().pid
    assert server.request("/invocations", {"inputs": 1000}).status == 200
    os.kill(pid, signal.SIGTERM)
    gone(pid)
    logs = claims.log_path(server.folder).parent
    pieces = {path.name: path.read_text() for path in logs.iterdir()}
    assert set(pieces) == {"server.log", "server.log.1", "server.log.2"}
    assert max(map(len, pieces.values())) <= 2000
    assert "said 999" in "".join(pieces.values())
    assert pieces["server.log"].endswith("stopped\n")
