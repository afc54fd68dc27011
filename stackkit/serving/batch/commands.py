"""The command line of predictions for a file."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from .. import formats
from ..errors import ModelFormatError, ModelLoadError
from ..model_options import MODEL_HELP, add_model_options
from ..models import Model
from ..signature import Casting
from . import DEFAULT_CHUNK_SIZE, files
from .errors import BatchError, ModelBrokenError, first_line
from .prediction import predict_file, read_params
from .progress import ProgressBar


class _TerminatedError(BaseException):
    """SIGTERM or SIGHUP came: what is half done is to be removed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 0 when the output is there, 1 on failure, 130 after SIGINT, 143 after
    SIGTERM or SIGHUP.
    """
    options = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _terminate)
    bar = ProgressBar(sys.stderr)
    try:
        told = _run(options, bar)
    except BatchError as error:
        bar.clear()
        if isinstance(error, ModelBrokenError):
            traceback.print_exception(error.__cause__)
        return _fail(error.message, error.hint)
    except OSError as error:
        bar.clear()
        return _fail(f"{error.filename or options.output} cannot be used: {error.strerror or error}.")
    except (KeyboardInterrupt, _TerminatedError) as error:
        bar.clear()
        sys.stderr.write("Cancelled.\n")
        return 130 if isinstance(error, KeyboardInterrupt) else 143
    bar.clear()
    sys.stderr.write(f"{told}\n")
    return 0


def _run(options: argparse.Namespace, bar: ProgressBar) -> str:
    begun = time.monotonic()
    files.check(options.input, options.output)
    bar.say("loading the model …")
    model = _load(options.model, options.format, options.casting)
    if options.param and model.signature is None and _format(options) != "mlflow":
        raise BatchError(f"The model has no parameter {options.param[0][0]}.", "Only MLflow models declare parameters.")
    params = read_params(options.param, model.signature)
    count = predict_file(
        model, options.input, options.output, params=params, chunk_size=options.chunk_size, report=bar.show
    )
    several = "prediction" if count == 1 else "predictions"
    return f"Wrote {count:,} {several} to {options.output} in {time.monotonic() - begun:.1f} seconds."


def _load(reference: str, format_name: str | None, casting: Casting) -> Model:
    try:
        return formats.load(reference, format_name, casting)
    except (ModelFormatError, ModelLoadError) as error:
        raise BatchError(f"The model cannot be loaded: {first_line(error)}") from error
    except (Exception, SystemExit) as error:  # whatever its own code raises
        raise ModelBrokenError(f"The model cannot be loaded: {type(error).__name__}: {first_line(error)}") from error


def _format(options: argparse.Namespace) -> str:
    return options.format or formats.detect(Path(options.model))


def _fail(message: str, hint: str | None = None) -> int:
    sys.stderr.write(f"Error: {message}\n" + (f"Hint: {hint}\n" if hint else ""))
    return 1


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _TerminatedError


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not name=value")
    return name, value


def _rows(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least one row is a chunk")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -P -m stackkit.serving.batch", description="Predict for every row of a file."
    )
    parser.add_argument("model", help=MODEL_HELP)
    parser.add_argument("--input", type=Path, required=True, metavar="FILE", help="the rows; its suffix is its format")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the predictions, in their order")
    add_model_options(parser)
    parser.add_argument(
        "--param",
        type=_parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the model; may be given several times",
    )
    parser.add_argument(
        "--chunk-size",
        type=_rows,
        default=DEFAULT_CHUNK_SIZE,
        metavar="ROWS",
        help="in one call of the model (default: %(default)s)",
    )
    return parser
