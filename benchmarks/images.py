"""A model's image, built by stackkit and by ``mlflow models build-docker``: size, times to build, time to an answer.

Both build on the same base image, with an engine that has none of their steps in its cache, then once more with
another model that asks for the same. Needs a Docker Engine with the base image, MLflow and scikit-learn.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, ImageNotFound
from measuring import print_table, spread

LABEL = "stackkit.benchmark"
BODY = {"inputs": [[5.1, 3.5, 1.4, 0.2]]}
SCRIPTS = Path(sys.executable).parent

Command = Callable[[Path, str], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-image", default="python:3.11-slim", help="of the running Python's version")
    parser.add_argument("--starts", type=int, default=5, help="how often each container is started")
    options = parser.parse_args()
    engine = docker.from_env()
    with tempfile.TemporaryDirectory() as folder:
        models = [save_model(Path(folder) / f"iris-{each}", each) for each in (1, 2)]
        with fresh_base(engine, options.base_image, python_of(models[0])) as base:
            commands: dict[str, Command] = {
                "stackkit model build-image": lambda model, tag: [
                    *(str(SCRIPTS / "stackkit"), "model", "build-image", str(model)),
                    *("--tag", tag, "--base-image", base),
                ],
                "mlflow models build-docker": lambda model, tag: [
                    *(str(SCRIPTS / "mlflow"), "models", "build-docker", "--model-uri", str(model)),
                    *("--name", tag, "--env-manager", "local"),
                ],
            }
            rows = [
                [name, *measure(engine, base, models, command, options.starts)] for name, command in commands.items()
            ]
    headings = (
        "",
        "above the base, MB",
        "cold build, s",
        "another model, s",
        "start to an answer, s: min / median / max",
    )
    print_table(headings, rows)


def measure(engine: Any, base: str, models: list[Path], command: Command, starts: int) -> list[str]:
    tag = f"stackkit-benchmark-{uuid.uuid4().hex}:1"
    builds = []
    for model in models:
        begun = time.perf_counter()
        run(command(model, tag), model.parent)
        builds.append(time.perf_counter() - begun)
    size = engine.images.get(tag).attrs["Size"] - engine.images.get(base).attrs["Size"]
    answers = [start_to_answer(engine, tag) for _ in range(starts)]
    return [f"{size / 1e6:.0f}", *(f"{seconds:.1f}" for seconds in builds), spread(answers)]


def run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "STACKKIT_HOME": str(folder / "home"), "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


def start_to_answer(engine: Any, tag: str) -> float:
    """Seconds from ``docker run`` to a prediction that is right."""
    begun = time.perf_counter()
    container = engine.containers.run(tag, detach=True, ports={"8080/tcp": ("127.0.0.1", None)}, labels=[LABEL])
    try:
        container.reload()
        url = f"http://127.0.0.1:{container.ports['8080/tcp'][0]['HostPort']}/invocations"
        request = urllib.request.Request(url, json.dumps(BODY).encode(), {"Content-Type": "application/json"})
        while time.perf_counter() - begun < 300:
            try:
                with urllib.request.urlopen(request) as response:
                    assert json.load(response) == {"predictions": [0]}
                    return time.perf_counter() - begun
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        raise SystemExit(f"{tag} did not answer: {container.logs().decode()[-3000:]}")
    finally:
        container.remove(force=True)


@contextmanager
def fresh_base(engine: Any, image: str, version: str) -> Iterator[str]:
    """The base image under the name that MLflow builds on, with a label that no cache knows."""
    name, mark = f"python:{version}-slim", uuid.uuid4().hex
    try:
        before = engine.images.get(name).id
    except ImageNotFound:
        before = None
    dockerfile = io.BytesIO(f"FROM {image}\nLABEL {LABEL}={mark}\n".encode())
    engine.images.build(fileobj=dockerfile, tag=name, rm=True)
    try:
        yield name
    finally:
        for each in engine.images.list(all=True, filters={"label": f"{LABEL}={mark}"}):
            try:
                engine.images.remove(each.id, force=True)
            except APIError:
                continue  # gone with another
        if before is not None:
            engine.images.get(before).tag(*name.split(":"))


def save_model(folder: Path, seed: int) -> Path:
    """An MLflow model that asks for MLflow and for what it was trained with."""
    import mlflow.sklearn
    import numpy
    import pandas
    import sklearn
    import skops
    from mlflow.models import infer_signature
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, target = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000, C=float(seed)).fit(features, target)
    libraries = (mlflow, numpy, pandas, sklearn, skops)
    names = {"sklearn": "scikit-learn"}
    pins = [f"{names.get(each.__name__, each.__name__)}=={each.__version__}" for each in libraries]
    signature = infer_signature(features, model.predict(features))
    mlflow.sklearn.save_model(model, str(folder), signature=signature, pip_requirements=pins)
    return folder


def python_of(model: Path) -> str:
    """The version of Python that the model asks for."""
    line = next(line for line in (model / "python_env.yaml").read_text().splitlines() if line.startswith("python: "))
    return line.removeprefix("python: ").strip()


if __name__ == "__main__":
    main()
