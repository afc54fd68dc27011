"""Registries of images on this machine."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from real_parts import require

USER, PASSWORD = "ann", "hunter2"
# of that password, as htpasswd -nbB writes it
_HTPASSWD = "ann:$2y$05$OGm93coup7EaG.Ya3TR/R.0gUvVw7/upsoK3KkBcheNe5X/9rAfje\n"


@contextmanager
def running(folder: Path, *, private: bool) -> Iterator[str]:
    """The address, host and port, of a registry that keeps its files in ``folder``; a private one asks for PASSWORD."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    if program is None:
        require("docker", "there is no docker-registry: apt-get install docker-registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folder.mkdir()
    (folder / "htpasswd").write_text(_HTPASSWD, encoding="utf-8")
    configuration: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
    }
    if private:
        configuration["auth"] = {"htpasswd": {"realm": "stackkit", "path": str(folder / "htpasswd")}}
    (folder / "registry.yml").write_text(json.dumps(configuration), encoding="utf-8")
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([str(program), "serve", str(folder / "registry.yml")], stdout=log, stderr=log)
    try:
        _await_answer(f"http://{address}/v2/")
        yield address
    finally:
        process.terminate()
        process.wait()


def _await_answer(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            requests.get(url, timeout=5)
        except requests.ConnectionError:
            assert time.monotonic() < deadline, f"nothing answers at {url}"
            time.sleep(0.05)
        else:
            return
