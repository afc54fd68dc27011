"""Why an engine cannot be reached, in one line; no engine is needed for that."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest
import requests
from urllib3.exceptions import ProtocolError

from stackkit.environments.images import connect
from stackkit.environments.images.engine import reaching
from stackkit.errors import ImageError, PlatformUnavailableError

pytest.importorskip("docker")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    host = f"unix://{tmp_path / 'docker.sock'}"
    with pytest.raises(PlatformUnavailableError) as caught:
        connect(host)
    assert caught.value.message == f"No Docker Engine answers at {host}: No such file or directory."
    del caught
    gc.collect()  # the SDK leaves a socket open that could not be connected, and another test would be blamed for it


def test_the_environment_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(PlatformUnavailableError, match=r"at tcp://127\.0\.0\.1:1: Connection refused"):
        connect()


def test_a_host_that_is_none() -> None:
    with pytest.raises(PlatformUnavailableError, match="No Docker Engine answers at nonsense://x: "):
        connect("nonsense://x")


def test_a_socket_that_one_may_not_use() -> None:
    denied = requests.ConnectionError(ProtocolError("Connection aborted.", PermissionError(13, "Permission denied")))
    refused = pytest.raises(PlatformUnavailableError, match="You may not use the Docker Engine at unix:///x")
    with refused as caught, reaching("unix:///x"):
        raise denied
    assert caught.value.hint is not None
    assert "usermod -aG docker" in caught.value.hint


def test_without_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(ImageError) as caught:
        connect()
    assert caught.value.hint == "Install it: pip install 'stackkit[docker]'"
