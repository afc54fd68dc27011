"""What an engine says while it builds an image: which step it is at, which images it has made, and why it failed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import ImageError
from ..python_environments.reasons import reason

_STEP = re.compile(r"Step (?P<number>\d+)/(?P<count>\d+) : (?P<instruction>.+)")
_IMAGE = re.compile(r" ---> (?P<id>[0-9a-f]{12,64})")
_CACHED = " ---> Using cache"
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST_LINE = 100

NO_SPACE = "no space left on device"
"""What the engine says when its disk is full."""


class BuildOutput:
    """Takes in an engine's messages one by one, and calls ``progress`` with short texts.

    ``made`` are the images that this build has made so far, the base images and cached ones not among them; ``image``
    is the ID of the latest step's, and in the end of the whole.
    """

    def __init__(self, progress: Callable[[str], None]) -> None:
        self.made: list[str] = []
        self.image: str | None = None
        self._progress = progress
        self._number = ""
        self._instruction = ""
        self._cached = False
        self._lines: list[str] = []
        self._rest = ""

    def take(self, message: Mapping[str, Any]) -> None:
        """Raises ImageError when the message says that the build has failed."""
        if "errorDetail" in message or "error" in message:
            self._take_text("\n")
            raise self._failure(message)
        if "ID" in (message.get("aux") or {}):
            self.image = message["aux"]["ID"]
        self._take_text(message.get("stream") or "")
        if "status" in message:
            self._progress(f"fetching the base image: {message['status']}")

    def _take_text(self, text: str) -> None:
        # a message may end in the middle of a line
        *lines, self._rest = f"{self._rest}{_ESCAPE.sub('', text)}".split("\n")
        for line in lines:
            self._take_line(line.rstrip())

    def _take_line(self, line: str) -> None:
        if step := _STEP.fullmatch(line):
            self._number = f"step {step['number']} of {step['count']}"
            self._instruction, self._cached, self._lines = step["instruction"], False, []
        elif line == _CACHED:
            self._cached = True
        elif image := _IMAGE.fullmatch(line):
            self.image = image["id"]
            if not self._cached and not self._instruction.startswith("FROM "):
                self.made.append(image["id"])
            return
        self._lines.append(line)
        if line:
            said = line.strip() if self._lines[1:] else self._instruction
            self._progress(f"{self._number}: {said}"[:_LONGEST_LINE])

    def _failure(self, message: Mapping[str, Any]) -> ImageError:
        said = str((message.get("errorDetail") or {}).get("message") or message.get("error"))
        if any(NO_SPACE in text.lower() for text in (said, *self._lines)):
            return disk_full()
        if self._instruction.startswith("FROM "):
            base = self._instruction.split()[1]
            return ImageError(
                f"The base image {base} is not on the engine and cannot be fetched: {_first_line(said)}",
                "Check its name, or name another one: --base-image.",
            )
        if self._instruction.startswith("RUN "):
            return ImageError(
                f"The model's environment cannot be built: {reason(self._lines[1:]) or _first_line(said)}",
                "Mend the model's requirements, or name another base image: --base-image.",
            )
        return ImageError(f"The image cannot be built; {self._number} failed: {_first_line(said)}")


def disk_full() -> ImageError:
    return ImageError(
        "The engine's disk is full: there is no room for the image.",
        "Free some space there (docker system df shows what takes it), and build it again.",
    )


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "it does not say why")
