"""Finding an interpreter of a version on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_TIMEOUT = 30.0  # seconds; an interpreter starts in a fraction of one
_QUESTION = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.executable)"


def find_python(minor: str) -> str | None:
    """An interpreter of the version ``minor`` (``3.11``): this one, one on the PATH, or pyenv's; None when there is
    none. Starts those that bear the name, to see whether they are.
    """
    if minor == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    return next((found for candidate in _candidates(minor) if (found := _ask(candidate, minor))), None)


def _candidates(minor: str) -> Iterator[str]:
    name = f"python{minor}"
    if on_path := shutil.which(name):
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path("~/.pyenv").expanduser())
    found = [path for path in pyenv.glob(f"versions/{minor}.*/bin/{name}") if path.parents[1].name[-1].isdigit()]
    yield from (str(path) for path in sorted(found, key=lambda path: _patch_level(path.parents[1].name), reverse=True))


def _patch_level(version: str) -> int:
    digits = version.rpartition(".")[2]
    return int(digits) if digits.isdigit() else -1


def _ask(candidate: str, minor: str) -> str | None:
    """Its real path when it runs and is of that version: what bears the name may be a shim with nothing behind it."""
    try:
        answer = subprocess.run(
            [candidate, "-I", "-c", _QUESTION], capture_output=True, text=True, timeout=_TIMEOUT, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    return answer[1] if len(answer) == 2 and answer[0] == minor else None
