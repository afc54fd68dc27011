"""A disk that is full or read-only from some point of an operation on, and what must be true then.

Run in a mount namespace of its own, so that what is mounted ends with it:

    unshare --mount python tests/support/disks.py full deploy FOLDER
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol
from unittest import mock

import killing
from killing import OPERATIONS, Points, delete, models_in, truth

from stackkit import Client
from stackkit.errors import StackkitError
from stackkit.settings import Settings
from stackkit.stack import ComponentType
from stackkit.store import outages

SIZE = "16m"


class Disk(Protocol):
    """A disk that can be spoilt and mended."""

    def spoil(self) -> None: ...

    def mend(self) -> None: ...


class FullDisk:
    """Fills what is free, to the last byte."""

    def __init__(self, mounted: Path) -> None:
        self._filler = mounted / "filler"

    def spoil(self) -> None:
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_CREAT)
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    os.write(descriptor, b"x" * size)
        os.close(descriptor)

    def mend(self) -> None:
        self._filler.unlink(missing_ok=True)


class ReadOnlyDisk:
    """Refuses to open anything for writing. What is open by then stays writable."""

    def __init__(self, mounted: Path) -> None:
        self._mounted = str(mounted)
        self._spoilt = False

    def spoil(self) -> None:
        mount("--bind", self._mounted, self._mounted)
        mount("-o", "remount,bind,ro", self._mounted)
        self._spoilt = True

    def mend(self) -> None:
        if self._spoilt:
            subprocess.run(["umount", "--lazy", self._mounted], check=True)
            self._spoilt = False


# which disk, and whether the database is on it too
DISKS: dict[str, tuple[type[FullDisk] | type[ReadOnlyDisk], bool]] = {
    "full": (FullDisk, True),
    "full-without-database": (FullDisk, False),
    "read-only": (ReadOnlyDisk, True),
}


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def spoil_at_each_point(kind: str, name: str, folder: Path) -> None:
    """Spoil the disk at each point of an operation in turn; raises AssertionError for what is then not true."""
    mounted = folder / "disk"
    mounted.mkdir()
    mount("-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "stackkit-test", str(mounted))
    make_disk, with_database = DISKS[kind]
    disk: Disk = make_disk(mounted)
    home, models = mounted / "home", models_in(folder)
    client = Client(Settings(home, f"sqlite:///{(home if with_database else folder) / 'stackkit.db'}"))
    client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
    deployer = client.model_deployer("local")
    before, operation, finally_state = OPERATIONS[name]
    at = refused = 0
    while True:
        for each in before:
            each(deployer, models)
        at += 1

        def spoil() -> None:
            disk.spoil()
            client.database.close()  # as another process would, it opens the file anew from now on

        points = Points(at, spoil)
        try:
            # a server that can write nothing down is waited for to the end
            with points.put_into(deployer), mock.patch.object(killing, "TIMEOUT_SECONDS", 10.0):
                operation(deployer, models)
        except StackkitError as error:
            refused += 1
            assert error.message, "it is told"
            print(f"{at}: {type(error).__name__}: {error.message.splitlines()[0]}")
        spoilt = points.passed >= at
        disk.mend()
        client.database.close()
        gc.collect()  # one that was in use when its pool was given up lives on, and SQLite's memory of it with it
        no_torn_files(home)
        truth(client, home)
        operation(deployer, models)
        truth(client, home)
        states = [service.status.state for service in deployer.find_model_server()]
        assert states == ([] if finally_state is None else [finally_state]), f"{states} after point {at}"
        delete(deployer, models)
        left = [str(path) for path in (home / "services").rglob("*")]
        assert not left, f"spoilt at point {at}, it left {left}"
        if not spoilt:
            break
    assert at > 10, "the points are in place"
    print(f"{at - 1} points, {refused} refused")


def no_torn_files(home: Path) -> None:
    for path in home.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    left = [path.name for path in home.rglob(".*.json.*")]
    assert not left, f"half-written files: {left}"


def can_mount(folder: Path) -> str | None:
    """Why no file system can be mounted here; None when it can."""
    command = [*NAMESPACE, "mount", "-t", "tmpfs", "stackkit-test", str(folder)]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"unshare: {os.strerror(error.errno or errno.ENOENT)}"
    return tried.stderr.strip() or None


NAMESPACE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--propagation", "private"]


if __name__ == "__main__":
    outages.OUTAGE_SECONDS, outages._PAUSES = 0.2, (0.05, 0.05)
    spoil_at_each_point(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
