"""``models update --canary | promote | abort | manifest | port-forward | transform(s)``, and ``deploy --dry-run``."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext

import pytest
from click.testing import Result

from stackkit.cli import forwarding
from stackkit.model_deployers import ForwardsPorts
from stackkit.model_deployers.memory import MemoryModelDeployer, MemoryModelDeployerFlavor

MODELS = ("model-deployer", "models")


@pytest.fixture
def rolling(ok: Callable[..., Result], memory: str, request: pytest.FixtureRequest) -> str:
    """The UUID of a server that can have a canary."""
    platform = f"--platform={request.node.nodeid}"
    ok("model-deployer", "register", "rolling", "--flavor=memory", platform, "--updates_in_place=true")
    names = ("--model-uri", "one", "--model-name", "iris", "--deployer", "rolling")
    uuid: str = json.loads(ok(*MODELS, "deploy", *names, "-o", "json").stdout)["uuid"]
    return uuid


def test_a_canary_and_its_promotion(ok: Callable[..., Result], rolling: str) -> None:
    split = ok(*MODELS, "update", rolling, "--model-uri", "two", "--canary", "20")
    assert "Revision 2 of 'iris' answers about 20 % of its requests." in split.stderr
    described = ok(*MODELS, "describe", rolling).stdout
    assert "revision 2 answers about 20 % of the requests" in described
    assert json.loads(ok(*MODELS, "describe", rolling, "-o", "json").stdout)["canary"] == {"revision": 2, "percent": 20}
    listed = ok(*MODELS, "list", "--columns", "revision,canary,state", "-o", "csv").stdout.splitlines()
    assert listed[1] == '1,"{""revision"": 2, ""percent"": 20}",active'
    assert "answers about 50 %" in ok(*MODELS, "update", rolling, "--canary", "50").stderr
    revisions = json.loads(ok(*MODELS, "history", rolling, "--revisions", "-o", "json").stdout)
    assert [each["number"] for each in revisions] == [1, 2]
    promoted = json.loads(ok(*MODELS, "promote", rolling, "-o", "json").stdout)
    assert (promoted["revision"], promoted["canary"], promoted["model_uri"]) == (2, None, "two")


def test_an_abort_and_what_is_refused(
    ok: Callable[..., Result], fails: Callable[..., tuple[str, str | None]], rolling: str
) -> None:
    ok(*MODELS, "update", rolling, "--model-uri", "two", "--canary", "20")
    message, hint = fails(*MODELS, "update", rolling, "--model-uri", "three")
    assert "has a canary: revision 2 beside revision 1" in message
    assert hint is not None and f"promote {rolling[:8]}" in hint and f"abort {rolling[:8]}" in hint
    aborted = json.loads(ok(*MODELS, "abort", rolling, "-o", "json").stdout)
    assert (aborted["revision"], aborted["canary"]) == (1, None)
    message, _ = fails(*MODELS, "promote", rolling)
    assert "has no canary" in message


@pytest.mark.parametrize("percent", ["0", "100", "many"])
def test_a_part_that_is_none(run: Callable[..., Result], rolling: str, percent: str) -> None:
    result = run(*MODELS, "update", rolling, "--canary", percent)
    assert result.exit_code == 2
    assert "--canary" in result.stderr


def test_manifests(
    ok: Callable[..., Result], deploy: Callable[..., str], fails: Callable[..., tuple[str, str | None]]
) -> None:
    dry = ok(*MODELS, "deploy", "--model-uri", "any", "--model-name", "iris", "-c", "replicas=2", "--dry-run").stdout
    assert "revision: 1\nreplicas: 2\n" in dry
    assert ok(*MODELS, "list", "-o", "json").stdout == "[]\n"
    uuid = deploy()
    assert ok(*MODELS, "manifest", uuid).stdout == f"server: stackkit-{uuid}\nrevision: 1\nreplicas: 1\n"


def test_transforms(ok: Callable[..., Result], memory: str, fails: Callable[..., tuple[str, str | None]]) -> None:
    asked = ("transform", "any", "--input", "store://in", "--output", "store://out")
    assert ok(*MODELS, "transforms", "list", "-o", "json").stdout == "[]\n"
    done = ok(*MODELS, *asked)
    name = done.stdout.strip()
    assert done.stderr == "Completed: store://out\n"
    assert ok(*MODELS, *asked).stdout.strip() == name
    again = ok(*MODELS, *asked, "--again", "--no-wait").stdout.strip()
    running = ok(*MODELS, *asked, "-c", "outcome=running", "--no-wait").stdout.strip()
    listed = json.loads(ok(*MODELS, "transforms", "list", "-o", "json").stdout)
    assert [(each["name"], each["state"]) for each in listed] == [
        (running, "running"),
        (again, "completed"),
        (name, "completed"),
    ]
    assert ok(*MODELS, "transforms", "stop", running).stderr == f"{running}: stopped\n"
    assert json.loads(ok(*MODELS, "transforms", "describe", running, "-o", "json").stdout)["state"] == "stopped"
    message, _ = fails(*MODELS, "transforms", "wait", running)
    assert "was stopped" in message
    assert json.loads(ok(*MODELS, "transforms", "wait", name, "-o", "json").stdout)["input_uri"] == "store://in"


def test_what_the_local_flavor_cannot_do_is_refused(
    ok: Callable[..., Result], fails: Callable[..., tuple[str, str | None]]
) -> None:
    ok("model-deployer", "register", "here", "--flavor=local")
    message, _ = fails(*MODELS, "transforms", "list")
    assert "'local' cannot run batch transforms" in message
    message, _ = fails(*MODELS, "deploy", "--model-uri", "x", "--model-name", "iris", "--dry-run")
    assert "'local' cannot show a manifest" in message


class Forwarding(MemoryModelDeployer, ForwardsPorts):
    """Has one port, and that is taken by nobody."""

    def do_forward(self, service, port):
        return nullcontext(f"http://127.0.0.1:{port or 40321}")


def test_a_port_is_forwarded_until_it_is_interrupted(
    ok: Callable[..., Result], deploy: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryModelDeployerFlavor, "implementation_class", lambda self: Forwarding)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    said = forwarding.note

    def say_and_interrupt(text: str) -> None:
        said(text)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(forwarding, "note", say_and_interrupt)
    try:
        result = ok(*MODELS, "port-forward", deploy(), "--port", "40322")
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    assert result.stdout == "http://127.0.0.1:40322\n"
    assert result.stderr == "Forwarding to 'iris' until Ctrl-C.\n"
