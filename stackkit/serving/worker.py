"""One worker: answers HTTP on the socket it was given, and loads the model meanwhile.

Started by the supervisor alone, which it tells over the control socket how the load went, and does not outlive.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence

import uvicorn

from . import formats, protocols
from .app import App
from .batching import Batching
from .errors import ModelFormatError, ModelLoadError
from .logs import FORMAT
from .service import Service
from .signature import Casting

logger = logging.getLogger("stackkit.serving.worker")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM. The process ends with status 1 when the model cannot be loaded."""
    options = _parser().parse_args(arguments)
    for descriptor in (options.listener, options.control):
        os.set_inheritable(descriptor, False)  # programs that the model starts have no use for them
    control = socket.socket(fileno=options.control)
    _die_with(options.supervisor, control)
    logging.basicConfig(format=FORMAT)
    logging.getLogger("stackkit.serving").setLevel(logging.INFO)
    # a server does not report to anybody about its models
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

    service = Service(
        options.model_name or formats.default_name(options.model),
        batching=Batching(options.batching),
        max_batch_size=options.max_batch_size,
    )
    app = App(
        protocols.tables(service),
        host=options.host,
        request_timeout=options.request_timeout,
        max_body=options.max_body,
    )
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
    )
    server = uvicorn.Server(config)
    listener = socket.socket(fileno=options.listener)

    async def serve() -> None:
        loading = threading.Thread(
            target=_load,
            args=(service, options.model, options.format, Casting(options.casting), control),
            name="loader",
            daemon=True,
        )
        # the socket is being accepted from before the load begins to compete for the interpreter
        asyncio.get_running_loop().call_soon(loading.start)
        await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve())


def _load(service: Service, model: str, format_name: str | None, casting: Casting, control: socket.socket) -> None:
    began = time.perf_counter()
    try:
        loaded = formats.load(model, format_name, casting)
        service.serve(loaded)
    except BaseException as error:
        expected = isinstance(error, ModelFormatError | ModelLoadError)
        logger.error("the model cannot be loaded", exc_info=None if expected else error)  # noqa: TRY400
        _tell(control, {"event": "failed", "error": _in_words(error)})
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    logger.info("loaded %s in %.1f seconds", loaded.name, time.perf_counter() - began)
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
    parser.add_argument("--slot", type=int, required=True, help="for people who read the process table")
    return parser


if __name__ == "__main__":
    main()
