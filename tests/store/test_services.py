"""The rows of the services: identities, pages, leases and their fence, observations, history."""

from __future__ import annotations

import itertools
import subprocess
import sys
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import RowMapping, insert, select, update

from stackkit.errors import NotFoundError
from stackkit.store import Database
from stackkit.store import services as rows
from stackkit.store.clock import now
from stackkit.store.tables import components, services

pytestmark = pytest.mark.all_databases

NAMES = ("service_name", "model_name", "model_version", "pipeline_name", "pipeline_step_name", "run_name")
Make = Callable[..., str]


@pytest.fixture
def deployer_id(database: Database) -> str:
    return add_deployer(database, "first")


def add_deployer(database: Database, name: str) -> str:
    deployer_id = str(uuid.uuid4())
    values = {"id": deployer_id, "type": "model_deployer", "name": name, "flavor": "local", "config": {}}
    with database.write() as connection:
        connection.execute(insert(components).values(**values, created=now(), updated=now()))
    return deployer_id


def values_of(deployer_id: str, **changes: Any) -> dict[str, Any]:
    service_id = str(uuid.uuid4())
    return {
        "id": service_id,
        "identity": service_id,
        "deployer_id": deployer_id,
        "flavor": "local",
        **dict.fromkeys(NAMES, "iris"),
        "config": {"model_name": "iris"},
        "source": {"uri": "/model", "digest": "sha256:1"},
        "target": "active",
        "state": "pending_startup",
        "message": "",
        "details": {},
        **changes,
    }


@pytest.fixture
def make(database: Database, deployer_id: str) -> Make:
    """Add a service leased to "owner"; returns its UUID, or nothing when its identity is there."""

    def make(**changes: Any) -> str:
        values = values_of(**{"deployer_id": deployer_id, **changes})
        with database.write() as connection:
            inserted = rows.insert_service(connection, values, "owner")
        return values["id"] if inserted else ""

    return make


def get(database: Database, service_id: str) -> RowMapping:
    with database.read() as connection:
        row = rows.get(connection, service_id)
    assert row is not None
    return row


def ids(found: Any) -> list[str]:
    return [row["id"] for row in found]


