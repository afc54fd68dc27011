"""One worker: answers HTTP on the socket it was given, and loads the model meanwhile.

Started by the supervisor alone, which it tells over the control socket how the load went, and does not outlive.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import json
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from . import formats, protocols
from .access import AccessLog, write_to_pipe
from .app import App
from .batching import Batching
from .bounds import HEARTBEAT, stuck_after
from .errors import ModelFormatError, ModelLoadError
from .http_server import Server, tls_context
from .logs import LogFormat
from .metrics import LOAD_SECONDS, Memory, Metrics
from .service import Service
from .signature import Casting

logger = logging.getLogger("stackkit.serving.worker")

_GARBAGE = 20_000
"""Objects after which Python looks for cycles: a request makes some hundred and leaves none, and what a library makes
while it is imported is there to stay.
"""

_FAREWELL = 0.2
"""Seconds in which a worker that is given up says so to those who wait."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM. The process ends with status 1 when the model cannot be loaded."""
    gc.set_threshold(_GARBAGE)
    options = _parser().parse_args(arguments)
    for descriptor in (options.listener, options.control, options.metrics):
        os.set_inheritable(descriptor, False)  # programs that the model starts have no use for them
    control = socket.socket(fileno=options.control)
    _die_with(options.supervisor, control)
    log_format = LogFormat(options.log_format)
    handler = logging.StreamHandler()
    handler.setFormatter(log_format.formatter())
    logging.basicConfig(handlers=[handler])
    logging.getLogger("stackkit.serving").setLevel(logging.INFO)
    # a server does not report to anybody about its models
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

    metrics = Metrics(Memory(options.metrics), options.region)
    access_log = AccessLog(write_to_pipe, log_format)
    service = Service(
        options.model_name or formats.default_name(options.model),
        metrics=metrics,
        batching=Batching(options.batching),
        max_batch_size=options.max_batch_size,
    )
    app = App(
        protocols.tables(service),
        host=options.host,
        request_timeout=options.request_timeout,
        max_body=options.max_body,
        metrics=metrics,
        access_log=access_log,
        token=_read_token(options.token_file),
    )
    tls = tls_context(options.certfile, options.keyfile) if options.certfile else None
    listener = socket.socket(fileno=options.listener)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        loaded = asyncio.Event()
        draining = functools.partial(_tell, control, {"event": "draining"})
        server = Server(app, on_draining=draining, on_end=access_log.flush, tls=tls)

        def load() -> None:
            _load(service, options.model, options.format, Casting(options.casting), control)
            loop.call_soon_threadsafe(loaded.set)

        # where it is accepted at once, that is from before the load begins to compete for the interpreter
        loop.call_soon(threading.Thread(target=load, name="loader", daemon=True).start)
        if options.patience:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(loaded.wait(), None if math.isinf(options.patience) else options.patience)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_watch(server, service, control, loaded, options.request_timeout, access_log))
            await server.serve(listener)
            watching.cancel()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve())


async def _watch(
    server: Server,
    service: Service,
    control: socket.socket,
    loaded: asyncio.Event,
    request_timeout: float,
    access_log: AccessLog,
) -> None:
    """Give signs of life, close connections that are too slow, and end the process when the model's thread hangs: it
    cannot be ended alone.
    """
    limit = stuck_after(request_timeout)
    while (busy := service.busy_for()) < limit:
        if loaded.is_set():
            _tell(control, {"event": "alive"})
        server.close_overdue(asyncio.get_running_loop().time())
        await asyncio.sleep(min(HEARTBEAT, limit / 3))
    logger.error("a call of the model has not returned in %.1f seconds: this worker is given up", busy)
    server.stop_accepting()
    service.abandon()
    await asyncio.sleep(_FAREWELL)
    access_log.flush()
    os._exit(1)


def _read_token(path: str | None) -> str | None:
    """The token in the file, without the white space around it. Raises OSError, ValueError when there is none."""
    if path is None:
        return None
    token = Path(path).read_text(encoding="utf-8").strip()
    if not token:
        raise ValueError(f"{path} holds no token")
    return token


def _load(service: Service, model: str, format_name: str | None, casting: Casting, control: socket.socket) -> None:
    began = time.perf_counter()
    try:
        # what is there by then stays: looking through it for garbage would stop every request for as long as it takes,
        # and a library is most of it, and leaves none
        formats.import_library(model, format_name)
        gc.freeze()
        loaded = formats.load(model, format_name, casting)
        gc.collect()
        gc.freeze()
        service.serve(loaded)
        gc.freeze()  # what the model's first request had imported
    except BaseException as error:
        expected = isinstance(error, ModelFormatError | ModelLoadError)
        logger.error("the model cannot be loaded", exc_info=None if expected else error)  # noqa: TRY400
        _tell(control, {"event": "failed", "error": _in_words(error)})
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    seconds = time.perf_counter() - began
    service.metrics.sample(LOAD_SECONDS).set(seconds)
    logger.info("loaded %s in %.1f seconds", loaded.name, seconds)
    _tell(control, {"event": "ready"})


def _in_words(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _tell(control: socket.socket, message: dict[str, str]) -> None:
    control.sendall(json.dumps(message).encode() + b"\n")


def _die_with(supervisor: int, control: socket.socket) -> None:
    """End this process at once when the supervisor is gone, whatever the model's code is doing at the time."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != supervisor:  # it was gone before there was anybody to be told
            os._exit(1)

    def watch() -> None:
        try:
            while control.recv(4096):
                pass
        except OSError:
            pass
        os._exit(1)

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -P -m stackkit.serving.worker")
    parser.add_argument("model")
    parser.add_argument("--format")
    parser.add_argument("--listener", type=int, required=True, help="descriptor of the listening socket")
    parser.add_argument("--control", type=int, required=True, help="descriptor of the supervisor's socket")
    parser.add_argument("--supervisor", type=int, required=True, help="the supervisor's PID")
    parser.add_argument("--host", required=True)
    parser.add_argument("--request-timeout", type=float, required=True)
    parser.add_argument("--max-body", type=int, required=True)
    parser.add_argument("--batching", choices=list(Batching), required=True)
    parser.add_argument("--max-batch-size", type=int, required=True)
    parser.add_argument("--casting", choices=list(Casting), required=True)
    parser.add_argument("--model-name")
    parser.add_argument("--metrics", type=int, required=True, help="descriptor of the memory that the workers share")
    parser.add_argument("--region", type=int, required=True, help="this worker's part of it")
    parser.add_argument("--log-format", choices=list(LogFormat), required=True)
    parser.add_argument(
        "--patience", type=float, required=True, help="seconds for which connections wait for the model; inf: all"
    )
    parser.add_argument("--token-file")
    parser.add_argument("--certfile")
    parser.add_argument("--keyfile")
    parser.add_argument("--slot", type=int, required=True, help="for people who read the process table")
    return parser


if __name__ == "__main__":
    main()
