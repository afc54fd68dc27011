"""A websocket that leads to a port of a pod, and the bytes that are carried through it.

The protocol is Kubernetes' port forwarding over websockets: each message begins with the number of its channel, 0 for
the data and 1 for what went wrong, and the first message of each channel is the port. It is told in the source alone:
k8s.io/kubernetes, pkg/kubelet/cri/streaming/portforward/websocket.go.
"""

from __future__ import annotations

import selectors
import socket
import ssl
from typing import Any
from urllib.parse import urlencode, urlsplit

import websocket
from websocket import ABNF

from .connection import CONNECT_SECONDS, Connection, unreachable
from .errors import refusal

_PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
_CHUNK = 2**16

_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


def connect(connection: Connection, pod_path: str, target_port: int) -> websocket.WebSocket:
    """Open a websocket that leads to a port of a pod. Raises PlatformUnavailableError and RefusedError."""
    configuration = connection.configuration
    host = urlsplit(connection.host)
    query = urlencode({"ports": target_port})
    scheme = "ws" if host.scheme == "http" else "wss"
    proxy = urlsplit(configuration.proxy or "")
    made = websocket.WebSocket(sslopt=_tls(configuration))
    made.settimeout(CONNECT_SECONDS)
    try:
        made.connect(  # type: ignore[no-untyped-call]
            f"{scheme}://{host.netloc}{host.path}{pod_path}/portforward?{query}",
            header=[f"{name}: {value}" for name, value in connection.headers().items()],
            subprotocols=[_PROTOCOL],
            suppress_origin=True,
            **({"http_proxy_host": proxy.hostname, "http_proxy_port": proxy.port} if proxy.hostname else {}),
        )
    except websocket.WebSocketBadStatusException as error:
        raise refusal("GET", error.status_code, error.resp_body or b"", host=connection.host) from error
    except (websocket.WebSocketException, OSError) as error:
        raise unreachable(connection.host, error) from error
    return made


def carry(client: socket.socket, remote: websocket.WebSocket) -> None:
    """Carry bytes both ways until either side has ended, and close ``remote``.

    A client that ends its own half alone has ended: no HTTP client does that.
    """
    try:
        _Tunnel(client, remote).run()
    except (websocket.WebSocketException, OSError):
        return  # either side has broken off, which the other sees when its connection closes
    finally:
        remote.shutdown()  # type: ignore[no-untyped-call]


class _Tunnel:
    """One thread carries both ways: a TLS connection may not be read and written to at once by two."""

    def __init__(self, client: socket.socket, remote: websocket.WebSocket) -> None:
        self._client, self._remote = client, remote
        self._stream: Any = remote.sock
        self._to_client, self._to_remote = b"", b""
        self._begun: set[int] = set()
        self._channel = _DATA
        self._has_ended = False

    def run(self) -> None:
        self._client.setblocking(False)
        self._remote.settimeout(0)
        with selectors.DefaultSelector() as selector:
            while not (self._has_ended and not self._to_client):
                # neither side is read from while the other has not taken what was read before
                _watch(selector, self._client, reads=not self._to_remote, writes=bool(self._to_client))
                _watch(selector, self._stream, reads=not self._to_client, writes=bool(self._to_remote))
                ready = {key.fileobj for key, _ in selector.select(0 if self._has_more() else None)}
                if self._client in ready and not self._to_remote:
                    self._read_client()
                if not self._to_client and (self._stream in ready or self._has_more()):
                    self._read_remote()
                self._to_client = _send(self._client, self._to_client)
                self._to_remote = _send(self._stream, self._to_remote)

    def _has_more(self) -> bool:
        """Whether TLS has decrypted more than was read, which no selector sees."""
        return not self._to_client and isinstance(self._stream, ssl.SSLSocket) and self._stream.pending() > 0

    def _read_client(self) -> None:
        try:
            data = self._client.recv(_CHUNK)
        except _NOT_YET:
            return
        if data:
            self._to_remote = ABNF.create_frame(bytes([_DATA]) + data, ABNF.OPCODE_BINARY).format()
        else:
            self._has_ended, self._to_client = True, b""

    def _read_remote(self) -> None:
        try:
            frame = self._remote.recv_frame()  # type: ignore[no-untyped-call]  # of a part of one it keeps that part
        except _NOT_YET:
            return
        if frame.opcode == ABNF.OPCODE_CLOSE:
            self._has_ended = True
        elif frame.opcode == ABNF.OPCODE_PING:
            self._to_remote += ABNF.create_frame(frame.data, ABNF.OPCODE_PONG).format()
        elif frame.opcode == ABNF.OPCODE_CONT:
            self._take(frame.data)
        elif frame.opcode == ABNF.OPCODE_BINARY and frame.data:
            self._channel = frame.data[0]
            if self._channel in self._begun:
                self._take(frame.data[1:])
            self._begun.add(self._channel)  # its first message is the port

    def _take(self, data: bytes) -> None:
        if self._channel == _DATA:
            self._to_client += data
        else:  # nobody listens there, or the pod is gone
            self._has_ended = True


def _watch(selector: selectors.BaseSelector, watched: socket.socket, *, reads: bool, writes: bool) -> None:
    events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if writes else 0)
    if watched in selector.get_map():
        selector.unregister(watched)
    if events:
        selector.register(watched, events)


def _send(receiver: socket.socket, data: bytes) -> bytes:
    """Send as much as is taken now, and return the rest."""
    try:
        return data[receiver.send(data) :] if data else data
    except _NOT_YET:
        return data


def _tls(configuration: Any) -> dict[str, Any]:
    """What the kubeconfig says of TLS, as websocket-client takes it."""
    if not configuration.verify_ssl:
        return {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}
    told = {
        "ca_certs": configuration.ssl_ca_cert,
        "certfile": configuration.cert_file,
        "keyfile": configuration.key_file,
        "server_hostname": configuration.tls_server_name,
    }
    return {"cert_reqs": ssl.CERT_REQUIRED} | {name: value for name, value in told.items() if value}
