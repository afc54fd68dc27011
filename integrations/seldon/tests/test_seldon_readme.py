"""What the README shows: a model is deployed, asked, retrained, rolled back and deleted from the command line."""

from __future__ import annotations

from pathlib import Path

import kube
import pytest
from readme_commands import ReadmeCommands, run_and_roll_back
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

    def fetched() -> str:
        (found,) = namespace.admin.find(API, KIND, {})
        return str(found["spec"]["predictors"][0]["graph"]["modelUri"])

    run_and_roll_back(client, commands, fetched)
    assert not namespace.admin.find(API, KIND, {})
