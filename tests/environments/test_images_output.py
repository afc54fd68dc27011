"""What an engine says while it builds, most of it recorded from a real one, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from stackkit.environments.images import builder
from stackkit.environments.images.build_output import BuildOutput
from stackkit.errors import ImageError

BASE = [
    {"stream": "Step 1/3 : FROM python:3.11-slim AS environment"},
    {"stream": "\n"},
    {"stream": " ---> be9ccdde54de\n"},
]
CACHED = [
    {"stream": "Step 2/3 : COPY requirements /build/"},
    {"stream": "\n"},
    {"stream": " ---> Using cache\n"},
    {"stream": " ---> 386db67e74d9\n"},
]
INSTALL = {"stream": "Step 3/3 : RUN python -m pip install --requirement /build/requirements.txt\n"}
DONE = [
    INSTALL,
    {"stream": " ---> Running in e866d55ecdd7\n"},
    {"stream": "Collecting numpy>=1.23.2\n  Downloading numpy-2.4.6-cp311.whl (17 MB)\n"},
    {"stream": "Removing intermediate container e866d55ecdd7\n"},
    {"stream": " ---> 0a90047fa110\n"},
    {"aux": {"ID": "sha256:0a90047fa110f4"}},
]
FAILED = {"errorDetail": {"code": 1, "message": "The command '/bin/sh -c …' returned a non-zero code: 1"}}


def take(messages: Iterable[dict[str, Any]]) -> tuple[BuildOutput, list[str]]:
    said: list[str] = []
    output = BuildOutput(said.append)
    for message in messages:
        output.take(message)
    return output, said


def failure(*messages: dict[str, Any]) -> str:
    with pytest.raises(ImageError) as caught:
        take(messages)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_line_may_come_in_pieces() -> None:
    pieces = ["\x1b[91mERROR: No matching ", "\x1b[0m\x1b[91mdistribution found", " for nosuch==9\n\x1b[0m"]
    told = failure(*BASE, INSTALL, *({"stream": piece} for piece in pieces), FAILED)
    assert told == "The model's environment cannot be built: No matching distribution found for nosuch==9"


def test_what_was_made_here_is_neither_the_base_nor_from_the_cache() -> None:
    output, _ = take([*BASE, *CACHED, *DONE])
    assert output.made == ["0a90047fa110"]
    assert output.image == "sha256:0a90047fa110f4"


def test_progress_names_the_step_and_what_it_does() -> None:
    _, said = take([*BASE, *CACHED, *DONE])
    assert said[0] == "step 1 of 3: FROM python:3.11-slim AS environment"
    assert "step 3 of 3: Collecting numpy>=1.23.2" in said
    assert all(len(text) <= 100 and "\n" not in text for text in said)


def test_a_base_image_that_is_fetched_is_progress_too() -> None:
    _, said = take([*BASE[:2], {"status": "Pulling fs layer", "id": "a1"}])
    assert said[-1] == "fetching the base image: Pulling fs layer"


def test_a_base_image_that_is_nowhere() -> None:
    error = {"errorDetail": {"message": "pull access denied for nosuch, repository does not exist"}}
    assert failure({"stream": "Step 1/3 : FROM nosuch:1 AS environment"}, {"stream": "\n"}, error) == (
        "The base image nosuch:1 is not on the engine and cannot be fetched:"
        " pull access denied for nosuch, repository does not exist"
    )


def test_a_requirement_that_does_not_exist() -> None:
    lines = (
        "\x1b[91mERROR: Could not find a version that satisfies the requirement nosuch==9 (from versions: none)\n"
        "\x1b[0m\x1b[91mERROR: No matching distribution found for nosuch==9\n\x1b[0m"
    )
    told = failure(*BASE, INSTALL, {"stream": lines}, FAILED)
    assert told.startswith("The model's environment cannot be built: ")
    assert "nosuch==9" in told
    assert "\x1b" not in told
    assert "non-zero" not in told


def test_requirements_that_contradict_each_other() -> None:
    lines = (
        "ERROR: Cannot install pandas==2.2.0 and numpy==1.20.0 because these package versions have conflicting"
        " dependencies.\n\nThe conflict is caused by:\n    The user requested numpy==1.20.0\n"
        "    pandas 2.2.0 depends on numpy>=1.22.4\n\nTo fix this you could try to:\n1. loosen the range\n\n"
        "ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/\n"
    )
    told = failure(*BASE, INSTALL, {"stream": lines}, FAILED)
    assert "The user requested numpy==1.20.0; pandas 2.2.0 depends on numpy>=1.22.4" in told
    assert "loosen" not in told


@pytest.mark.parametrize(
    "messages",
    [
        [{"errorDetail": {"message": "write /layer/x: no space left on device"}}],
        [
            {"stream": "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"},
            FAILED,
        ],
    ],
    ids=["the engine", "pip"],
)
def test_a_disk_that_is_full(messages: list[dict[str, Any]]) -> None:
    assert failure(*BASE, INSTALL, *messages) == "The engine's disk is full: there is no room for the image."


def test_another_step_that_fails() -> None:
    error = {"errorDetail": {"message": "COPY failed: stat model: file does not exist"}}
    assert failure(*BASE, {"stream": "Step 3/3 : COPY model /\n"}, error) == (
        "The image cannot be built; step 3 of 3 failed: COPY failed: stat model: file does not exist"
    )


@pytest.mark.parametrize(
    ("tag", "pushed"),
    [
        ("registry:5000/iris", "registry:5000/iris:latest"),
        ("registry:5000/iris:2", "registry:5000/iris:2"),
        ("iris", "iris:latest"),
    ],
)
def test_one_image_is_pushed_and_not_all_that_bear_its_name(tag: str, pushed: str) -> None:
    asked: list[str] = []

    def push(name: str, **_: object) -> Iterator[dict[str, object]]:
        asked.append(name)
        yield {"aux": {"Digest": "sha256:0"}}

    engine: Any = SimpleNamespace(api=SimpleNamespace(push=push))
    assert builder._push(engine, tag, None, print) == "sha256:0"
    assert asked == [pushed]
