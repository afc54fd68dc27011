"""What the README shows: a model is deployed, asked, retrained, rolled back and deleted from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import kube
import pytest
from readme_commands import ReadmeCommands

from stackkit import Client

README = Path(__file__).resolve().parents[1] / "README.md"
MODEL = "def predict(rows):\n    return [{answer} for row in rows]\n"

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker]


def test_the_commands_of_the_readme(client: Client, namespace: kube.Namespace, tmp_path: Path) -> None:
    for name, answer in (("model", 1), ("retrained", 2)):
        (tmp_path / f"{name}.py").write_text(MODEL.format(answer=answer), encoding="utf-8")
    commands = ReadmeCommands(
        README,
        {
            "--kubernetes_namespace=models": f"--kubernetes_namespace={namespace.name}",
            "--image_registry=registry.example.com/models": None,  # the pods see this machine's engine
            "./model": f"{tmp_path}/model.py:predict",
            "./retrained": f"{tmp_path}/retrained.py:predict",
        },
    )
    assert commands.verbs == ["register", "deploy", "predict", "update", "rollback", "delete"]
    try:
        commands.run("register")
        commands.run("deploy")
        assert json.loads(commands.run("predict")) == [1]
        # a pod that leaves may answer once more
        commands.run("update")
        kube.until(lambda: json.loads(commands.run("predict")) == [2])
        commands.run("rollback")
        kube.until(lambda: json.loads(commands.run("predict")) == [1])
        commands.run("delete")
        assert kube.left(namespace) == []
    finally:
        for service in client.servers.find(refresh=False):
            service.delete(timeout=120)
