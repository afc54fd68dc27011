"""Finding: every filter includes and excludes, every match is returned, names and prefixes are resolved."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from sqlalchemy import insert

from stackkit import Client
from stackkit.errors import AmbiguousNameError, InvalidConfigError, NotFoundError
from stackkit.model_deployers import LocalModelDeployer, Service, ServiceState
from stackkit.model_deployers.memory import MemoryModelDeployer
from stackkit.stack import ComponentType
from stackkit.store.clock import now
from stackkit.store.tables import components, services

FIELDS = {
    "pipeline_name": "training",
    "pipeline_step_name": "deployer",
    "run_name": "monday",
    "model_name": "iris",
    "model_version": "7",
    "replicas": 2,
}


@pytest.fixture
def service(deployer: MemoryModelDeployer) -> Service:
    return deployer.deploy_model(service_name="wanted", model_uri="one", timeout=5, **FIELDS)


@pytest.mark.all_databases
@pytest.mark.parametrize("name", [*FIELDS, "service_name", "model_uri"])
def test_a_filter_includes_and_excludes(deployer: MemoryModelDeployer, service: Service, name: str) -> None:
    value = service.config[name]
    other = 99 if isinstance(value, int) else f"not-{value}"
    assert [found.uuid for found in deployer.find_model_server(**{name: value})] == [service.uuid]
    assert not deployer.find_model_server(**{name: other})


@pytest.mark.all_databases
def test_running_flavor_and_uuid_include_and_exclude(deployer: MemoryModelDeployer, service: Service) -> None:
    find = deployer.find_model_server
    assert len(find(running=True)) == len(find(flavor="memory")) == len(find(service_uuid=service.uuid)) == 1
    assert len(find(service_uuid=str(service.uuid))) == 1
    assert not find(running=False)
    assert not find(flavor="local")
    assert not find(service_uuid=uuid.uuid4())
    service.stop()
    assert not find(running=True)
    assert len(find(running=False)) == 1
    with pytest.raises(InvalidConfigError, match="no UUID"):
        find(service_uuid="training")


def test_running_is_judged_after_looking(deployer: MemoryModelDeployer, service: Service) -> None:
    deployer.platform.servers[service.id].running = False
    assert not deployer.find_model_server(running=True)
    assert deployer.find_model_server(running=False)[0].status.state is ServiceState.ERROR
    deployer.platform.servers[service.id].running = True
    assert deployer.find_model_server(running=True)[0].uuid == service.uuid, "it is back"


@pytest.mark.all_databases
def test_one_that_was_on_its_way_is_running_once_it_answers(deployer: MemoryModelDeployer) -> None:
    service = deployer.deploy_model(model_name="iris", timeout=0)
    stopped = deployer.deploy_model(model_name="stopped", timeout=5).stop()
    assert not deployer.find_model_server(running=True, refresh=False)
    assert [found.uuid for found in deployer.find_model_server(running=True)] == [service.uuid]
    assert [found.uuid for found in deployer.find_model_server(running=False)] == [stopped.uuid]


def test_a_filter_that_is_no_field_is_refused(deployer: MemoryModelDeployer) -> None:
    with pytest.raises(InvalidConfigError, match="'pipeline'") as raised:
        deployer.find_model_server(pipeline="training")
    assert "pipeline_name" in str(raised.value.hint)


def insert_many(client: Client, deployer_id: str, count: int) -> None:
    values = [
        {
            "id": str(uuid.uuid4()),
            "identity": uuid.uuid4().hex,
            "deployer_id": deployer_id,
            "flavor": "memory",
            "service_name": f"service-{number}",
            "model_name": "many",
            "revision": 1,
            "config": {"model_name": "many"},
            "source": {"uri": ""},
            "target": "inactive",
            "state": "inactive",
            "message": "",
            "details": {},
            "lease_epoch": 1,
        }
        for number in range(count)
    ]
    with client.database.write() as connection:
        # all in one instant: paging must not lose those that share a time
        connection.execute(insert(services).values(created=now(), updated=now(), state_since=now()), values)


@pytest.mark.all_databases
def test_every_match_is_returned_once_a_page_at_a_time(client: Client, deployer: MemoryModelDeployer) -> None:
    insert_many(client, deployer.id, 250)
    found = deployer.find_model_server(model_name="many")
    assert found
    assert len(found._read) == 100, "only the first page may have been read by now"
    assert found[0].config["model_name"] == "many"
    assert len(found) == 250
    assert len({service.uuid for service in found}) == 250
    assert found[-1].uuid == list(found)[249].uuid
    assert [each.uuid for each in found[100:102]] == [found[100].uuid, found[101].uuid]
    with pytest.raises(IndexError):
        found[250]


def test_the_newest_comes_first(deployer: MemoryModelDeployer) -> None:
    names = [deployer.deploy_model(model_name=f"m{number}", timeout=5).name for number in range(3)]
    assert [service.name for service in deployer.find_model_server()] == names[::-1]


def test_a_server_is_got_by_uuid_prefix_and_name(deployer: MemoryModelDeployer, service: Service) -> None:
    for key in (service.uuid, service.id, service.id.upper(), service.id[:8], "wanted", "iris", service):
        assert deployer.get_model_server(key).uuid == service.uuid
    with pytest.raises(NotFoundError, match="'nothing'"):
        deployer.get_model_server("nothing")


def test_a_name_that_fits_several_is_refused_with_those(deployer: MemoryModelDeployer, service: Service) -> None:
    other = deployer.deploy_model(model_name="iris", service_name="other", timeout=5)
    with pytest.raises(AmbiguousNameError) as raised:
        deployer.get_model_server("iris")
    assert service.id in raised.value.message
    assert other.id in raised.value.message
    named = deployer.deploy_model(model_name="x", service_name="iris", timeout=5)
    assert deployer.get_model_server("iris").uuid == named.uuid, "a service's own name comes before a model's"


def test_a_services_own_name_is_found_among_however_many_of_its_model(
    client: Client, deployer: MemoryModelDeployer
) -> None:
    client.register_component(ComponentType.MODEL_DEPLOYER, "second", "memory", {})
    own = client.model_deployer("second").deploy_model(model_name="many", timeout=5)
    named = deployer.deploy_model(model_name="x", service_name="many", timeout=5)
    insert_many(client, deployer.id, 250)
    assert deployer.get_model_server("many").uuid == named.uuid
    assert client.model_deployer("second").get_model_server("many").uuid == own.uuid


def test_another_deployers_servers_are_not_found(client: Client, deployer: MemoryModelDeployer) -> None:
    client.register_component(ComponentType.MODEL_DEPLOYER, "second", "memory", {})
    second = client.model_deployer("second")
    service = deployer.deploy_model(model_name="iris", timeout=5)
    assert not second.find_model_server()
    with pytest.raises(NotFoundError):
        second.get_model_server(service.uuid)
    assert client.servers.get("iris").uuid == service.uuid
    assert client.servers.find(deployer_id=deployer.id)[0].uuid == service.uuid


def test_a_flavor_that_is_not_installed_makes_its_rows_unknown(client: Client, deployer: MemoryModelDeployer) -> None:
    service = deployer.deploy_model(model_name="iris", timeout=5)
    with client.database.write() as connection:
        connection.execute(components.update().where(components.c.id == deployer.id).values(flavor="gone"))
        connection.execute(services.update().values(flavor="gone"))
    (seen,) = Client(client.settings).servers.find()
    assert seen.status.state is ServiceState.UNKNOWN
    assert "gone" in seen.status.message
    assert seen.config["model_name"] == "iris"
    assert seen.as_dict()["prediction_url"] == service.prediction_url


def test_many_are_checked_at_once_and_one_that_hangs_holds_up_nobody(
    client: Client, deployer: MemoryModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackkit.model_deployers.servers.CHECK_SECONDS", 1.0)
    client.register_component(ComponentType.MODEL_DEPLOYER, "second", "memory", {"platform": "second"})
    second = client.model_deployer("second")
    quick, slow = deployer.deploy_model(model_name="quick"), second.deploy_model(model_name="slow")
    release = threading.Event()
    check = MemoryModelDeployer.do_check

    def hang(self: MemoryModelDeployer, found: list[Service]) -> Any:
        if self.name == "second":
            release.wait(20)
        return check(self, found)

    monkeypatch.setattr(MemoryModelDeployer, "do_check", hang)
    seen = {service.id: service.status for service in client.servers.find()}
    release.set()
    assert seen[quick.id].state is ServiceState.ACTIVE
    assert seen[slow.id].state is ServiceState.UNKNOWN
    assert "did not answer" in seen[slow.id].message


def test_a_flavors_class_is_resolved_through_its_entry_point() -> None:
    import stackkit.model_deployers as room

    assert room.LocalModelDeployer is LocalModelDeployer
    assert room.LocalServiceConfig.__module__ == "stackkit.local.config"
    with pytest.raises(AttributeError):
        room.NoSuchModelDeployer  # noqa: B018
