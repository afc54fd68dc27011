"""Batch transforms: jobs of SageMaker's over data in S3."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator
from pydantic import ValidationError
from stackkit_sagemaker.transforms import SageMakerTransformConfig, job

from stackkit.errors import DeploymentError, ImageError, InvalidConfigError, StackkitError
from stackkit.model_deployers import BaseModelDeployer, Transform, TransformState

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving"
WHERE = {"input_uri": "s3://data/in/", "output_uri": "s3://data/out"}

Run = Callable[..., Transform]


def config(**fields: Any) -> SageMakerTransformConfig:
    return SageMakerTransformConfig(model_uri="/m", **{**WHERE, **fields})


@pytest.fixture
def run(deployer: BaseModelDeployer, models: dict[str, str]) -> Run:
    """Has the first model run over the data, or what is given."""

    def run(**fields: Any) -> Transform:
        return deployer.transforms.run(**{"model_uri": models["one"], "image": f"{IMAGE}:1", **WHERE, **fields})

    return run


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"accept": "application/json", "kms_key_id": "key", "max_payload_mb": 50, "max_concurrency": 2},
        {"split": "line", "input_filter": "$[1:]", "output_filter": "$[0,-1]", "join_input": True},
    ],
    ids=["default", "more", "lines"],
)
def test_each_job_is_one_that_sagemaker_takes(fields: dict[str, Any]) -> None:
    body = job("stackkit-transform-ab-1", config(**fields), [{"Key": "k", "Value": "v"}])
    model = boto3.client("sagemaker", region_name="us-east-1").meta.service_model
    shape = model.operation_model("CreateTransformJob").input_shape
    assert shape is not None
    assert not (errors := ParamValidator().validate(body, shape)).has_errors(), errors.generate_report()
    assert body["TransformInput"]["SplitType"] == ("Line" if "split" in fields else "None")


@pytest.mark.parametrize(
    "fields",
    [
        {"input_uri": "./data"},
        {"output_uri": "data"},
        {"max_payload_mb": 100, "max_concurrency": 2},
        {"join_input": True},
        {"instance_type": "m5"},
        {"no_such": 1},
    ],
    ids=str,
)
def test_what_sagemaker_would_refuse_is_refused_before(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**fields)


def test_it_runs_to_its_end_and_leaves_its_answers_alone(aws: Any, run: Run, models: dict[str, str]) -> None:
    done = run(tags={"team": "ml"})
    assert (done.state, done.input_uri, done.output_uri) == (TransformState.COMPLETED, *WHERE.values())
    assert done.model_uri == models["one"]
    assert done.details["instances"] == "1 ml.m5.large"
    assert done.ended
    found = aws.client("sagemaker").describe_transform_job(TransformJobName=done.name)
    assert found["ModelName"] == done.name
    assert aws.names() == {}, "the job tells of itself, and what was made for it is gone"


def test_while_it_runs_its_model_is_there(aws: Any, run: Run, deployer: BaseModelDeployer) -> None:
    aws.behave(ticks=10**6)
    begun = run(wait=False)
    assert begun.state is TransformState.RUNNING
    names = aws.names()
    assert names["models"] == [begun.name]
    archive, note = names["objects"]
    assert archive.startswith(f"stackkit/{begun.name}/models/")
    assert note == f"stackkit/{begun.name}/transform.json"
    model = aws.client("sagemaker").describe_model(ModelName=begun.name)
    assert model["PrimaryContainer"]["Environment"]["STACKKIT_SERVING_MODEL"] == "/opt/ml/model/one.py:predict"
    assert [each.name for each in deployer.transforms.list()] == [begun.name]
    assert run(wait=False).name == begun.name, "asked twice, it is one"


def test_it_is_stopped(aws: Any, run: Run, deployer: BaseModelDeployer) -> None:
    aws.behave(ticks=10**6)
    begun = run(wait=False)
    aws.behave(ticks=6)
    assert deployer.transforms.stop(begun.name).state is TransformState.STOPPED
    aws.behave(ticks=0)
    assert deployer.transforms.get(begun.name).state is TransformState.STOPPED
    assert aws.names() == {}
    assert run().name != begun.name, "a job that was stopped is not taken for what is asked for now"


def test_one_that_fails_says_why(aws: Any, run: Run, deployer: BaseModelDeployer) -> None:
    with pytest.raises(DeploymentError, match="did not pass the ping health check"):
        run(image=f"{IMAGE}:broken")
    (failed,) = deployer.transforms.list()
    assert failed.state is TransformState.FAILED
    assert aws.names() == {}


@pytest.fixture
def large(tmp_path: Path) -> str:
    """A model that is uploaded in parts."""
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "model.joblib").write_bytes(os.urandom(20 << 20))
    (folder / "requirements.txt").write_text("scikit-learn\n", encoding="utf-8")
    return str(folder)


UPLOADED, CREATING = ": 5", "creating the transform"
"""Of the texts that tell how far it is: about half of it, and all of it."""


@pytest.fixture
def meanwhile() -> Iterator[Callable[[str, Callable[[], object]], Callable[[str], None]]]:
    """A progress that has something done when it is first told the text."""
    to_do: list[Callable[[], object]] = []

    def meanwhile(text: str, act: Callable[[], object]) -> Callable[[str], None]:
        to_do.append(act)

        def progress(told: str) -> None:
            if text in told and to_do:
                to_do.pop()()

        return progress

    yield meanwhile
    assert not to_do, "it was not told"


def test_two_who_ask_for_the_same_at_the_same_moment_have_one(
    aws: Any, run: Run, deployer: BaseModelDeployer, large: str, meanwhile: Any
) -> None:
    quicker: list[Transform] = []
    progress = meanwhile(UPLOADED, lambda: quicker.append(run(model_uri=large)))
    done = run(model_uri=large, progress=progress)
    assert [each.name for each in deployer.transforms.list()] == [done.name]
    assert (done.name, done.state) == (quicker[0].name, TransformState.COMPLETED)
    assert aws.names() == {}


@pytest.mark.parametrize("moment", [UPLOADED, CREATING], ids=["upload", "model"])
def test_who_is_refused_undoes_nothing_of_another_who_asks_for_the_same(
    aws: Any, run: Run, large: str, meanwhile: Any, moment: str
) -> None:
    def ask() -> None:
        aws.behave(faults={"CreateTransformJob": {"code": "ResourceLimitExceeded", "message": "not today", "times": 1}})
        with pytest.raises(DeploymentError, match="not today"):
            run(model_uri=large)

    assert run(model_uri=large, progress=meanwhile(moment, ask)).state is TransformState.COMPLETED
    assert aws.names() == {}


def test_when_both_are_refused_the_last_undoes_it(aws: Any, run: Run, large: str, meanwhile: Any) -> None:
    aws.behave(faults={"CreateTransformJob": {"code": "ResourceLimitExceeded", "message": "not today", "times": 2}})

    def ask() -> None:
        with pytest.raises(DeploymentError, match="not today"):
            run(model_uri=large)

    with pytest.raises(DeploymentError, match="not today"):
        run(model_uri=large, progress=meanwhile(UPLOADED, ask))
    assert aws.names() == {}


def test_who_was_killed_is_not_waited_for(
    aws: Any, run: Run, deployer: BaseModelDeployer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(text: str) -> None:
        if "creating the transform" in text:
            monkeypatch.setattr("stackkit_sagemaker.transforms.Notes.leave", lambda *given: False)
            raise Killed

    with pytest.raises(Killed):
        run(progress=kill)
    monkeypatch.undo()
    aws.behave(faults={"CreateTransformJob": {"code": "ResourceLimitExceeded", "message": "not today", "times": 2}})
    with pytest.raises(DeploymentError, match="not today"):
        run()
    assert len(deployer.transforms.list()) == 1, "the other may be at work yet"
    monkeypatch.setattr("stackkit_sagemaker.notes.ProcessIdentity.is_provably_dead", lambda self: True)
    with pytest.raises(DeploymentError, match="not today"):
        run()
    assert aws.names() == {}


def test_without_an_image_one_is_built_and_goes(aws: Any, engine: Any, run: Run) -> None:
    aws.behave(ticks=10**6)
    begun = run(image=None, wait=False)
    assert len(aws.names()["images"]) == 1
    assert begun.name in aws.names()["images"][0]
    aws.behave(ticks=0)
    run(image=None)
    assert aws.names() == {}
    assert len(engine.built) == 1


def test_with_an_image_a_model_need_not_say_what_it_requires(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.joblib").write_bytes(b"a model")
    assert run(model_uri=str(tmp_path / "model.joblib")).state is TransformState.COMPLETED
    with pytest.raises(ImageError, match="what it needs"):
        run(model_uri=str(tmp_path / "model.joblib"), image=None)


@pytest.mark.parametrize("image", [f"{IMAGE}:1", None], ids=["given", "built"])
@pytest.mark.parametrize("call", ["CreateModel", "CreateTransformJob"])
def test_one_that_is_refused_leaves_nothing(
    aws: Any, engine: Any, run: Run, deployer: BaseModelDeployer, call: str, image: str | None
) -> None:
    aws.behave(faults={call: {"code": "ResourceLimitExceeded", "message": "not today", "times": 1}})
    with pytest.raises(DeploymentError, match="not today"):
        run(image=image)
    assert aws.names() == {}
    assert not deployer.transforms.list()
    assert run(image=image).state is TransformState.COMPLETED
    assert len(deployer.transforms.list()) == 1
    assert aws.names() == {}


@pytest.fixture
def cut_off(aws: Any, run: Run, deployer: BaseModelDeployer) -> Transform:
    """One that is refused, and that cannot be undone either."""
    refusal = {"code": "ValidationException", "message": "not today"}
    aws.behave(faults={"CreateTransformJob": {**refusal, "times": 1}, "DeleteModel": {**refusal, "times": 1}})
    with pytest.raises(DeploymentError, match="The transform was not created: not today"):
        run()
    (left,) = deployer.transforms.list()
    return left


def test_what_is_left_of_one_is_pending_and_goes_on(
    aws: Any, run: Run, deployer: BaseModelDeployer, cut_off: Transform, models: dict[str, str]
) -> None:
    assert (cut_off.state, cut_off.model_uri, cut_off.ended) == (TransformState.PENDING, models["one"], None)
    assert [cut_off.input_uri, cut_off.output_uri] == list(WHERE.values())
    assert aws.names()["models"] == [cut_off.name]
    with pytest.raises(DeploymentError, match="has not begun"):
        deployer.transforms.wait(cut_off.name)
    assert (run().name, aws.names()) == (cut_off.name, {})


def test_what_is_left_of_one_is_removed(aws: Any, deployer: BaseModelDeployer, cut_off: Transform) -> None:
    assert deployer.transforms.stop(cut_off.name).state is TransformState.STOPPED
    assert aws.names() == {}
    assert not deployer.transforms.list()


def test_what_is_left_of_one_that_nobody_waited_for_is_told(aws: Any, run: Run, deployer: BaseModelDeployer) -> None:
    aws.behave(ticks=3)
    begun = run(wait=False)
    assert begun.message == ""
    aws.behave(ticks=0)
    assert f"models transforms stop {begun.name}" in deployer.transforms.get(begun.name).message
    done = deployer.transforms.wait(begun.name)
    assert (done.state, done.message, aws.names()) == (TransformState.COMPLETED, "", {})


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"instance_type": "ml.t2.medium"}, "no instance type 'ml.t2.medium'"), ({"model_uri": "missing"}, "missing")],
    ids=["instance", "model"],
)
def test_what_can_be_found_beforehand_makes_nothing(aws: Any, run: Run, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(StackkitError, match=words):
        run(**fields)
    assert aws.names() == {}


def test_unknown_fields_are_refused_by_name(run: Run) -> None:
    with pytest.raises(InvalidConfigError, match="no_such"):
        run(no_such=1)


def test_a_model_of_that_name_by_another_hand_is_left_alone(aws: Any, run: Run, deployer: BaseModelDeployer) -> None:
    aws.behave(ticks=10**6)
    begun = run(wait=False)
    arn = aws.client("sagemaker").describe_model(ModelName=begun.name)["ModelArn"]
    aws.client("sagemaker").delete_tags(ResourceArn=arn, TagKeys=["stackkit:service"])
    with pytest.raises(DeploymentError, match="was not made by stackkit"):
        deployer.transforms.stop(begun.name)
    assert aws.names()["models"] == [begun.name]
