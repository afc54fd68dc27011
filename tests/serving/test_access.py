from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stackkit.serving import access
from stackkit.serving.access import AccessLog
from stackkit.serving.app import App
from stackkit.serving.logs import LogFormat


def lines_of(
    make_app: Callable[..., App], call: Callable[..., Any], log_format: LogFormat, **request: Any
) -> list[str]:
    written: list[bytes] = []
    log = AccessLog(written.append, log_format)
    call(make_app(lambda data: data, access_log=log), **request)
    assert written == []  # not yet: lines are gathered
    log.flush()
    log.flush()
    return b"".join(written).decode().splitlines()


def test_one_line_a_request_and_never_its_payload(make_app: Callable[..., App], call: Callable[..., Any]) -> None:
    (line,) = lines_of(make_app, call, LogFormat.TEXT, body={"inputs": ["secret"]})
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
    source = rf"INFO stackkit\.serving\.access\[{os.getpid()}\]"
    assert re.fullmatch(rf"{stamp} {source}: POST /invocations 200 \d+\.\d ms batch=1", line)


def test_a_line_in_json(make_app: Callable[..., App], call: Callable[..., Any]) -> None:
    (line,) = lines_of(make_app, call, LogFormat.JSON, path="/version", method="GET")
    entry = json.loads(line)
    assert {key: entry[key] for key in ("method", "path", "status", "batch_rows", "level")} == {
        "method": "GET",
        "path": "/version",
        "status": "200",
        "batch_rows": None,
        "level": "INFO",
    }
    assert entry["ms"] >= 0


def test_a_server_that_lives_does_not_say_so_each_time_it_is_asked(
    make_app: Callable[..., App], call: Callable[..., Any]
) -> None:
    for path in ("/ping", "/health", "/v2/health/live", "/v2/health/ready", "/metrics"):
        assert lines_of(make_app, call, LogFormat.TEXT, path=path, method="GET") == []
        assert len(lines_of(make_app, call, LogFormat.TEXT, path=path, method="DELETE")) == 1


def test_a_path_cannot_forge_a_line(make_app: Callable[..., App], call: Callable[..., Any]) -> None:
    assert len(lines_of(make_app, call, LogFormat.TEXT, path="/%0aforged", method="GET")) == 1


def test_lines_are_written_soon_by_themselves(
    make_app: Callable[..., App], ask: Callable[..., Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_INTERVAL", 0.01)

    async def scenario() -> bytes:
        written: asyncio.Queue[bytes] = asyncio.Queue()
        app = make_app(access_log=AccessLog(written.put_nowait))
        await ask(app, "/ping", method="GET")
        return await asyncio.wait_for(written.get(), 60)

    assert b"GET /ping 503" in asyncio.run(scenario())


def test_pieces_that_are_written_end_with_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda _, data: pieces.append(data))
    lines = [b"x" * length + b"\n" for length in (1000, 3000, 4000, 9000, 10)]
    access.write_to_pipe(b"".join(lines))
    assert b"".join(pieces) == b"".join(lines)
    assert max(map(len, pieces)) <= 4096
    assert pieces[0] == lines[0] + lines[1]
