"""What the tests build on the engine, and remove from it."""

from __future__ import annotations

import io
import tarfile
import threading
import time
from collections.abc import Callable
from typing import Any

import requests
from docker import DockerClient
from docker.errors import APIError
from real_parts import BASE_IMAGE
from stackkit_docker.containers import LABEL_SERVICE

from stackkit import Client

LABEL_TEST = "stackkit.test"
MODEL = "def predict(data):\n    return [[{answer}] for row in data]\n"

SERVER = """
import http.server, json, os, signal, sys, time

signal.signal(signal.SIGTERM, lambda *_: os.environ["ANSWER"] == "deaf" or sys.exit(0))
if os.environ["ANSWER"] == "broken":
    sys.exit("ValueError: it cannot be loaded")

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def do_GET(self):
        self.reply(b"")

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        if asked == "all the memory":
            held = [bytearray(b"x" * 2**20) for _ in range(2**20)]
        if isinstance(asked, dict):
            time.sleep(asked["sleep"])
            asked = [0]
        answer = os.environ["ANSWER"]
        self.reply(json.dumps({"predictions": [answer for _ in asked]}).encode())

    def reply(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

print("serving", os.environ["ANSWER"], flush=True)
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""

DOCKERFILE = f"""
FROM {BASE_IMAGE}
COPY server.py /server.py
HEALTHCHECK --interval=1s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/ping')"]
ENTRYPOINT ["python", "-u", "/server.py"]
USER 1000
"""


def build(engine: DockerClient, tag: str, *lines: str) -> None:
    """An image of the small server with further lines in its Dockerfile."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, text in (("server.py", SERVER), ("Dockerfile", DOCKERFILE + "\n".join(lines))):
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    context.seek(0)
    engine.images.build(fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True, labels={LABEL_TEST: tag})


def tags(engine: DockerClient) -> set[str]:
    """The names of all images; by one call, since others remove theirs meanwhile."""
    return {tag for image in engine.api.images() for tag in image["RepoTags"] or ()}


def remove_all(engine: DockerClient, client: Client) -> None:
    """Remove what a failed test has left on the engine of the services of ``client``, and nobody else's."""
    for service in list(client.servers.find(refresh=False)):
        mine = {"label": f"{LABEL_SERVICE}={service.id}"}
        for container in engine.containers.list(all=True, filters=mine):
            container.remove(force=True, v=True)
        for network in engine.networks.list(filters=mine):
            network.remove()
        for volume in engine.volumes.list(filters=mine):
            volume.remove(force=True)
        for tag in service.status.details.get("images", ()):
            try:
                engine.images.remove(tag, force=True)
            except APIError:
                continue


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


class Load:
    """Requests one after the other, each on a connection of its own, and what came of them: the first prediction, None
    for a request that failed.
    """

    def __init__(self, url: str | None) -> None:
        self.answers: list[Any] = []
        self._url, self._done = str(url), threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self._done.is_set():
            try:
                answer = requests.post(self._url, json={"inputs": [0]}, timeout=30).json()["predictions"][0]
            except requests.RequestException:  # refused, or cut off: the small server waits for nobody when it ends
                answer = None
            self.answers.append(answer)

    def __enter__(self) -> Load:
        self._thread.start()
        wait_until(lambda: self.answers)
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
