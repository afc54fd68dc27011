"""What the README shows: a model is deployed, asked, retrained, rolled back and deleted from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import kube
import pytest
from readme_commands import ReadmeCommands
from stackkit_seldon.seldon_deployment import API, KIND
from stand_in_seldon import StandInSeldon

from stackkit import Client

README = Path(__file__).resolve().parents[1] / "README.md"

pytestmark = pytest.mark.kubernetes


def test_the_commands_of_the_readme(client: Client, namespace: kube.Namespace, seldon: StandInSeldon) -> None:
    words = {
        "--kubernetes_namespace=models": f"--kubernetes_namespace={namespace.name}",
        "--base_url=https://models.example.com": f"--base_url={seldon.gateway.url}",
    }
    commands = ReadmeCommands(README, words)
    assert commands.verbs == ["register", "deploy", "predict", "update", "rollback", "delete"]

    def fetched() -> str:
        (found,) = namespace.admin.find(API, KIND, {})
        return str(found["spec"]["predictors"][0]["graph"]["modelUri"])

    try:
        commands.run("register")
        commands.run("deploy")
        assert json.loads(commands.run("predict")) == ["one"]
        first = fetched()
        commands.run("update")
        assert fetched() != first
        commands.run("rollback")
        assert fetched() == first
        assert json.loads(commands.run("predict")) == ["one"]
        commands.run("delete")
        assert not namespace.admin.find(API, KIND, {})
    finally:
        for service in client.servers.find(refresh=False):
            service.delete(timeout=120)
