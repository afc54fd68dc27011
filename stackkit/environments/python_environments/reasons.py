"""Why an installer failed, in its own words and in one line, out of the hundreds that it may have printed."""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEAD, _TAIL = 250, 450  # of what is too long: it begins with what was tried, and ends with what follows from it
_VERSIONS = re.compile(r" \(from versions: .*\)")
_EXCEPTION = re.compile(r"\s+[A-Z]\w*(Error|Exception|Exit): ")
_UV_ERROR = re.compile(r"(error: |  × )")
_UV_MARKS = re.compile(r"^[ │╰├─▶×]*((error|cause): )?")
_PIP_STEP = re.compile(r"\s*× (.* did not run successfully)")
_PIP_PACKAGE = re.compile(r"\s*(?:Collecting|Processing|Building wheel for) (\S+)")


def reason(lines: Sequence[str]) -> str:
    """The reason that pip, uv or conda gave in ``lines``; empty when they hold nothing."""
    told = _of_build(lines) or _of_pip(lines) or _of_uv(lines) or [line for line in lines if line.strip()][-1:]
    text = " ".join(": ".join(part.strip().removesuffix(":") for part in told).split())
    return text if len(text) <= _HEAD + _TAIL else f"{text[:_HEAD]} … {text[-_TAIL:]}"


def _of_build(lines: Sequence[str]) -> list[str]:
    """pip could not build a package: which, at what, and the exception that its own code ended with."""
    for number, line in enumerate(lines):
        if step := _PIP_STEP.match(line):
            packages = [match[1] for before in lines[:number] if (match := _PIP_PACKAGE.match(before))]
            return [*packages[-1:], step[1], *_exception(lines)]
    return []


def _of_pip(lines: Sequence[str]) -> list[str]:
    """The lines that pip marks as errors, and the conflict that they speak of."""
    told = [
        _VERSIONS.sub("", line.removeprefix("ERROR: ")).removesuffix(".")
        for line in lines
        if line.startswith("ERROR: ") and "ResolutionImpossible" not in line
    ]
    if "The conflict is caused by:" in lines:
        start = lines.index("The conflict is caused by:") + 1
        end = next((number for number in range(start, len(lines)) if not lines[number].strip()), len(lines))
        told.append("; ".join(line.strip() for line in lines[start:end]))
    return told


def _of_uv(lines: Sequence[str]) -> list[str]:
    """uv's error with what it gives as causes, up to the first empty line; of a failed build, the exception instead."""
    start = next((number for number, line in enumerate(lines) if _UV_ERROR.match(line)), None)
    if start is None:
        return []
    end = next((number for number in range(start, len(lines)) if not lines[number].strip()), len(lines))
    told = [_UV_MARKS.sub("", line) for line in lines[start:end]]
    return [told[0], *(_exception(lines) or told[1:])]


def _exception(lines: Sequence[str]) -> list[str]:
    return [line.strip() for line in lines if _EXCEPTION.match(line)][-1:]
