"""Images that a real Docker Engine builds and runs."""

from __future__ import annotations

import fcntl
import http.client
import io
import json
import os
import pickle
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from stackkit.environments import images, runtime
from stackkit.environments.models import ResolvedModel, resolve
from stackkit.errors import ImageError, StackkitError

pytestmark = pytest.mark.docker

BASE = "python:3.11-slim"
HARDENED = {
    "read_only": True,
    "tmpfs": {"/tmp": ""},
    "user": "54321:0",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
}
"""As OpenShift and Kubernetes' restricted policy run a container: any user, and nothing to be written."""

Build = Callable[..., images.BuiltImage]


@pytest.fixture
def engine(requires: Callable[[str, str], None]) -> Iterator[Any]:
    try:
        client = images.connect()
    except StackkitError as error:
        requires("docker", error.message)
        raise
    if not client.images.list(BASE):
        client.close()
        requires("docker", f"the engine has no image {BASE}")
    yield client
    client.close()


@pytest.fixture
def make_base(engine: Any) -> Iterator[Callable[[], str]]:
    """Make a base image of this test's own, on which nothing has been built; it ends with the test."""
    made: list[str] = []

    def make() -> str:
        name = f"stackkit-test-{uuid.uuid4().hex}:base"
        dockerfile = io.BytesIO(f"FROM {BASE}\nLABEL stackkit.test={name}\n".encode())
        engine.images.build(fileobj=dockerfile, tag=name, rm=True)
        made.append(name)
        return name

    yield make
    for name in made:
        for image in (*built_on(engine, name), name):
            remove(engine, image)


def built_on(engine: Any, base: str) -> list[str]:
    """Every image that was built on the base, those without a name among them, the youngest first."""
    found = engine.images.list(all=True, filters={"label": f"stackkit.test={base}"})
    own = engine.images.get(base).id
    return [image.id for image in found if image.id != own]


def remove(engine: Any, image: str) -> None:
    from docker.errors import APIError

    try:
        engine.images.remove(image, force=True)
    except APIError as error:
        assert error.status_code in (404, 409)  # gone with another, or about to


@pytest.fixture
def no_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing installed beside the model's requirements: such an image is built in seconds, and cannot serve."""
    monkeypatch.setattr(runtime, "RUNTIME_REQUIREMENTS", ())


@pytest.fixture
def model(tmp_path: Path, models_folder: Path) -> Callable[..., ResolvedModel]:
    """Resolve a Python model that adds something to the sums of its rows."""

    def make(added: int = 0, requirements: str = "") -> ResolvedModel:
        folder = tmp_path / "work"
        folder.mkdir(exist_ok=True)
        (folder / "model.py").write_text(f"def predict(rows): return [sum(row) + {added} for row in rows]\n")
        (folder / "requirements.txt").write_text(requirements)
        return resolve(f"{folder / 'model.py'}:predict", models_folder=models_folder)

    return make


