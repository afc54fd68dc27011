"""Databases that break: connections that their server ends, and a server that goes away for a while."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator

from sqlalchemy import create_engine, make_url, text


def kill_connections(url: str) -> int:
    """Have the server end every connection to the database of ``url``; returns how many there were."""
    parsed = make_url(url)
    postgresql = parsed.get_backend_name() == "postgresql"
    if postgresql:
        found = "SELECT pid FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()"
    else:
        found = "SELECT id FROM information_schema.processlist WHERE db = :name AND id <> CONNECTION_ID()"
    server = create_engine(parsed.set(database="stackkit"), isolation_level="AUTOCOMMIT")
    try:
        with server.connect() as connection:
            numbers = list(connection.execute(text(found), {"name": parsed.database}).scalars())
            for number in numbers:
                # one that ends by itself in between is no error
                with contextlib.suppress(Exception):
                    connection.execute(
                        text(f"SELECT pg_terminate_backend({number}, 5000)" if postgresql else f"KILL {number}")
                    )
    finally:
        server.dispose()
    return len(numbers)


class Proxy:
    """A port on loopback that leads to a database's server, and that can be away: it then refuses, and ends what is.

    A context manager.
    """

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._end_all()
        self._listener.close()

    def leave(self) -> None:
        """Go away: nobody is let in, and every connection ends."""
        with self._lock:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._end_all()

    def come_back(self) -> None:
        with self._lock:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _run(self) -> None:
        while not self._ended.is_set():
            ready = self._selector.select(0.02)
            with self._lock:
                for key, _ in ready:
                    source = key.fileobj
                    if source is self._listener:
                        self._accept()
                    elif isinstance(source, socket.socket) and source in self._pairs:
                        self._carry(source)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(self._to)
        for one, other in ((near, far), (far, near)):
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _carry(self, source: socket.socket) -> None:
        try:
            data = source.recv(65536)
            self._pairs[source].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._end(source)

    def _end(self, one: socket.socket) -> None:
        other = self._pairs.pop(one)
        del self._pairs[other]
        for each in (one, other):
            self._selector.unregister(each)
            each.close()

    def _end_all(self) -> None:
        while self._pairs:
            self._end(next(iter(self._pairs)))


@contextlib.contextmanager
def away(proxy: Proxy, seconds: float) -> Iterator[threading.Timer]:
    """Have the proxy be away from now on, for some seconds; it is back at the end."""
    proxy.leave()
    timer = threading.Timer(seconds, proxy.come_back)
    timer.start()
    try:
        yield timer
    finally:
        timer.join()
