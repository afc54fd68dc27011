"""Servers of several machines in one table: each is seen by all, and settled only from where it lives."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from stackkit import Client
from stackkit.errors import PlatformUnavailableError
from stackkit.local import deployer as local
from stackkit.model_deployers import BaseModelDeployer, ServiceState, Target
from stackkit.model_deployers.watch import Watcher
from stackkit.serving import claims
from stackkit.settings import Settings
from stackkit.stack import ComponentType
from stackkit.store.tables import services

Move = Callable[[str], None]


@pytest.fixture
def move_to(monkeypatch: pytest.MonkeyPatch) -> Move:
    """Be on the machine of that name from now on, as far as the deployer can tell."""

    def move(name: str) -> None:
        monkeypatch.setattr(local, "machine_id", lambda: f"id-of-{name}")
        monkeypatch.setattr(local, "machine_name", lambda: name)

    return move


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model.py").write_text("def predict(data):\n    return [1 for row in data]\n", encoding="utf-8")
    return f"{tmp_path}/model.py:predict"


@pytest.fixture(params=["a shared database", "a copied folder"])
def elsewhere(
    request: pytest.FixtureRequest, client: Client, settings: Settings, move_to: Move, model: str, tmp_path: Path
) -> Iterator[Client]:
    """A client on the machine ``there``, after a server was deployed on ``here``."""
    move_to("here")
    client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
    client.model_deployer("local").deploy_model(model_name="mine", model_uri=model)
    other = tmp_path / "other"
    if request.param == "a copied folder":
        with client.database.write():
            shutil.copytree(settings.home, other)
        opened = Client(Settings(other, f"sqlite:///{other / 'stackkit.db'}"))
    else:
        opened = Client(replace(settings, home=other))
    move_to("there")
    yield opened
    move_to("there")
    for service in opened.model_deployer("local").find_model_server(service_name="yours", refresh=False):
        service.delete()
    opened.database.close()
    move_to("here")
    for service in list(client.servers.find(service_name="mine", refresh=False)):
        service.delete()


def folder_of(deployer: BaseModelDeployer, name: str) -> Path:
    return Path(deployer.get_model_server(name, refresh=False).status.details["folder"])


def test_both_are_shown_and_each_is_settled_from_where_it_lives(
    client: Client, elsewhere: Client, move_to: Move, model: str
) -> None:
    there = elsewhere.model_deployer("local")
    there.deploy_model(model_name="yours", model_uri=model)
    seen = {service.name: service for service in elsewhere.servers.find()}
    assert seen["yours"].is_running
    assert seen["mine"].status.state is ServiceState.UNKNOWN
    assert seen["mine"].status.message == "It cannot be seen from there: it runs on here."
    with elsewhere.database.read() as connection:
        recorded = dict(connection.execute(services.select().where(services.c.service_name == "mine")).mappings().one())
    assert (recorded["state"], recorded["unknown_since"]) == ("active", None), "to those who see it, it is no unknown"

    move_to("here")
    assert client.model_deployer("local").get_model_server("mine").is_running
    shared = elsewhere.settings.database_url == client.settings.database_url
    names = {service.name: service.status.state for service in client.servers.find()}
    assert names == {"mine": ServiceState.ACTIVE} | ({"yours": ServiceState.UNKNOWN} if shared else {})


@pytest.mark.parametrize("verb", ["start", "stop", "delete"])
def test_nobody_acts_from_afar(client: Client, elsewhere: Client, move_to: Move, verb: str) -> None:
    service = elsewhere.model_deployer("local").get_model_server("mine")
    with pytest.raises(PlatformUnavailableError, match="lives on here, not on there"):
        getattr(service, verb)()
    assert elsewhere.servers.stale(timedelta(0)) == []
    move_to("here")
    mine = client.model_deployer("local").get_model_server("mine")
    assert (mine.is_running, mine.status.target) == (True, Target.ACTIVE)


def test_a_watcher_leaves_what_is_another_machines(client: Client, elsewhere: Client, move_to: Move) -> None:
    move_to("here")
    here = client.model_deployer("local")
    folder = folder_of(here, "mine")
    here.stop_model_server("mine")
    with elsewhere.database.write() as connection:
        connection.execute(services.update().values(target=Target.ACTIVE, state=ServiceState.ERROR))
    move_to("there")
    said: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        Watcher(elsewhere.database, interval=0, report=said.append).look(pool)
    assert said == []
    assert claims.lock_holder(folder) is None
