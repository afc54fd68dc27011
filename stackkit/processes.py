"""Which process, on which boot of which machine: what tells a dead owner from one that cannot be seen from here.

A PID alone is used again, and a creation time moves when the clock is set. PID, boot id and start ticks together
name one process for ever; the PID namespace is added because two containers may share a machine's identity.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import psutil


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, named so that nothing else ever bears the name."""

    machine: str
    boot: str
    namespace: str
    pid: int
    start: str

    @classmethod
    def current(cls) -> ProcessIdentity:
        pid = os.getpid()
        return cls(machine_id(), _boot_id(), _pid_namespace(), pid, start_ticks(pid) or "")

    @classmethod
    def parse(cls, text: str) -> ProcessIdentity | None:
        """Read the ``{"process": ...}`` that holds what ``as_dict()`` gave; None for anything else."""
        try:
            identity = cls(**json.loads(text)["process"])
        except (ValueError, TypeError, KeyError):
            return None
        texts = (identity.machine, identity.boot, identity.namespace, identity.start)
        well_formed = type(identity.pid) is int and identity.pid > 0 and all(isinstance(text, str) for text in texts)
        return identity if well_formed else None

    def is_provably_dead(self) -> bool:
        """Whether this process has surely ended. False when it lives, and when that cannot be known from here."""
        if self.machine != machine_id():
            return False
        if self.boot != _boot_id():
            return True
        if self.namespace != _pid_namespace():
            return False
        start = start_ticks(self.pid)
        return start is None or ("" not in (start, self.start) and start != self.start)

    def as_dict(self) -> dict[str, str | int]:
        return asdict(self)


@cache
def machine_id() -> str:
    """What names this machine: systemd's machine id where there is one, else its name and network card's address."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            text = Path(path).read_text(encoding="ascii").strip()
            if text not in ("", "uninitialized"):  # what an image holds, of which many machines are made
                return text
        except (OSError, UnicodeDecodeError):
            continue
    # the address alone is no name: containers on two machines often have the same
    return f"{machine_name()}-{uuid.getnode():012x}"


@cache
def machine_name() -> str:
    return socket.gethostname()


def start_ticks(pid: int) -> str | None:
    """When the process started, in ticks since boot, as the kernel has it; None when there is no such process.

    A zombie has ended: its number is merely not free yet. The text is empty for a process that exists and may not be
    looked at, such as another user's where /proc hides those.
    """
    try:
        # the command's name stands in brackets and may itself hold brackets and spaces
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        if not Path("/proc/self/stat").exists():
            return _creation_time(pid)
        return "" if psutil.pid_exists(pid) else None
    return None if fields[0] in "ZX" else fields[19]


def _creation_time(pid: int) -> str | None:
    try:
        return str(psutil.Process(pid).create_time())
    except psutil.AccessDenied:
        return ""
    except psutil.Error:
        return None


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(psutil.boot_time())


@cache
def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
