"""A model that is fetched when its server starts."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from stackkit.environments.models import resolve
from stackkit.serving.fetch import FetchError, fetch, place

SERVE = [sys.executable, "-P", "-m", "stackkit.serving", "serve"]
URL = re.compile(r"serving at http://127\.0\.0\.1:(\d+)")


class Storage(ThreadingHTTPServer):
    """Serves the files of a folder, and notes what was asked for; ``/hangs`` gets its answer when it ends."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.asked: list[str] = []
        self.is_hanging = Event()
        self.ends = Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Storage

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path.startswith("/hangs"):
            self.server.is_hanging.set()
            self.server.ends.wait(60)
        file = self.server.folder / self.path.partition("?")[0].removeprefix("/")
        self.send_response(200 if file.is_file() else 404)
        self.end_headers()
        if file.is_file():
            self.wfile.write(file.read_bytes())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    folder = tmp_path / "storage"
    folder.mkdir()
    server = Storage(folder)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.ends.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "fetched"
    folder.mkdir()
    return folder


def test_a_file_keeps_its_name(storage: Storage, target: Path) -> None:
    (storage.folder / "model.joblib").write_bytes(b"weights")
    assert fetch(f"{storage.url}/model.joblib?signature=s", target) == "model.joblib"
    assert (target / "model.joblib").read_bytes() == b"weights"
    assert storage.asked == ["/model.joblib?signature=s"]


