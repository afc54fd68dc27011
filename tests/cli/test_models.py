from __future__ import annotations

import json

import pytest

from stackkit import Client
from stackkit.cli.models import _MARKS, FIELDS
from stackkit.model_deployers import ServiceState
from stackkit.model_deployers.memory import MemoryPlatform

MODELS = ("model-deployer", "models")


@pytest.fixture
def platform(memory, request) -> MemoryPlatform:
    """The platform that the in-memory deployer of this test acts on."""
    return MemoryPlatform.named(request.node.nodeid)


def test_fields_are_those_of_a_service(deploy):
    assert list(FIELDS) == list(Client().servers.get(deploy()).as_dict())


def test_every_state_has_a_mark():
    assert set(_MARKS) == {state.value for state in ServiceState}


def test_list_shows_the_status_first(ok, deploy):
    uuid = deploy("iris", "--pipeline-name", "training", "--step-name", "deployer")
    header, line = ok(*MODELS, "list").stdout.splitlines()
    names = ["STATUS", "UUID", "PIPELINE_NAME", "PIPELINE_STEP_NAME", "MODEL_NAME", "PREDICTION_URL"]
    assert header.split() == names
    assert line.split() == ["✅", "active", uuid, "training", "deployer", "iris", f"memory://{uuid}/invocations"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ((), "abc"),
        (("--running",), "ab"),
        (("--model-name", "b"), "b"),
        (("--pipeline-name", "p"), "b"),
        (("--step-name", "s"), "c"),
        (("--deployer", "here"), "abc"),
        (("--deployer", "other"), ""),
        (("--model-version", "3"), "b"),
        (("--run-name", "monday"), "a"),
        (("--flavor", "memory"), "abc"),
        (("--flavor", "local"), ""),
    ],
    ids=str,
)
def test_filters(ok, read, deploy, filters, found):
    ok("model-deployer", "register", "other", "--flavor=memory")
    deploy("a", "-c", "run_name=monday")
    deploy("b", "--pipeline-name", "p", "--model-version", "3")
    ok(*MODELS, "stop", deploy("c", "--step-name", "s"))
    assert {row["model_name"] for row in read(*MODELS, "list", *filters)} == set(found)


def test_an_empty_list_says_what_to_do(ok):
    result = ok(*MODELS, "list")
    assert result.stdout == ""
    assert "models deploy" in result.stderr
    assert "No model server fits." in ok(*MODELS, "list", "--running").stderr


def test_chosen_columns(ok, read, deploy):
    uuid = deploy()
    assert read(*MODELS, "list", "--columns", "model_name, uuid") == [{"model_name": "iris", "uuid": uuid}]
    assert ok(*MODELS, "list", "--columns=uuid", "-o", "csv").stdout == f"uuid\n{uuid}\n"
    assert list(read(*MODELS, "list", "--columns=all")[0]) == list(FIELDS)
    assert len(ok(*MODELS, "list", "--columns=all", "-o", "csv").stdout.splitlines()) == 2


@pytest.mark.parametrize(("columns", "told"), [("status", "'state'"), ("zzz", "prediction_url")])
def test_a_column_that_is_none(run, columns, told):
    result = run(*MODELS, "list", "--columns", columns)
    assert result.exit_code == 2
    assert told in result.stderr


def test_deploy_prints_the_service_and_tells_the_url_on_stderr(run, memory):
    result = run(*MODELS, "deploy", "--model-uri", "any", "--model-name", "iris")
    assert result.exit_code == 0
    assert "MODEL_NAME          iris" in result.stdout.splitlines()
    assert "STATUS              ✅ active" in result.stdout.splitlines()
    assert result.stderr.startswith("Deployed 'iris': memory://")


def test_fields_of_the_flavor(read, deploy):
    deploy("iris", "-c", "replicas=3", "-c", "model_version=7", "--service-name", "front")
    (row,) = read(*MODELS, "list")
    assert row["config"]["replicas"] == 3
    assert row["model_version"] == "7"
    assert row["service_name"] == "front"


def test_a_field_that_is_given_twice_is_wrong_usage(run, memory):
    command = (*MODELS, "deploy", "--model-uri", "any", "--model-name", "iris")
    assert run(*command, "-c", "model_name=b").exit_code == 2
    assert run(*command, "-c", "replicas=1", "-c", "replicas=2").exit_code == 2


def test_deploying_nothing_is_wrong_usage(run, ok):
    ok("model-deployer", "register", "here", "--flavor=local")
    result = run(*MODELS, "deploy", "--model-name", "iris")
    assert result.exit_code == 2
    assert "Missing option '--model-uri'." in result.stderr


def test_a_field_that_the_flavor_does_not_have(fails, memory):
    message, hint = fails(*MODELS, "deploy", "--model-uri", "any", "--model-name", "iris", "-c", "replica=2")
    assert message == "'replica' is no field of a memory service."
    assert hint == "Did you mean 'replicas'?"


def test_another_configuration_needs_replace(fails, read, deploy):
    uuid = deploy("iris", "-c", "replicas=1")
    message, hint = fails(*MODELS, "deploy", "--model-uri", "any", "--model-name", "iris", "-c", "replicas=2")
    assert "replicas 1 → 2" in message
    assert "--replace" in hint
    assert deploy("iris", "-c", "replicas=2", "--replace") == uuid
    assert read(*MODELS, "describe", uuid)["revision"] == 2


