"""Why an engine cannot be reached, in one line; no engine is needed for that."""

from __future__ import annotations

import gc
import json
import ssl
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests
from certificates import write_self_signed
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


class Engine(BaseHTTPRequestHandler):
    """As much of one as is asked for when somebody connects."""

    def do_GET(self) -> None:
        content = b"OK" if self.path.endswith("/_ping") else json.dumps({"ApiVersion": "1.41"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has there
        pass


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder as DOCKER_CERT_PATH names one; engine and client bear the same certificate, which they trust."""
    certfile, _ = write_self_signed(tmp_path)
    (tmp_path / "ca.pem").write_bytes(certfile.read_bytes())
    return tmp_path


@pytest.fixture
def engine(certificates: Path) -> Iterator[str]:
    """The address of an engine that is asked over TLS, by who bears a certificate."""
    with ThreadingHTTPServer(("localhost", 0), Engine) as server:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
        context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"tcp://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_engine_that_is_named_is_asked_over_tls(
    engine: str, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # where one is set, the SDK trusts no other certificates
        monkeypatch.delenv(name, raising=False)
    connect(engine).close()
    (certificates / "cert.pem").unlink()
    with pytest.raises(PlatformUnavailableError, match=f"No Docker Engine answers at {engine}: "):
        connect(engine)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_socket_needs_no_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path / "elsewhere"))
    with pytest.raises(PlatformUnavailableError, match="No such file or directory") as caught:
        connect(f"unix://{tmp_path / 'docker.sock'}")
    assert str(caught.value.message).startswith(f"No Docker Engine answers at unix://{tmp_path}")
    del caught
    gc.collect()


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
