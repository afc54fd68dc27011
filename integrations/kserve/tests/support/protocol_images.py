"""Images of a small server that speaks V1 and V2, for what needs no model of ours."""

from __future__ import annotations

import hashlib
import io
import tarfile

from docker import DockerClient
from docker.errors import ImageNotFound
from docker_parts import LABEL_TEST
from kube import alone
from real_parts import BASE_IMAGE

SERVER = """
import http.server, json, os, signal, sys

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if os.environ["ANSWER"] == "broken":
    sys.exit("ValueError: it cannot be loaded")

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def do_GET(self):
        self.reply(200, {})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = os.environ.get("SAYS", os.environ["ANSWER"])
        if self.path.endswith(":predict"):
            self.reply(200, {"predictions": [answer for _ in asked["instances"]]})
        elif self.path.endswith("/infer"):
            rows = asked["inputs"][0]["shape"][0]
            output = {"name": "answer", "datatype": "BYTES", "shape": [rows], "data": [answer] * rows}
            self.reply(200, {"model_name": self.path.split("/")[3], "outputs": [output]})
        else:
            self.reply(404, {"error": "no such path"})

    def reply(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

print("serving", os.environ["ANSWER"], flush=True)
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""

DOCKERFILE = f"""
FROM {BASE_IMAGE}
COPY server.py /server.py
ENTRYPOINT ["python", "-u", "/server.py"]
USER 1000
"""


def protocol_images(engine: DockerClient) -> dict[str, str]:
    """Three images, kept for the next run: two that answer each row with their own name, and one that ends at once."""
    version = hashlib.sha256((SERVER + DOCKERFILE).encode()).hexdigest()[:12]
    names = {name: f"stackkit-test-protocols:{name}-{version}" for name in ("one", "two", "broken")}
    with alone("images"):
        for name, tag in names.items():
            try:
                engine.images.get(tag)
            except ImageNotFound:
                _build(engine, tag, f"{DOCKERFILE}ENV ANSWER={name}\n")
    return names


def _build(engine: DockerClient, tag: str, dockerfile: str) -> None:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, text in (("server.py", SERVER), ("Dockerfile", dockerfile)):
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    context.seek(0)
    engine.images.build(fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True, labels={LABEL_TEST: tag})
