"""Another model handed over to a server that runs: no request fails, and whatever is killed, what is said is true."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stackkit.serving import claims, handover
from stackkit.serving.claims import ClaimError, Launch, ServerState
from stackkit.serving.handover import Handover, Receiver, hand_over

COMMAND = [sys.executable, "-P", "-m", "stackkit.serving"]


def asked(revision: int, *, epoch: int = 1, token: str | None = None) -> Handover:
    """A request for the model of that revision."""
    digest = f"sha256:{revision:064x}"
    return Handover(token=token or f"t{revision}", epoch=epoch, revision=revision, digest=digest, kept="{}")


@pytest.fixture
def image(tmp_path: Path) -> Callable[[int, str], str]:
    """What an image of that revision says its model is."""

    def make(revision: int, code: str = "def predict(rows): return [{answer} for _ in rows]\n") -> str:
        folder = tmp_path / f"image{revision}"
        folder.mkdir(exist_ok=True)
        (folder / "model.py").write_text(code.format(answer=revision), encoding="utf-8")
        return f"{folder}/model.py:predict"

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "shared"
    path.mkdir()
    return path


class Server:
    """A server as a container's first process."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder
        settings = {"MODEL": model, "HANDOVER": str(folder), "HOST": "127.0.0.1", "BATCHING": "off"}
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--port=0"],
            env={**os.environ, **{f"STACKKIT_SERVING_{name}": value for name, value in settings.items()}},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        found = next(found for line in self.process.stderr if (found := re.search(r"at (http://[\d.]+:\d+)", line)))
        self.url = f"{found[1]}/invocations"
        self._log = threading.Thread(target=self.process.stderr.read)
        self._log.start()

    def predict(self) -> Any:
        request = urllib.request.Request(self.url, b'{"inputs": [0]}', {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)["predictions"][0]

    def tell(self) -> None:
        self.process.send_signal(signal.SIGUSR1)

    def await_state(self, condition: Callable[[ServerState], bool]) -> ServerState:
        deadline = time.monotonic() + 30
        while (state := claims.read_state(self.folder)) is None or not condition(state):
            assert time.monotonic() < deadline, state
            time.sleep(0.01)
        return state

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(30)
        self._log.join(30)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def serve(folder: Path) -> Iterator[Callable[[str], Server]]:
    started: list[Server] = []

    def start(model: str) -> Server:
        started.append(Server(folder, model))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.end()


def models(folder: Path) -> set[int]:
    """The revisions whose models lie in the folder."""
    return {int(path.name, 16) for path in (folder / "models").iterdir()}


def test_a_server_goes_over_without_losing_a_request(
    serve: Callable[[str], Server], image: Callable[..., str], folder: Path
) -> None:
    server = serve(image(1))
    answers: list[Any] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                answers.append(server.predict())
            except OSError as error:
                answers.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    request = asked(2).as_json()
    environment = {"STACKKIT_SERVING_MODEL": image(2), "STACKKIT_SERVING_HANDOVER": str(folder)}
    subprocess.run([*COMMAND, "hand-over", request], env={**os.environ, **environment}, check=True)
    server.tell()
    server.await_state(lambda state: state.token == "t2")
    last = len(answers)
    assert server.predict() == 2
    done.set()
    asking.join()
    assert set(answers) == {1, 2}
    assert answers == sorted(answers)
    assert 2 in answers[last:] or last == len(answers)


def test_what_is_started_again_serves_what_it_served(
    serve: Callable[[str], Server], image: Callable[..., str], folder: Path
) -> None:
    server = serve(image(1))
    assert hand_over(folder, image(2), asked(2)) == 0
    server.tell()
    server.await_state(lambda state: state.token == "t2")
    server.end(signal.SIGKILL)
    again = serve(image(1))
    assert again.predict() == 2
    assert again.await_state(lambda state: state.pid == again.process.pid).revision == 2


def test_a_model_that_cannot_be_loaded_is_given_up(
    serve: Callable[[str], Server], image: Callable[..., str], folder: Path
) -> None:
    server = serve(image(1))
    hand_over(folder, image(2, "raise RuntimeError('it cannot be loaded')"), asked(2))
    server.tell()
    failed = server.await_state(lambda state: state.failed_update is not None).failed_update
    assert failed is not None
    assert (failed.token, failed.revision) == ("t2", 2)
    assert "it cannot be loaded" in failed.error
    assert server.predict() == 1
    server.end(signal.SIGKILL)
    assert serve(image(1)).predict() == 1, "what was given up is not served later"


def test_what_a_former_process_has_not_gone_over_to_is_told(image: Callable[..., str], folder: Path) -> None:
    own = Launch(token="", model=image(1))
    assert Receiver(folder, own).dropped() is None
    hand_over(folder, image(2), asked(2))
    receiver = Receiver(folder, own)
    assert receiver.launch() == own
    dropped = receiver.dropped()
    assert dropped is not None
    assert (dropped.token, dropped.revision) == ("t2", 2)


def test_what_is_served_is_kept_though_more_was_asked_for_meanwhile(image: Callable[..., str], folder: Path) -> None:
    own = Launch(token="", model=image(1))
    receiver = Receiver(folder, own)
    hand_over(folder, image(2), asked(2))
    second = receiver.reread()
    hand_over(folder, image(3), asked(3))
    receiver.report(state_of(second))
    assert Receiver(folder, own).launch() == second
    assert Receiver(folder, own).dropped() is not None, "the third"


def state_of(launch: Launch) -> ServerState:
    return ServerState(
        token=launch.token,
        revision=launch.revision,
        phase=claims.Phase.READY,
        pid=1,
        host="",
        port=None,
        error=None,
        since=0,
    )


def test_the_folder_does_not_fill(image: Callable[..., str], folder: Path) -> None:
    receiver = Receiver(folder, Launch(token="", model=image(1)))
    for revision in range(2, 8):
        hand_over(folder, image(revision), asked(revision))
        receiver.report(state_of(receiver.reread()))
    for revision in range(8, 12):  # none of which is ever served
        hand_over(folder, image(revision), asked(revision))
    assert models(folder) == {7, 10, 11}


def test_what_a_copy_that_was_killed_has_left_is_removed(image: Callable[..., str], folder: Path) -> None:
    (folder / "models" / ".half" / "2").mkdir(parents=True)
    hand_over(folder, image(2), asked(2))
    assert models(folder) == {2}


def test_a_copy_is_made_once(image: Callable[..., str], folder: Path) -> None:
    hand_over(folder, image(2), asked(2))
    (path,) = (folder / "models").iterdir()
    before = path.stat().st_ino
    hand_over(folder, image(2), asked(2, token="again"))
    assert path.stat().st_ino == before


def test_who_was_taken_over_from_asks_for_nothing(image: Callable[..., str], folder: Path) -> None:
    hand_over(folder, image(3), asked(3, epoch=2))
    assert hand_over(folder, image(2), asked(2, epoch=1)) == handover.SUPERSEDED
    assert models(folder) == {3}
    assert Receiver(folder, Launch(token="", model=image(1))).reread().revision == 3


def test_a_model_that_cannot_be_copied_is_said_and_leaves_nothing(
    image: Callable[..., str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {"STACKKIT_SERVING_MODEL": image(2), "STACKKIT_SERVING_HANDOVER": str(folder)}
    Path(image(2)).with_name("weights").symlink_to("nowhere")
    assert handover.main([asked(2).as_json()], environment) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("the model cannot be copied: ")
    assert "No such file" in said
    assert models(folder) == set()
    assert not (folder / handover.REQUEST_FILE).exists()


@pytest.mark.parametrize("text", ["", "[]", '{"token": "t"}', '{"token": "t", "epoch": "first"}'])
def test_a_torn_request_is_refused(text: str, image: Callable[..., str], folder: Path) -> None:
    (folder / handover.REQUEST_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(ClaimError, match="it is no handover"):
        Receiver(folder, Launch(token="", model=image(1))).reread()