def change(database: Database, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    with database.write() as connection:
        return function(connection, *args, **options)


def force(database: Database, service_id: str, **values: Any) -> None:
    """Change a row behind everybody's back."""
    with database.write() as connection:
        connection.execute(update(services).where(services.c.id == service_id).values(**values))


# Inserting


def test_a_service_begins_leased_with_its_first_revision(database: Database, make: Make) -> None:
    service_id = make()
    row = get(database, service_id)
    assert (row["leased"], row["lease_owner"], row["lease_epoch"], row["revision"]) == (True, "owner", 1, 1)
    assert row["deployer_name"] == "first"
    with database.read() as connection:
        (revision,) = rows.revisions(connection, service_id)
        assert (revision["number"], revision["source"]["uri"]) == (1, "/model")
        assert rows.digests_named(connection, ["sha256:1", "sha256:2"]) == {"sha256:1"}
        by_identity = rows.get_by_identity(connection, service_id)  # which is the identity here
        assert by_identity is not None
        assert by_identity["id"] == service_id
        assert rows.get_by_identity(connection, "other") is None


def test_an_identity_names_one_service(database: Database, make: Make) -> None:
    first = make(identity="same")
    assert make(identity="same") == ""
    with database.read() as connection:
        assert ids(rows.page(connection, {}, limit=10)) == [first]
        assert len(rows.revisions(connection, first)) == 1


def test_a_conflict_leaves_the_rest_of_the_transaction_alone(database: Database, make: Make, deployer_id: str) -> None:
    make(identity="same")
    values = values_of(deployer_id, identity="same")
    with database.write() as connection:
        assert not rows.insert_service(connection, values, "other")
        rows.record_event(connection, values, actor="ann", action="deploy", outcome="refused")
    with database.read() as connection:
        assert len(rows.events(connection, values["id"])) == 1


def test_a_service_of_a_deployer_that_is_gone_is_refused(make: Make) -> None:
    with pytest.raises(NotFoundError, match="has been deleted"):
        make(deployer_id=str(uuid.uuid4()))


_INSERTER = """
import sys, uuid
from stackkit.settings import Settings
from stackkit.store import Database, services as rows
deployer_id, names = sys.argv[1], ("service_name", "model_name")
database = Database(Settings.load())
for number in range(20):
    service_id = str(uuid.uuid4())
    values = dict(id=service_id, identity=f"same-{number}", deployer_id=deployer_id, flavor="local", config={},
                  source={}, target="active", state="active", message="", details={}, **dict.fromkeys(names, "x"))
    with database.write() as connection:
        if rows.insert_service(connection, values, "owner"):
            rows.record_event(connection, values, actor="x", action="deploy", outcome="begun")
            print(number)
"""


def test_of_processes_that_deploy_the_same_one_succeeds(database: Database, deployer_id: str) -> None:
    command = [sys.executable, "-c", _INSERTER, deployer_id]
    deploying = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    outputs, errors = zip(*(process.communicate() for process in deploying), strict=True)
    assert errors == ("",) * 3
    assert sorted(int(number) for output in outputs for number in output.split()) == list(range(20))


# Finding


def test_pages_hold_every_service_once_whatever_their_times(database: Database, make: Make) -> None:
    made = [make() for _ in range(7)]
    same = get(database, made[0])["created"]
    for service_id in made[:5]:
        force(database, service_id, created=same)
    found: list[str] = []
    last = None
    while True:
        with database.read() as connection:
            page = rows.page(connection, {"model_name": "iris"}, before=last, limit=2)
        if not page:
            break
        found += ids(page)
        last = (page[-1]["created"], page[-1]["id"])
    assert sorted(found) == sorted(made)
    assert set(found[:2]) == set(made[5:])  # newest first
    assert found[2:] == sorted(made[:5], reverse=True)


@pytest.mark.parametrize("name", [*NAMES, "deployer_id", "flavor", "id"])
def test_a_filter_includes_and_excludes(database: Database, make: Make, name: str) -> None:
    other = add_deployer(database, "second") if name == "deployer_id" else "other"
    first, second = make(), make(**{name: other})
    with database.read() as connection:
        assert ids(rows.page(connection, {name: other}, limit=10)) == [second]
        assert ids(rows.page(connection, {name: get(database, first)[name]}, limit=10)) == [first]
        assert not rows.page(connection, {name: "neither"}, limit=10)


def test_names_are_compared_byte_by_byte(database: Database, make: Make) -> None:
    make()
    with database.read() as connection:
        for name, like in itertools.product(NAMES, ("Iris", "IRIS", "ïris", "iri%", "iris_")):
            assert not rows.page(connection, {name: like}, limit=10), (name, like)


def test_filters_are_combined(database: Database, make: Make) -> None:
    wanted = make(model_name="a", pipeline_name="p")
    make(model_name="a", pipeline_name="q")
    make(model_name="b", pipeline_name="p")
    with database.read() as connection:
        assert ids(rows.page(connection, {"model_name": "a", "pipeline_name": "p"}, limit=10)) == [wanted]


def test_running_is_active_and_known(database: Database, make: Make) -> None:
    active, unknown, failed = make(state="active"), make(state="active"), make(state="error")
    force(database, unknown, unknown_since=now())
    with database.read() as connection:
        assert ids(rows.page(connection, {}, running=True, limit=10)) == [active]
        assert set(ids(rows.page(connection, {}, running=False, limit=10))) == {unknown, failed}


def test_a_name_or_the_start_of_a_uuid_names_a_service(database: Database, make: Make) -> None:
    low = make(id="abcdef12-0000-4000-8000-000000000000", service_name="abc")
    high = make(id="abcdef1f-ffff-4fff-bfff-ffffffffffff", model_name="wine")
    with database.read() as connection:

        def found(text: str) -> set[str]:
            return set(ids(rows.get_by_name_or_prefix(connection, text, limit=10)))

        assert found("abcdef1") == found("ABCDEF1") == {low, high}
        assert found("abcdef12") == found("abcdef12-0") == found(low) == {low}
        assert found("abcdef1f-ffff-4fff-bfff-ffffffffffff") == {high}
        assert found("abc") == {low, high}  # a name, and the start of both
        assert found("wine") == {high}
        for nothing in ("", "abcdef120", "bcdef12", "abcdef12-0%", "%", "abcdef12_"):
            assert found(nothing) == set(), nothing


def test_services_of_a_deployer_are_counted(database: Database, make: Make, deployer_id: str) -> None:
    make()
    make()
    with database.read() as connection:
        assert rows.count_of_deployer(connection, deployer_id) == 2
        assert rows.count_of_deployer(connection, "another") == 0


# Leases


def test_a_held_lease_is_not_taken(database: Database, make: Make) -> None:
    service_id = make()
    assert change(database, rows.take_lease, service_id, "second", 1) is None
    assert change(database, rows.take_lease, service_id, "second", 1, instead_of="somebody else") is None
    assert get(database, service_id)["lease_owner"] == "owner"


def test_a_free_lease_is_taken(database: Database, make: Make) -> None:
    service_id = make()
    assert change(database, rows.release_lease, service_id, 1)
    assert not get(database, service_id)["leased"]
    assert change(database, rows.take_lease, service_id, "second", 1) == 2
    assert change(database, rows.take_lease, service_id, "second", 1) == 2, "asked again"
    row = get(database, service_id)
    assert (row["leased"], row["lease_owner"]) == (True, "second")


def test_an_expired_lease_is_taken(database: Database, make: Make) -> None:
    service_id = make()
    force(database, service_id, lease_expires=now(-1))
    assert not get(database, service_id)["leased"]
    assert change(database, rows.take_lease, service_id, "second", 1) == 2


def test_a_dead_owners_lease_is_taken_once(database: Database, make: Make) -> None:
    service_id = make()
    assert change(database, rows.take_lease, service_id, "second", 1, instead_of="owner") == 2
    assert change(database, rows.take_lease, service_id, "third", 2, instead_of="owner") is None


def test_a_lease_that_somebody_has_had_meanwhile_is_not_taken(database: Database, make: Make) -> None:
    service_id = make()
    assert change(database, rows.release_lease, service_id, 1)
    assert change(database, rows.take_lease, service_id, "second", 1) == 2
    assert change(database, rows.release_lease, service_id, 2)
    assert change(database, rows.take_lease, service_id, "third", 1) is None
    assert change(database, rows.take_lease, service_id, "third", 2) == 3


def test_there_is_no_lease_of_a_service_that_is_gone(database: Database) -> None:
    assert change(database, rows.take_lease, str(uuid.uuid4()), "owner", 1) is None


def test_a_renewed_lease_lasts(database: Database, make: Make) -> None:
    service_id = make()
    force(database, service_id, lease_expires=now(-1))
    assert change(database, rows.renew_lease, service_id, 1)
    assert get(database, service_id)["leased"]


FENCED = [
    lambda connection, service_id, epoch: rows.write(connection, service_id, epoch, {"message": "late"}),
    rows.renew_lease,
    rows.release_lease,
    rows.remove,
]


@pytest.mark.parametrize("act", FENCED)
def test_an_epoch_that_has_passed_changes_nothing(database: Database, make: Make, act: Any) -> None:
    service_id = make()
    assert change(database, rows.take_lease, service_id, "second", 1, instead_of="owner") == 2
    before = dict(get(database, service_id))
    assert change(database, act, service_id, 1) is False
    assert dict(get(database, service_id)) == before
    assert change(database, act, service_id, 2) is True


@pytest.mark.parametrize("act", FENCED)
def test_a_lease_that_was_given_back_changes_nothing(database: Database, make: Make, act: Any) -> None:
    service_id = make()
    assert change(database, rows.release_lease, service_id, 1)
    before = dict(get(database, service_id))
    assert change(database, act, service_id, 1) is False
    assert dict(get(database, service_id)) == before


def test_writing_the_same_again_succeeds(database: Database, make: Make) -> None:
    service_id = make()
    for _ in range(2):
        assert change(database, rows.write, service_id, 1, {"message": "same"})


def test_a_state_has_been_so_since_it_became_so(database: Database, make: Make) -> None:
    service_id = make(state="active")
    force(database, service_id, state_since=now(-100), updated=now(-100))
    before = get(database, service_id)
    change(database, rows.write, service_id, 1, {"message": "still", "state": "active"})
    same = get(database, service_id)
    assert same["state_since"] == before["state_since"]
    assert same["updated"] > before["updated"]
    change(database, rows.write, service_id, 1, {"state": "error"})
    other = get(database, service_id)
    assert other["state"] == "error"
    assert other["state_since"] > before["state_since"]


def test_what_is_no_state_does_not_touch_the_times(database: Database, make: Make) -> None:
    service_id = make()
    before = get(database, service_id)
    change(database, rows.write, service_id, 1, {"details": {"name": "x"}})
    after = get(database, service_id)
    assert (after["updated"], after["state_since"]) == (before["updated"], before["state_since"])


# Observing


def test_an_observation_is_recorded(database: Database, make: Make) -> None:
    service_id = make()
    change(database, rows.release_lease, service_id, 1)
    assert change(database, rows.observe, get(database, service_id), {"state": "active", "message": "seen"})
    row = get(database, service_id)
    assert (row["state"], row["message"], row["lease_epoch"]) == ("active", "seen", 1)


def test_an_observation_gives_way_to_whoever_works(database: Database, make: Make) -> None:
    service_id = make()
    assert not change(database, rows.observe, get(database, service_id), {"state": "active"})
    change(database, rows.release_lease, service_id, 1)
    seen = get(database, service_id)
    epoch = change(database, rows.take_lease, service_id, "second", 1)
    assert not change(database, rows.observe, seen, {"state": "active"})  # while leased
    change(database, rows.release_lease, service_id, epoch)
    assert not change(database, rows.observe, seen, {"state": "active"})  # and afterwards: it saw what was before
    assert get(database, service_id)["state"] == "pending_startup"


def test_of_two_observations_the_first_changes_the_state(database: Database, make: Make) -> None:
    service_id = make()
    change(database, rows.release_lease, service_id, 1)
    seen = get(database, service_id)
    assert change(database, rows.observe, seen, {"state": "error"})
    assert not change(database, rows.observe, seen, {"state": "active"})


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("no \x00 here", "no � here"),
        ("half a \ud83d character", "half a � character"),
        ("a whole 🙂 one", "a whole 🙂 one"),
        (None, None),
    ],
)
def test_words_that_a_database_refuses_are_written_all_the_same(
    database: Database, make: Make, said: str | None, written: str | None
) -> None:
    service_id = make()
    words = {"unknown_reason": said} if said is None else {"message": said, "unknown_reason": said}
    assert change(database, rows.write, service_id, 1, words)
    row = get(database, service_id)
    assert [row[name] for name in words] == [written] * len(words)


def test_words_without_end_lose_their_middle(database: Database, make: Make) -> None:
    service_id = make()
    said = f"It failed.{'🙂' * 2_000_000}The end of its log."
    assert change(database, rows.write, service_id, 1, {"message": said, "unknown_reason": said})
    row = get(database, service_id)
    for name, most in (("message", 1_000_000), ("unknown_reason", 10_000)):
        assert len(row[name]) <= most
        assert row[name].startswith("It failed.🙂")
        assert row[name].endswith("🙂The end of its log.")
        assert "[…]" in row[name]


# History


def test_history_outlives_the_service_and_revisions_do_not(database: Database, make: Make) -> None:
    service_id = make()
    row = get(database, service_id)
    for action in ("deploy", "delete"):
        change(database, rows.record_event, row, actor="a" * 300, action=action, outcome="done", message="ü" * 100_000)
    assert change(database, rows.remove, service_id, 1)
    with database.read() as connection:
        assert rows.get(connection, service_id) is None
        assert not rows.revisions(connection, service_id)
        events = rows.events(connection, service_id)
        assert [event["action"] for event in events] == ["deploy", "delete"]
        assert events[0]["at"] <= connection.execute(select(now())).scalar_one()
        assert rows.events(connection, "another") == []
