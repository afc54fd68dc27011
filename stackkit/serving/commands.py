"""The command line: serve in the foreground, as a container does or as told, or claim a folder and serve it in the
background.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from . import claims, container
from .batching import DEFAULT_MAX_BATCH_SIZE, Batching
from .claims import ClaimError, FailedUpdate, Launch, Phase, ServerState
from .logs import LogFormat, LogWriter, stderr_writer
from .model_options import MODEL_HELP, add_model_options
from .supervisor import Supervisor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0 after a clean stop, 1 on failure, 130 after SIGINT."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    match given[:1]:
        case [container.HAND_OVER]:
            from . import handover

            return handover.main(given[1:], os.environ)
        case [container.FETCH]:
            from . import fetch

            return fetch.main_in_container(given[1:], os.environ)
    return _serve(given)


def _serve(given: list[str]) -> int:
    parser = _parser()
    if given[:1] == [container.COMMAND]:
        given = given[1:]
        try:
            parser.set_defaults(**container.defaults(os.environ))
        except container.UnknownOptionError as error:
            parser.error(str(error))
    options = parser.parse_args(given)
    if options.claim is not None:
        from .managed import start

        folder, token = options.claim
        return start(Path(folder), token, options.starter)
    if options.model is None:
        parser.error("name the model to serve")
    try:
        launch = Launch(
            token="",
            model=options.model,
            format=options.format,
            host=options.host,
            port=options.port,
            workers=_workers(options.workers, options.gpus),
            request_timeout=options.request_timeout,
            max_body=options.max_body,
            batching=options.batching,
            max_batch_size=options.max_batch_size,
            casting=options.casting,
            log_format=options.log_format,
            token_file=_absolute(options.token_file),
            certfile=_absolute(options.certfile),
            keyfile=_absolute(options.keyfile),
            model_name=options.model_name,
            python=options.python,
            gpus=options.gpus,
        )
    except ClaimError as error:
        parser.error(str(error))
    if options.handover is not None:
        return _foreground_with_handover(launch, Path(options.handover))
    if "://" in launch.model:
        return _fetch_first(launch, options.model_digest)
    if options.model_digest is not None:
        parser.error("--model-digest is for a model that is fetched")
    return _foreground(launch)


def _fetch_first(launch: Launch, digest: str | None) -> int:
    from . import fetch  # few need it, and the libraries that it begins with take their time to import

    try:
        with fetch.fetched(launch.model, digest) as path:
            return _foreground(replace(launch, model=str(path)))
    except fetch.FetchError:
        return 1


def _foreground_with_handover(launch: Launch, folder: Path) -> int:
    from .handover import Receiver

    try:
        receiver = Receiver(folder, launch)
        first, dropped = receiver.launch(), receiver.dropped()
    except ClaimError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return _foreground(first, receiver.report, receiver.reread, dropped)


def _foreground(
    launch: Launch,
    report: Callable[[ServerState], None] = lambda _: None,
    reread: Callable[[], Launch] | None = None,
    failed_update: FailedUpdate | None = None,
) -> int:
    writer = LogWriter(stderr_writer, LogFormat(launch.log_format))
    root = logging.getLogger("stackkit.serving")
    root.setLevel(logging.INFO)
    root.addHandler(writer)
    supervisor = Supervisor(launch, writer, report, reread, failed_update)
    try:
        outcome = supervisor.run()
    finally:
        root.removeHandler(writer)
        writer.close()
    if outcome.phase is Phase.FAILED:
        sys.stderr.write(f"{outcome.error}\n")
        return 1
    return 130 if supervisor.signal == signal.SIGINT else 0


def _workers(workers: int | None, gpus: str | None) -> int:
    if workers is not None:
        return workers
    return 1 if gpus is None else len(gpus.split(","))


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -P -m stackkit.serving",
        usage="%(prog)s [serve] [MODEL] [options]",
        description="Serve one model until SIGTERM or SIGINT.",
        epilog=f"The word serve, as the first argument, is for containers: MODEL is then {container.MODEL_FOLDER}, the"
        f" address is every one of the machine's, port {container.PORT}, and an option may be given in the environment"
        f" as {container.PREFIX}NAME. A model in a file of that name is ./serve.",
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free one (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="processes (default: 1, or one for each of --gpus)")
    parser.add_argument(
        "--request-timeout",
        type=float,
        default=claims.DEFAULT_REQUEST_TIMEOUT,
        metavar="SECONDS",
        help="a request that takes longer is answered 504 (default: %(default)s)",
    )
    parser.add_argument(
        "--max-body",
        type=int,
        default=claims.DEFAULT_MAX_BODY,
        metavar="BYTES",
        help="a larger request is answered 413 (default: %(default)s)",
    )
    parser.add_argument(
        "--batching",
        choices=list(Batching),
        default=Batching.AUTO,
        help="answer requests that wait together by one call of the model; auto does so where every row is known to be"
        " predicted by itself (default: %(default)s)",
    )
    parser.add_argument(
        "--max-batch-size",
        type=int,
        default=DEFAULT_MAX_BATCH_SIZE,
        metavar="ROWS",
        help="rows in such a call; 1 turns it off (default: %(default)s)",
    )
    parser.add_argument(
        "--log-format",
        choices=list(LogFormat),
        default=LogFormat.TEXT,
        help="of the log's lines (default: %(default)s)",
    )
    parser.add_argument("--token-file", metavar="FILE", help="holds the bearer token that requests must bear")
    parser.add_argument("--certfile", metavar="FILE", help="a certificate chain in PEM, for TLS")
    parser.add_argument("--keyfile", metavar="FILE", help="its private key, when it is not in the same file")
    parser.add_argument("--model-name", metavar="NAME", help="what clients call the model (default: its file's name)")
    parser.add_argument("--python", metavar="INTERPRETER", help="runs the workers (default: this one)")
    parser.add_argument(
        "--gpus", metavar="DEVICE,…", help="a device for each worker, as CUDA_VISIBLE_DEVICES names them"
    )
    parser.add_argument(
        "--model-digest", metavar="sha256:HEX", help="of a model that is fetched: any other is refused (default: any)"
    )
    parser.add_argument(
        "--handover",
        metavar="FOLDER",
        help="where other models are handed over to be served on SIGUSR1 (default: none)",
    )
    add_model_options(parser)
    parser.add_argument(
        "--claim",
        nargs=2,
        metavar=("FOLDER", "TOKEN"),
        help="go to the background and serve what FOLDER/launch.json says, if its token is TOKEN",
    )
    parser.add_argument(
        "--starter",
        type=int,
        metavar="FD",
        help="with --claim: a pipe that whoever asks for it holds open; not when they have ended before the claim",
    )
    return parser
