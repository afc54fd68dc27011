"""A server that answers only to those who know its token."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer

MODEL = "def predict(data):\n    return ['{answer}'] * len(data)\n"


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model.py").write_text(MODEL.format(answer="one"), encoding="utf-8")
    return f"{tmp_path}/model.py:predict"


def ask(url: str | None, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return requests.post(str(url), json={"inputs": [[1]]}, headers=headers, timeout=10).status_code


def test_who_knows_the_token_is_answered(client: Client, deployer: BaseModelDeployer, model: str) -> None:
    client.secrets.create("vault", {"token": "hunter2-from-the-vault"})
    service = deployer.deploy_model(model_name="m", model_uri=model, token="{{vault.token}}")
    assert service.predict([[1]]) == ["one"]
    assert (ask(service.prediction_url, "hunter2-from-the-vault"), ask(service.prediction_url, "guessed")) == (200, 401)
    assert deployer.get_model_server(service).is_running
    shown = f"{service!r} {service.config!r} {service.as_dict()} {client.servers.history(service.id)}"
    assert "hunter2" not in shown


def test_another_token_comes_with_an_update(deployer: BaseModelDeployer, model: str, tmp_path: Path) -> None:
    service = deployer.deploy_model(model_name="m", model_uri=model, token="first")
    folder = Path(service.status.details["folder"])
    assert [path.stat().st_mode & 0o777 for path in folder.glob("token-*")] == [0o600]
    updated = deployer.update_model_server(service, token="second")
    assert (ask(updated.prediction_url, "first"), ask(updated.prediction_url, "second")) == (401, 200)
    assert updated.predict([[1]]) == ["one"]
    (tmp_path / "model.py").write_text(MODEL.format(answer="two"), encoding="utf-8")
    opened = deployer.update_model_server(service, token=None)
    assert (opened.predict([[1]]), ask(opened.prediction_url, "any")) == (["two"], 200)
    opened.delete()
    assert not folder.exists()