def test_a_start_that_fails_shows_the_platforms_words(fails, read, memory):
    message, _ = fails(*MODELS, "deploy", "--model-uri", "any", "--model-name", "iris", "-c", "behaviour=fail")
    assert message == "The platform refused: it is broken."
    (row,) = read(*MODELS, "list")
    assert row["state"] == "error"


def test_a_start_that_takes_too_long(run, memory):
    hanging = ("--model-uri", "any", "--model-name", "iris", "-c", "behaviour=hang", "--timeout", "0.1")
    result = run(*MODELS, "deploy", *hanging)
    assert result.exit_code == 1
    assert "did not start in time" in result.stderr
    assert "loading for ever" in result.stderr
    assert "started revision 1" in result.stderr
    assert "Hint: Give it more time with --timeout" in result.stderr


def test_describe_has_the_history(ok, read, deploy):
    uuid = deploy()
    described = read(*MODELS, "describe", uuid[:13])
    assert described["uuid"] == uuid
    assert [(event["action"], event["outcome"]) for event in described["history"]] == [
        ("deploy", "begun"),
        ("start", "done"),
    ]
    shown = ok(*MODELS, "describe", "iris").stdout
    properties, _, history = shown.partition("\n\nHistory\n")
    names = [line.split()[0] for line in properties.splitlines()]
    assert names == [
        *("PROPERTY", "MODEL_NAME", "MODEL_URI", "PIPELINE_NAME", "RUN_NAME", "PIPELINE_STEP_NAME", "PREDICTION_URL"),
        *("STATUS", "STATUS_MESSAGE", "UUID", "SERVICE_NAME", "MODEL_VERSION", "DEPLOYER", "FLAVOR", "PLATFORM"),
        *("REVISION", "CANARY", "MODEL_DIGEST", "CREATED", "BEHAVIOUR", "REPLICAS"),
    ]
    assert history.splitlines()[0].split() == ["AT", "ACTION", "OUTCOME", "STATE", "ACTOR", "MESSAGE"]


def test_get_url_prints_the_url_alone(ok, deploy):
    uuid = deploy()
    result = ok(*MODELS, "get-url", uuid)
    assert result.stdout == f"memory://{uuid}/invocations\n"
    assert result.stderr == ""


def test_no_url_is_an_error(ok, fails, deploy):
    ok(*MODELS, "stop", deploy())
    message, hint = fails(*MODELS, "get-url", "iris")
    assert message == "The service 'iris' has no prediction URL: its state is inactive."
    assert "models start" in hint


def test_stop_start_delete(ok, read, deploy, platform):
    uuid = deploy()
    result = ok(*MODELS, "stop", uuid)
    assert (result.stdout, result.stderr) == ("", "Stopped 'iris'.\n")
    assert not platform.servers[uuid].running
    assert read(*MODELS, "start", uuid)["state"] == "active"
    assert platform.servers[uuid].running
    ok(*MODELS, "delete", uuid)
    assert platform.servers == {}
    assert read(*MODELS, "list") == []


def test_forget_asks_the_platform_nothing(ok, fails, read, deploy, platform):
    uuid = deploy()
    platform.reachable = False
    fails(*MODELS, "delete", uuid)
    ok(*MODELS, "delete", uuid, "--forget")
    assert read(*MODELS, "list") == []
    assert uuid in platform.servers


def test_a_platform_that_does_not_answer_is_unknown(read, deploy, platform):
    deploy()
    platform.reachable = False
    (row,) = read(*MODELS, "list")
    assert row["state"] == "unknown"
    assert "does not answer" in row["message"]


def test_logs(ok, deploy, platform):
    uuid = deploy()
    platform.servers[uuid].log += ["a", "b"]
    assert ok(*MODELS, "logs", uuid).stdout == "started revision 1\na\nb\n"
    assert ok(*MODELS, "logs", uuid, "--tail", "1").stdout == "b\n"


@pytest.mark.parametrize(
    ("suffix", "content"), [(".json", '{"inputs": [[1, 2]]}'), (".JSON", "[[1, 2]]"), (".json", '{"a": "ü"}')]
)
def test_predict_with_json(ok, deploy, tmp_path, suffix, content):
    uuid = deploy()
    file = tmp_path / f"data{suffix}"
    file.write_text(content, encoding="utf-8")
    expected = json.loads(content)
    for result in (
        ok(*MODELS, "predict", uuid, "-d", content),
        ok(*MODELS, "predict", uuid, "-i", str(file)),
        ok(*MODELS, "predict", uuid, stdin=content),
    ):
        assert json.loads(result.stdout) == expected
        assert len(result.stdout.splitlines()) == 1


def test_predict_with_csv(ok, deploy, tmp_path):
    file = tmp_path / "data.csv"
    file.write_text("x,name\n1.5,a\n2,b\n")
    shown = json.loads(ok(*MODELS, "predict", deploy(), "-i", str(file)).stdout)
    assert shown == [{"x": 1.5, "name": "a"}, {"x": 2.0, "name": "b"}]


@pytest.mark.parametrize(
    "args",
    [("-d", "{"), ("-d", "[]", "-i", "data.json"), ("-i", "data.txt"), ("-i", "missing.json"), ("-i", "empty.csv"), ()],
    ids=str,
)
def test_data_that_cannot_be_read_is_wrong_usage(run, deploy, tmp_path, monkeypatch, args):
    monkeypatch.chdir(tmp_path)
    for name in ("data.json", "data.txt", "empty.csv"):
        (tmp_path / name).touch()
    result = run(*MODELS, "predict", deploy(), *args)
    assert result.exit_code == 2
    assert result.stdout == ""
