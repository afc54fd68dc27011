"""A port on loopback that leads to a pod: one tunnel through the API server for each connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from stackkit.errors import DeploymentError, StackkitError

from . import tunnels
from .connection import Connection

_BACKLOG = 128

ChoosePod = Callable[[], str]
"""Gives the path of a pod that is ready; asked anew for each connection. Raises DeploymentError when none is."""


@contextmanager
def forward(connection: Connection, choose_pod: ChoosePod, target_port: int, port: int | None) -> Iterator[str]:
    """Listen on a port of loopback (None: one that is free) and lead each connection to a pod's ``target_port``.

    Gives the base URL. Raises DeploymentError when the port is taken or no pod is ready, and PlatformUnavailableError.
    """
    choose_pod()
    try:
        listener = socket.create_server(("127.0.0.1", port or 0), backlog=_BACKLOG)
    except OSError as error:
        raise DeploymentError(
            f"The port {port} of this machine cannot be had: {error.strerror}.", "Choose another, or none."
        ) from error
    forwarder = _Forwarder(connection, choose_pod, target_port, listener)
    forwarder.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        forwarder.end()


class _Forwarder(threading.Thread):
    """Takes connections until it is ended, and with it all that it has taken."""

    def __init__(
        self, connection: Connection, choose_pod: ChoosePod, target_port: int, listener: socket.socket
    ) -> None:
        super().__init__(name="port forward", daemon=True)
        self._connection, self._choose_pod, self._target_port = connection, choose_pod, target_port
        self._listener = listener
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._workers: list[threading.Thread] = []

    def run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # it is closed: this is the end
                return
            with self._lock:
                self._open.add(client)
            worker = threading.Thread(target=self._serve, args=(client,), daemon=True)
            worker.start()
            self._workers = [each for each in self._workers if each.is_alive()] + [worker]

    def end(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept, which close alone does not
        self._listener.close()
        self.join(1.0)
        with self._lock:
            for client in self._open:
                _shut(client)
        for worker in self._workers:
            worker.join(1.0)

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                remote = tunnels.connect(self._connection, self._choose_pod(), self._target_port)
            except StackkitError as error:
                with suppress(OSError):
                    client.sendall(_bad_gateway(error))
            else:
                tunnels.carry(client, remote)
            finally:
                with self._lock:
                    self._open.discard(client)


def _shut(client: socket.socket) -> None:
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def _bad_gateway(error: StackkitError) -> bytes:
    """The answer to a client whose connection leads nowhere."""
    said = error.message.encode()
    head = f"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(said)}"
    return f"{head}\r\nConnection: close\r\n\r\n".encode() + said
