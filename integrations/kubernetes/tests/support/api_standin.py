"""A stand-in of a Kubernetes API server, for what a real one does not do when a test asks for it."""

from __future__ import annotations

import http.server
import json
from pathlib import Path
from typing import Any

import yaml


class Standin:
    """An API server that answers what the test says, and notes what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[tuple[str, str, str | None]] = []
        self.bodies: list[tuple[str, bytes]] = []
        standin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                standin.bodies.append((self.command, body))
                standin.asked.append((self.command, self.path, self.headers["Authorization"]))
                status, body = standin.answers.pop(0)
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = answer

            def log_message(self, *words: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def write_kubeconfig(folder: Path, server: str, user: dict[str, Any] | None = None) -> Path:
    text = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user or {"token": "a-token"}}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in ("test", "other")],
        "current-context": "test",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(text), encoding="utf-8")
    return path
