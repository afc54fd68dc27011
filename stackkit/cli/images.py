"""``stackkit model build-image`` and ``generate-dockerfile``: a model's image, built here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .interaction import note, waiting
from .output import output_option, print_details


def _what_is_in_it(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--fetch-at-start",
            is_flag=True,
            help="Leave the model out; each container fetches it from its URI (s3://…, https://…) when it starts.",
        ),
        click.option(
            "--base-image",
            metavar="NAME:TAG",
            help="What to build on: it needs Python with venv and pip.  [default: python:X.Y-slim, of the version that"
            " the model asks for, or else of the one that runs stackkit]",
        ),
    ):
        command = option(command)
    return command


@click.command("build-image")
@click.argument("model_uri")
@click.option("-t", "--tag", required=True, metavar="NAME:TAG", help="What the image is called.")
@_what_is_in_it
@click.option("--platform", metavar="OS/ARCH", help="Such as linux/arm64.  [default: the engine's own]")
@click.option("--push", is_flag=True, help="Push it to the registry that its name begins with.")
@output_option
def build_image(
    model_uri: str,
    tag: str,
    base_image: str | None,
    fetch_at_start: bool,
    platform: str | None,
    push: bool,
    output: str,
) -> None:
    """Build an image that serves a model on port 8080.

    It holds the model, what the model asks for, and the model server: it starts under Docker, Kubernetes, KServe and
    SageMaker as it is. Building it again after a change of the model installs nothing again. The engine is the one
    that DOCKER_HOST names, or the one on this machine.
    """
    from ..client import Client

    with waiting("resolving the model") as progress:
        image = Client().build_image(
            model_uri,
            tag=tag,
            base_image=base_image,
            fetch_at_start=fetch_at_start,
            platform=platform,
            push=push,
            progress=progress,
        )
    print_details({"tag": image.tag, "id": image.id, "digest": image.digest}, output)
    if output == "table":
        note(f"Try it: docker run --rm -p 127.0.0.1:8080:8080 {image.tag}")


@click.command("generate-dockerfile")
@click.argument("model_uri")
@click.option(
    "-d",
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Where to write it; not there yet, or empty.",
)
@_what_is_in_it
def generate_dockerfile(model_uri: str, directory: Path, base_image: str | None, fetch_at_start: bool) -> None:
    """Write the Dockerfile of a model's image, with all that it copies, to be built elsewhere."""
    from ..client import Client

    with waiting("resolving the model") as progress:
        Client().write_build_context(
            model_uri, directory.absolute(), base_image=base_image, fetch_at_start=fetch_at_start, progress=progress
        )
    note(f"Build it: docker build -t NAME:TAG {directory}")
