"""An image's health check, against a server that says what it is told to."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stackkit.serving import health_check


@pytest.fixture
def answer() -> Iterator[Callable[..., str]]:
    """Start a server that answers ``/ping`` with a status, over TLS with a certificate; gives its port."""
    servers: list[tuple[HTTPServer, Thread]] = []

    def start(status: int, certfile: Path | None = None) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/ping" else 404)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        if certfile is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certfile)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        servers.append((server, thread))
        return str(server.server_port)

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def certfile(tmp_path: Path) -> Path:
    """A certificate for another name than the address that the check asks, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "models.example.org")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = (
        builder.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    )
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    return file


def test_a_server_that_speaks_tls(answer: Callable[..., str], certfile: Path) -> None:
    variables = {"PORT": answer(200, certfile), "STACKKIT_SERVING_CERTFILE": str(certfile)}
    assert health_check.main(variables) == 0
    assert health_check.main({"PORT": variables["PORT"]}) == 1


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_only_a_server_that_is_ready_is_healthy(
    answer: Callable[..., str], status: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert health_check.main({"PORT": answer(status)}) == code
    assert f"it answers {status} " in capsys.readouterr().out


def test_the_port_is_the_servers_own(answer: Callable[..., str]) -> None:
    assert health_check.main({"PORT": "1", "STACKKIT_SERVING_PORT": answer(200)}) == 0


@pytest.mark.parametrize("variables", [{"PORT": "1"}, {"PORT": "x"}, {"STACKKIT_SERVING_NOTHING": "1"}])
def test_a_server_that_does_not_answer_is_not(variables: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert health_check.main(variables) == 1
    assert capsys.readouterr().out.startswith("it does not answer: ")
