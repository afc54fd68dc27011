"""The disk is full, or read-only, from each point of an operation on: told, nothing torn, and asked for again later."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import disks
import pytest


@pytest.mark.faults
@pytest.mark.parametrize("kind", disks.DISKS)
@pytest.mark.parametrize("name", ["deploy", "update", "delete"])
def test_a_disk_that_is_spoilt_at_each_point(
    name: str, kind: str, tmp_path: Path, requires: Callable[[str, str], None]
) -> None:
    reason = disks.can_mount(tmp_path)
    if reason is not None:
        requires("mount", f"no file system can be mounted here: {reason}")
    command = [*disks.NAMESPACE, sys.executable, disks.__file__, kind, name, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-4000:]