@pytest.fixture
def build(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    """Build images; their names end with the test. One at a time, so that the next finds the cache of the last."""
    names: list[str] = []

    def make(model: ResolvedModel, **options: Any) -> images.BuiltImage:
        names.append(f"stackkit-test-{uuid.uuid4().hex}:1")
        with (tmp_path_factory.getbasetemp().parent / "images.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return images.build(model, client=engine, **{"tag": names[-1], "base_image": BASE, **options})

    yield make
    for name in names:
        remove(engine, name)


class Container:
    """A container that runs, and its port on this machine."""

    def __init__(self, container: Any, port: int) -> None:
        self.container = container
        self.port = port

    def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        """The status and body of a reply, once there is one."""
        headers = {"Content-Type": "application/json"}
        until = time.monotonic() + 60
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.request("GET" if body is None else "POST", path, body and json.dumps(body), headers)
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException):
                response = None
            finally:
                connection.close()
            if response is not None and response.status != 503:
                is_json = response.headers.get_content_type() == "application/json" and content.strip()
                return response.status, json.loads(content) if is_json else content.decode()
            self.container.reload()
            if self.container.status == "exited" or time.monotonic() > until:
                pytest.fail(f"the container does not answer: {self.container.logs().decode()}")
            time.sleep(0.1)


@pytest.fixture
def run(engine: Any) -> Iterator[Callable[..., Container]]:
    """Run an image on a port of the loopback address; the containers end with the test."""
    containers = []

    def start(image: str, inside: int = 8080, **options: Any) -> Container:
        ports = {} if "network_mode" in options else {f"{inside}/tcp": ("127.0.0.1", None)}
        container = engine.containers.run(image, detach=True, ports=ports, **HARDENED, **options)
        containers.append(container)
        container.reload()
        if not ports:
            return Container(container, inside)
        return Container(container, int(container.ports[f"{inside}/tcp"][0]["HostPort"]))

    yield start
    for container in containers:
        container.remove(force=True)


def test_an_image_answers_all_that_it_is_asked(
    engine: Any, build: Build, model: Callable[..., ResolvedModel], run: Callable[..., Container]
) -> None:
    image = build(model())
    server = run(image.tag)
    assert server.ask("/ping")[0] == 200
    assert server.ask("/invocations", {"inputs": [[1, 2], [3, 4]]}) == (200, {"predictions": [3, 7]})
    tensor = {"name": "rows", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}
    status, reply = server.ask("/v2/models/predict/infer", {"inputs": [tensor]})
    assert (status, reply["outputs"][0]["data"]) == (200, [3])
    assert "stackkit_http_requests_total" in server.ask("/metrics")[1]

    kind, *check = engine.images.get(image.tag).attrs["Config"]["Healthcheck"]["Test"]
    assert kind == "CMD"
    assert execute(engine, server.container, check) == 0
    server.container.stop(timeout=30)
    assert server.container.wait()["StatusCode"] == 0
    assert "stopped" in server.container.logs().decode()


def test_an_image_starts_as_sagemaker_starts_one(
    build: Build, model: Callable[..., ResolvedModel], run: Callable[..., Container]
) -> None:
    image = build(model())
    server = run(image.tag, inside=9090, command=["serve"], environment={"SAGEMAKER_BIND_TO_PORT": "9090"})
    assert server.ask("/invocations", {"inputs": [[1, 2]]}) == (200, {"predictions": [3]})


def test_a_model_may_be_fetched_when_a_container_starts(
    build: Build, run: Callable[..., Container], tmp_path: Path, models_folder: Path
) -> None:
    file = tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps(SimpleNamespace(predict=np.negative)))
    with serving(tmp_path) as url:
        stored = resolve(f"{url}/model.pkl", models_folder=models_folder)
        # a single file cannot say what it needs, so the requirements are those of its copy on this machine
        (tmp_path / "requirements.txt").write_text("")
        kept = resolve(str(file), models_folder=models_folder)
        image = build(replace(kept, uri=stored.uri, digest=stored.digest), fetch_at_start=True)
        port = free_port()
        variables = {"STACKKIT_SERVING_HOST": "127.0.0.1", "PORT": str(port)}
        options = {"network_mode": "host", "environment": variables}
        server = run(image.tag, inside=port, **options)
        assert server.ask("/invocations", {"inputs": [1, 2]}) == (200, {"predictions": [-1, -2]})
        file.write_bytes(pickle.dumps(SimpleNamespace(predict=np.abs)))
        retrained = run(image.tag, inside=port, **options).container
        assert retrained.wait()["StatusCode"] == 1
        assert "has changed: it is sha256:" in retrained.logs().decode()


