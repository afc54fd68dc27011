"""A disk that is really full: that of an engine of the test's own, in namespaces that end with the test."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stackkit.environments import images, runtime
from stackkit.environments.models import resolve
from stackkit.errors import ImageError, StackkitError

pytestmark = pytest.mark.docker

BASE = "python:3.11-slim"
SIZE = 640  # MiB: the base image, and once more while it is loaded

# the network namespace too: an engine without a bridge removes the one that it finds
NAMESPACE = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"]

ENGINE = """
mount -t tmpfs -o size="$2"m stackkit-test "$1/data"
shift 2
exec "$@"
"""


@pytest.fixture
def small_engine(tmp_path_factory: pytest.TempPathFactory, requires: Callable[[str, str], None]) -> Iterator[Any]:
    """A client of an engine whose disk is small, and which has the base image."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None or shutil.which("unshare") is None:
        pytest.skip("an engine of its own needs root, dockerd and unshare")
    folder = tmp_path_factory.mktemp("e")  # a socket's path may not be long
    for name in ("data", "exec"):
        (folder / name).mkdir()
    try:
        usual = images.connect()
    except StackkitError as error:
        requires("docker", error.message)
        raise
    with closing(usual):
        command = [*NAMESPACE, "sh", "-ec", ENGINE, "sh", str(folder), str(SIZE), "dockerd"]
        command += [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
        command += [f"--host=unix://{folder}/s", "--bridge=none", "--iptables=false", *runtime_of(usual)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        client = None
        try:
            client = answering(f"unix://{folder}/s", process, folder / "log")
            client.images.load(usual.api.get_image(BASE))
            yield client
        finally:
            if client is not None:
                client.close()
            process.kill()
            process.wait()


def runtime_of(engine: Any) -> list[str]:
    """The options by which another engine starts containers as this one does."""
    info = engine.info()
    name = info["DefaultRuntime"]
    return (
        []
        if name == "runc"
        else [f"--add-runtime={name}={info['Runtimes'][name]['path']}", f"--default-runtime={name}"]
    )


def answering(host: str, process: subprocess.Popen[bytes], log: Path) -> Any:
    deadline = time.monotonic() + 60
    while True:
        try:
            return images.connect(host)
        except StackkitError:
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, "the engine does not come up"
        time.sleep(0.1)


@pytest.mark.filterwarnings("ignore:unclosed <socket.socket:ResourceWarning")  # of the tries before it was up
def test_a_model_too_large_for_the_engines_disk_leaves_nothing(
    small_engine: Any, tmp_path: Path, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "RUNTIME_REQUIREMENTS", ())  # there is no network to install them by
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors: {python_function: {loader_module: a.module}}\n", encoding="utf-8")
    (folder / "requirements.txt").write_text("", encoding="utf-8")
    for megabytes in (SIZE, SIZE // 3):  # it is full before the build begins, and on its way
        with (folder / "weights.bin").open("wb") as weights:
            weights.truncate(megabytes * 2**20)
        model = resolve(str(folder), models_folder=models_folder)
        with pytest.raises(ImageError) as raised:
            images.build(model, tag="stackkit-test:full", client=small_engine)
        assert raised.value.message == "The engine's disk is full: there is no room for the image."
        assert [image.tags for image in small_engine.images.list(all=True)] == [[BASE]]
        assert small_engine.containers.list(all=True) == []
