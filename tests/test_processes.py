"""Telling a dead process from one that lives, and from one that cannot be seen from here."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackkit import processes
from stackkit.processes import ProcessIdentity, start_ticks

_CHILD = """
import json, sys
from stackkit.processes import ProcessIdentity
print(json.dumps({"process": ProcessIdentity.current().as_dict()}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def child() -> Iterator[tuple[subprocess.Popen[str], ProcessIdentity]]:
    """A process that ends when its stdin is closed, and the identity that it gives itself."""
    command = [sys.executable, "-c", _CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        identity = ProcessIdentity.parse(process.stdout.readline())
        assert identity is not None
        yield process, identity
        process.kill()


def end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()


def test_a_process_that_lives(child: tuple[subprocess.Popen[str], ProcessIdentity]) -> None:
    process, identity = child
    assert identity.pid == process.pid
    assert not identity.is_provably_dead()
    assert not ProcessIdentity.current().is_provably_dead()
    assert identity != ProcessIdentity.current()


def test_a_process_that_has_ended(child: tuple[subprocess.Popen[str], ProcessIdentity]) -> None:
    process, identity = child
    end(process)
    process.wait()
    assert start_ticks(process.pid) is None
    assert identity.is_provably_dead()


def test_a_zombie_has_ended(child: tuple[subprocess.Popen[str], ProcessIdentity]) -> None:
    process, identity = child
    end(process)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and still not waited for
    assert identity.is_provably_dead()


def test_a_pid_that_is_used_again(child: tuple[subprocess.Popen[str], ProcessIdentity]) -> None:
    _, identity = child
    assert dataclasses.replace(identity, start="1").is_provably_dead()


def test_another_boot_of_this_machine() -> None:
    assert dataclasses.replace(ProcessIdentity.current(), boot="before").is_provably_dead()


@pytest.mark.parametrize("field", ["machine", "namespace"])
def test_what_cannot_be_seen_from_here_is_not_dead(field: str) -> None:
    gone = dataclasses.replace(ProcessIdentity.current(), start="1")
    assert gone.is_provably_dead()
    assert not dataclasses.replace(gone, **{field: "another"}).is_provably_dead()


def test_another_machine_with_another_boot_is_not_dead() -> None:
    assert not dataclasses.replace(ProcessIdentity.current(), machine="another", boot="another").is_provably_dead()


def test_a_process_that_may_not_be_looked_at_is_not_dead(
    child: tuple[subprocess.Popen[str], ProcessIdentity], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, identity = child

    def hidden(path: object, **options: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(processes.Path, "read_text", hidden)
    assert start_ticks(process.pid) == ""
    assert not identity.is_provably_dead()
    end(process)
    process.wait()
    assert identity.is_provably_dead()


def test_a_process_that_could_not_look_at_itself_is_dead_only_when_gone(
    child: tuple[subprocess.Popen[str], ProcessIdentity],
) -> None:
    process, identity = child
    unknown = dataclasses.replace(identity, start="")
    assert not unknown.is_provably_dead()
    end(process)
    process.wait()
    assert unknown.is_provably_dead()


def test_a_name_with_brackets_does_not_confuse() -> None:
    before = start_ticks(os.getpid())
    comm = Path("/proc/self/comm")
    name = comm.read_text().strip()
    comm.write_text(") R 1 (")
    try:
        assert start_ticks(os.getpid()) == before
    finally:
        comm.write_text(name)


def test_it_reads_what_it_wrote() -> None:
    identity = ProcessIdentity.current()
    assert ProcessIdentity.parse(json.dumps({"process": identity.as_dict(), "id": "x"})) == identity


GOOD = ProcessIdentity("m", "b", "n", 1, "1").as_dict()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "null",
        "7",
        "[]",
        "{}",
        '{"process": null}',
        '{"process": {}}',
        json.dumps({"process": {**GOOD, "more": 1}}),
        json.dumps({"process": {**GOOD, "pid": "self"}}),
        json.dumps({"process": {**GOOD, "pid": 0}}),
        json.dumps({"process": {**GOOD, "pid": -1}}),
        json.dumps({"process": {**GOOD, "pid": True}}),
        json.dumps({"process": {**GOOD, "start": None}}),
    ],
)
def test_garbage_names_no_process(text: str) -> None:
    assert ProcessIdentity.parse(text) is None


def test_an_id_that_was_not_made_yet_names_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.Path, "read_text", lambda *_, **__: "uninitialized\n")
    assert processes.machine_id.__wrapped__().startswith(processes.machine_name())


def test_a_machine_without_an_id_is_named_by_more_than_its_network_card(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: object, **options: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(processes.Path, "read_text", missing)
    monkeypatch.setattr(processes.uuid, "getnode", lambda: 0x0242AC110002)  # what containers everywhere have
    monkeypatch.setattr(processes, "machine_name", lambda: "first")
    first = processes.machine_id.__wrapped__()
    monkeypatch.setattr(processes, "machine_name", lambda: "second")
    assert processes.machine_id.__wrapped__() != first
