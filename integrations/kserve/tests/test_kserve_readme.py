"""What the README shows: a model is deployed, asked, retrained, rolled back and deleted from the command line."""

from __future__ import annotations

from pathlib import Path

import kube
import pytest
from readme_commands import ReadmeCommands, run_and_roll_back
from stackkit_kserve.inference_service import API, KIND
from stand_in_kserve import StandInKServe

from stackkit import Client

README = Path(__file__).resolve().parents[1] / "README.md"

pytestmark = pytest.mark.kubernetes


def test_the_commands_of_the_readme(client: Client, namespace: kube.Namespace, kserve: StandInKServe) -> None:
    words = {"--kubernetes_namespace=models": f"--kubernetes_namespace={namespace.name}"}
    commands = ReadmeCommands(README, words)

    def fetched() -> str:
        (found,) = namespace.admin.find(API, KIND, {})
        return str(found["spec"]["predictor"]["model"]["storageUri"])

    run_and_roll_back(client, commands, fetched)
    assert not namespace.admin.find(API, KIND, {})