def test_a_folder_is_called_model(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "churn"
    (source / "data").mkdir(parents=True)
    (source / "__pycache__").mkdir()
    (source / "MLmodel").write_text("flavors: {}\n")
    (source / "data" / "model.pkl").write_bytes(b"weights")
    (source / "__pycache__" / "a.pyc").write_bytes(b"")
    assert fetch(f"file://{source}", target) == "model"
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert found == {"model/MLmodel", "model/data/model.pkl"}


def test_its_digest_is_the_one_that_a_deploy_finds(tmp_path: Path, target: Path) -> None:
    source = tmp_path / "churn"
    (source / "data").mkdir(parents=True)
    (source / "MLmodel").write_text("flavors: {}\n")
    (source / "data" / "model.pkl").write_bytes(b"weights")
    resolved = resolve(str(source), models_folder=tmp_path / "models")
    assert fetch(f"file://{source}", target, resolved.digest) == "model"


def test_another_model_than_the_one_asked_for_is_refused(storage: Storage, target: Path) -> None:
    (storage.folder / "model.joblib").write_bytes(b"retrained")
    with pytest.raises(FetchError, match=r"model\.joblib has changed: it is sha256:\w{64}, and sha256:0 was asked for"):
        fetch(f"{storage.url}/model.joblib", target, "sha256:0")


def test_a_signature_is_in_no_message(storage: Storage, target: Path) -> None:
    with pytest.raises(FetchError) as caught:
        fetch(f"{storage.url}/nothing.joblib?signature=secret", target)
    assert str(caught.value) == f"{storage.url}/nothing.joblib could not be fetched: Not Found"


def test_an_address_without_a_name_is_refused(storage: Storage, target: Path) -> None:
    with pytest.raises(FetchError, match="names no file"):
        fetch(f"{storage.url}/", target)


def test_a_storage_whose_package_is_missing_is_told_as_that(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(FetchError, match=r"^s3://bucket/model cannot be fetched: .*s3fs.* lacks the package"):
        fetch("s3://bucket/model", target)


def test_no_proxy_is_asked_for_what_is_on_this_machine(
    storage: Storage, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (storage.folder / "model.joblib").write_bytes(b"weights")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert fetch(f"{storage.url}/model.joblib", target) == "model.joblib"


@pytest.mark.parametrize("is_folder", [True, False], ids=["folder", "file"])
def test_a_models_files_are_placed_in_a_folder_of_their_own(tmp_path: Path, is_folder: bool) -> None:
    source = tmp_path / "churn"
    source.mkdir()
    (source / "model.joblib").write_bytes(b"weights")
    target = tmp_path / "volume" / "fetched"
    (target.parent / ".fetched.part" / "model").mkdir(parents=True)  # left by one that was killed
    place(f"file://{source if is_folder else source / 'model.joblib'}", target)
    assert [path.relative_to(target.parent).as_posix() for path in target.parent.rglob("*")] == [
        "fetched",
        "fetched/model.joblib",
    ]
    place("file:///nowhere/churn", target)  # it is there: nobody asks again


def test_a_container_fetches_the_model_that_another_is_to_serve(storage: Storage, tmp_path: Path) -> None:
    (storage.folder / "model.joblib").write_bytes(b"weights")
    fetching = [sys.executable, "-P", "-m", "stackkit.serving", "fetch"]
    environment = {**os.environ, "STACKKIT_SERVING_MODEL": f"{storage.url}/model.joblib?signature=secret"}
    target = str(tmp_path / "fetched")

    def ended(*arguments: str, **variables: str) -> tuple[int, list[str]]:
        done = subprocess.run([*fetching, *arguments], env=environment | variables, stderr=subprocess.PIPE, text=True)
        assert "secret" not in done.stderr
        return done.returncode, done.stderr.splitlines()

    code, said = ended(target, STACKKIT_SERVING_MODEL_DIGEST="sha256:0")
    assert (code, len(said)) == (1, 2)
    assert "has changed" in said[1]
    assert ended(target) == (0, [f"fetching {storage.url}/model.joblib"])
    assert (tmp_path / "fetched" / "model.joblib").read_bytes() == b"weights"
    usage = "usage: fetch FOLDER, with the model's URI in STACKKIT_SERVING_MODEL"
    assert ended() == (2, [usage])
    assert ended(target, STACKKIT_SERVING_MODEL="/opt/ml/model") == (2, [usage])


@contextmanager
def running(uri: str, tmp_path: Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    variables: Mapping[str, str] = {
        "TMPDIR": str(tmp_path),
        "STACKKIT_SERVING_MODEL": uri,
        "STACKKIT_SERVING_HOST": "127.0.0.1",
        "STACKKIT_SERVING_PORT": "0",
    }
    environment = {**os.environ, **variables, **more}
    process = subprocess.Popen(SERVE, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_server_fetches_its_model_and_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    (storage.folder / "model.joblib").write_bytes(b"")
    import joblib
    from sklearn.dummy import DummyRegressor

    joblib.dump(DummyRegressor(strategy="constant", constant=7).fit([[0]], [0]), storage.folder / "model.joblib")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with running(f"{storage.url}/model.joblib", temporary) as server:
        assert server.stderr is not None
        port = next(int(found[1]) for line in server.stderr if (found := URL.search(line)))
        connection = http.client.HTTPConnection("127.0.0.1", port)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/invocations", '{"inputs": [[1]]}', headers)
        assert connection.getresponse().read() == b'{"predictions": [7]}'
        connection.close()
        server.terminate()
        server.stderr.read()
        assert server.wait(30) == 0
    assert list(temporary.iterdir()) == []


def test_a_server_whose_model_cannot_be_fetched_ends_with_the_reason(storage: Storage, tmp_path: Path) -> None:
    with running(f"{storage.url}/nothing.joblib", tmp_path) as server:
        _, said = server.communicate(timeout=60)
    assert server.returncode == 1
    assert said.splitlines()[-1] == f"{storage.url}/nothing.joblib could not be fetched: Not Found"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["term", "int"])
def test_a_server_can_be_stopped_while_it_fetches(
    storage: Storage, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with running(f"{storage.url}/hangs.joblib", temporary) as server:
        assert storage.is_hanging.wait(60)
        server.send_signal(number)
        assert server.wait(30) == code
    assert list(temporary.iterdir()) == []


def test_a_digest_is_refused_for_what_is_not_fetched(tmp_path: Path) -> None:
    with running(str(tmp_path / "model.joblib"), tmp_path, STACKKIT_SERVING_MODEL_DIGEST="sha256:0") as server:
        _, said = server.communicate(timeout=60)
    assert server.returncode == 2
    assert "--model-digest is for a model that is fetched" in said
