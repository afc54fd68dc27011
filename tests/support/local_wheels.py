"""Wheels made on the spot, so that environments can be built without a network and in a moment."""

from __future__ import annotations

import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

from stackkit.environments.runtime import RUNTIME_REQUIREMENTS, normalized


def write_wheel(folder: Path, name: str, version: str, files: Mapping[str, str]) -> None:
    """A wheel of pure Python with these files, by their names in ``site-packages``."""
    info = f"{name}-{version}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*contents, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**contents, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)


def write_wheels(folder: Path) -> list[str]:
    """The serving runtime's libraries as empty wheels, one of which leads to the real ones where these tests run, and
    ``answers`` 1.0 and 2.0, whose ANSWER is their version. Returns the options that make pip and uv use these alone.
    """
    names = [normalized(line) for line in RUNTIME_REQUIREMENTS]
    for number, name in enumerate(names):
        here = {} if number else {"here.pth": sysconfig.get_path("purelib") + "\n"}
        write_wheel(folder, name, "99.0", here)
    for version in ("1.0", "2.0"):
        write_wheel(folder, "answers", version, {"answers.py": f"ANSWER = {version!r}\n"})
    return ["--no-index", f"--find-links {folder}"]
