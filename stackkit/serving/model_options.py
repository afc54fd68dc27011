"""The options about a model that every program has which loads one."""

from __future__ import annotations

import argparse

from .signature import Casting

MODEL_HELP = "a model file or folder, file.py:attribute or module:attribute"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--format`` and ``--casting``; ``formats.load`` takes their values."""
    parser.add_argument("--format", metavar="NAME", help="the model's format (default: detected)")
    parser.add_argument(
        "--casting",
        choices=list(Casting),
        default=Casting.EXACT,
        help="how an MLflow model's input is cast by its signature: exact refuses what would lose something, mlflow"
        " casts as MLflow's own server does (default: %(default)s)",
    )