def execute(engine: Any, container: Any, command: list[str]) -> int:
    """The exit code of a command in a container. Without its output, for which the SDK leaves a socket open."""
    execution = engine.api.exec_create(container.id, command)["Id"]
    engine.api.exec_start(execution, detach=True)
    until = time.monotonic() + 60
    while (state := engine.api.exec_inspect(execution))["Running"]:
        assert time.monotonic() < until
        time.sleep(0.05)
    code: int = state["ExitCode"]
    return code


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP on a loopback address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("no_libraries")
class TestBuilding:
    def test_a_change_of_the_model_installs_nothing(
        self,
        engine: Any,
        build: Build,
        model: Callable[..., ResolvedModel],
        make_base: Callable[[], str],
        tmp_path: Path,
    ) -> None:
        base = make_base()
        said: list[str] = []
        first = build(model(added=0), base_image=base)
        again = build(model(added=0), base_image=base)
        assert again.id == first.id
        changed = build(model(added=1), base_image=base, progress=said.append)
        assert changed.id != first.id
        assert said
        made_anew = [said[number - 1] for number, text in enumerate(said) if "---> Running in" in text]
        assert made_anew
        assert not [text for text in made_anew if ": RUN " in text]
        layers = [engine.images.get(image.id).attrs["RootFS"]["Layers"] for image in (first, changed)]
        assert layers[0][:-1] == layers[1][:-1]
        # the same when it is built from a folder
        images.make_context(model(added=1), base_image=base).write(tmp_path / "context")
        by_hand, _ = engine.images.build(path=str(tmp_path / "context"), rm=True)
        assert by_hand.id == changed.id

    def test_an_image_says_what_is_in_it_and_has_no_build_tools(
        self, engine: Any, build: Build, model: Callable[..., ResolvedModel], make_base: Callable[[], str]
    ) -> None:
        resolved, base = model(), make_base()
        image = build(resolved, base_image=base)
        config = engine.images.get(image.id).attrs["Config"]
        assert config["Labels"][images.LABEL_URI] == resolved.uri
        assert config["Labels"][images.LABEL_DIGEST] == resolved.digest
        assert config["Labels"]["org.opencontainers.image.base.name"] == base
        assert config["User"] == "1000:1000"
        assert list(config["ExposedPorts"]) == ["8080/tcp"]
        program = (
            "import importlib.util as u; print([n for n in ('pip', 'setuptools', 'wheel') if u.find_spec(n)])\n"
            "from stackkit.serving import container as c; print(c.defaults.__code__.co_filename == c.__file__)"
        )
        python = "/opt/stackkit/environment/bin/python"
        said = engine.containers.run(image.tag, entrypoint=[python, "-P", "-c", program], command=[], remove=True)
        assert said.decode() == "[]\nTrue\n"

    def test_two_builds_without_a_cache_give_the_same_layers(
        self, engine: Any, build: Build, model: Callable[..., ResolvedModel], make_base: Callable[[], str]
    ) -> None:
        resolved = model()
        built = [build(resolved, base_image=make_base()) for _ in range(2)]
        layers = [engine.images.get(image.id).attrs["RootFS"]["Layers"] for image in built]
        assert built[0].id != built[1].id
        assert len(layers[0]) == 4
        assert layers[0] == layers[1]

    def test_a_password_for_an_index_is_kept_nowhere(
        self,
        engine: Any,
        build: Build,
        model: Callable[..., ResolvedModel],
        make_base: Callable[[], str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://someone:hunter2@127.0.0.1:1/simple")
        monkeypatch.setenv("HTTPS_PROXY", "http://someone:hunter2@127.0.0.1:1")
        base = make_base()
        image = build(model(), base_image=base)
        kept = built_on(engine, base)
        assert image.id in kept
        for each in kept:
            assert "hunter2" not in json.dumps([engine.api.inspect_image(each), engine.api.history(each)])

    def test_a_password_in_the_requirements_is_kept_nowhere(
        self, engine: Any, build: Build, model: Callable[..., ResolvedModel], make_base: Callable[[], str]
    ) -> None:
        """They are no part of what a model that is a file leaves in its image."""
        base = make_base()
        image = build(model(requirements="--extra-index-url https://ann:hunter2@127.0.0.1:1/simple\n"), base_image=base)
        layers = {layer["Id"] for layer in engine.api.history(image.id)}
        assert set(built_on(engine, base)) <= layers, "the stage that was given it is gone"


class TestFailing:
    """Each says why in one line, and leaves nothing on the engine."""

    @pytest.fixture(autouse=True)
    def leaves_nothing(self, engine: Any, make_base: Callable[[], str]) -> Iterator[str]:
        base = make_base()
        yield base
        assert built_on(engine, base) == []

    @pytest.fixture
    def base(self, leaves_nothing: str) -> str:
        return leaves_nothing

    def test_a_requirement_that_does_not_exist(
        self, build: Build, model: Callable[..., ResolvedModel], base: str
    ) -> None:
        broken = model(requirements="nosuch @ file:///build/nosuch-1-py3-none-any.whl\n")
        with pytest.raises(
            ImageError, match=r"cannot be built: .*No such file.*/build/nosuch-1-py3-none-any\.whl"
        ) as caught:
            build(broken, base_image=base)
        assert "\n" not in caught.value.message

    def test_a_base_image_of_another_python(self, build: Build, tmp_path: Path, models_folder: Path, base: str) -> None:
        folder = tmp_path / "churn"
        folder.mkdir()
        (folder / "MLmodel").write_text("flavors: {}\n")
        (folder / "python_env.yaml").write_text("python: 3.12.1\n")
        with pytest.raises(ImageError, match=r"the model asks for Python 3\.12, and the base image has 3\.11"):
            build(resolve(str(folder), models_folder=models_folder), base_image=base)

    def test_a_base_image_that_is_nowhere(self, build: Build, model: Callable[..., ResolvedModel]) -> None:
        with pytest.raises(ImageError, match=r"The base image 127\.0\.0\.1:1/nosuch:1 is not on the engine and cannot"):
            build(model(), base_image="127.0.0.1:1/nosuch:1")

    def test_a_base_image_for_another_platform(
        self, build: Build, model: Callable[..., ResolvedModel], base: str
    ) -> None:
        with pytest.raises(ImageError, match=f"{base} on the engine is for linux/.*, not for linux/s390x"):
            build(model(), base_image=base, platform="linux/s390x")

    @pytest.mark.parametrize("tag", ["UPPER:1", "a b", "", "x:1:2", "x@sha256:0"])
    def test_a_name_that_is_none(self, build: Build, model: Callable[..., ResolvedModel], base: str, tag: str) -> None:
        with pytest.raises(ImageError, match="is no name of an image"):
            build(model(), base_image=base, tag=tag)

    def test_a_model_that_changes_while_it_is_sent(
        self, build: Build, tmp_path: Path, models_folder: Path, base: str
    ) -> None:
        path = tmp_path / "model.joblib"
        path.write_bytes(b"weights")
        (tmp_path / "requirements.txt").write_text("")
        model = resolve(str(path), models_folder=models_folder, in_place=True)

        def retrain(_: str) -> None:
            path.write_bytes(b"other weights")

        with pytest.raises(StackkitError, match="changed while it was being copied"):
            build(model, base_image=base, progress=retrain)


@pytest.mark.usefixtures("no_libraries")
def test_an_image_that_cannot_be_pushed_stays(
    engine: Any, build: Build, model: Callable[..., ResolvedModel], make_base: Callable[[], str]
) -> None:
    tag = f"127.0.0.1:1/stackkit-test-{uuid.uuid4().hex}:1"
    try:
        with pytest.raises(ImageError, match=f"The image {tag} cannot be pushed: "):
            build(model(), base_image=make_base(), tag=tag, push=True)
        assert engine.images.get(tag)
    finally:
        remove(engine, tag)


DENIED = """
import os
from stackkit.environments import images
from stackkit.errors import PlatformUnavailableError

images.connect().close()  # what that imports need not be readable for the other user
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    images.connect()
except PlatformUnavailableError as error:
    print(error.message, error.hint, sep="\\n", end="")
"""


@pytest.mark.usefixtures("engine")
def test_a_user_who_may_not_use_the_engine_is_told_so() -> None:
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    path = Path(urlsplit(host).path)
    if os.geteuid() != 0 or not path.is_socket() or path.stat().st_mode & 0o007:
        pytest.skip("only root can become somebody who may not use this engine's socket")
    told = subprocess.run([sys.executable, "-c", DENIED], capture_output=True, text=True, check=True).stdout
    message, hint = told.splitlines()
    assert message == f"You may not use the Docker Engine at {host}: permission denied."
    assert "usermod -aG docker" in hint
