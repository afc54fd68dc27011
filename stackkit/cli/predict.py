"""``stackkit predict``: predictions for a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import click

from ..serving.batch import DEFAULT_CHUNK_SIZE
from ..serving.signature import Casting
from .attributes import key_values
from .environment import manager_option, told
from .interaction import waiting

_file = click.Path(path_type=Path)


@click.command("predict")
@click.argument("model_uri")
@click.option("-i", "--input", type=_file, required=True, metavar="FILE", help="The rows.")
@click.option("-o", "--output", type=_file, required=True, metavar="FILE", help="The predictions, in the rows' order.")
@click.option(
    "--param",
    "params",
    multiple=True,
    callback=key_values,
    metavar="NAME=VALUE",
    help="A parameter that the model declares; may be given several times.",
)
@click.option(
    "--chunk-size",
    type=click.IntRange(min=1),
    default=DEFAULT_CHUNK_SIZE,
    show_default=True,
    metavar="ROWS",
    help="Rows in one call of the model.",
)
@click.option(
    "--casting",
    type=click.Choice([casting.value for casting in Casting]),
    default=Casting.EXACT.value,
    show_default=True,
    help="How an MLflow model's input is cast by its signature.",
)
@manager_option
def predict(
    model_uri: str,
    input: Path,  # noqa: A002 - the option's name
    output: Path,
    params: Mapping[str, str],
    chunk_size: int,
    casting: str,
    env_manager: str | None,
) -> None:
    """Predict for every row of a file.

    Both files are CSV, JSON, JSON Lines or Parquet, as their suffixes say: .csv, .json, .jsonl, .ndjson, .parquet,
    and .gz behind all but the last. The output is there when it is whole; until then, and after a failure, whatever
    was there stays.

    The model is called with --chunk-size rows at a time. One whose prediction for a row depends on the rows beside it
    predicts something else for other sizes.
    """
    from ..client import Client

    with waiting("resolving the model") as progress:
        batch = Client().predict_command(
            model_uri,
            input=input,
            output=output,
            params=params,
            chunk_size=chunk_size,
            casting=casting,
            env_manager=env_manager,
            progress=progress,
        )
    told(batch.environment.differences, batch.environment.manager)
    # it takes this process's place and signals
    os.execve(batch.arguments[0], batch.arguments, batch.variables)  # noqa: S606
