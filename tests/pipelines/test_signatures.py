"""What is read from a step's annotations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import pytest
from pydantic import BaseModel

from stackkit.errors import PipelineError
from stackkit.model_deployers import Service, ServiceConfig
from stackkit.pipelines import Artifact
from stackkit.pipelines.signatures import (
    UNKNOWN,
    annotations_of,
    check_value,
    may_take,
    outputs_of,
    wants_artifact,
)

if TYPE_CHECKING:
    from nowhere import Unheard


def nothing() -> None: ...
def bare(): ...
def plain() -> float: ...
def named() -> Annotated[float, "accuracy"]: ...
def pair() -> tuple[int, str]: ...
def named_pair() -> Annotated[tuple[int, str], "both"]: ...
def two() -> tuple[Annotated[int, "rows"], Annotated[str, "label"]]: ...
def half_named() -> tuple[Annotated[int, "rows"], str]: ...
def one_in_tuple() -> tuple[Annotated[int, "rows"]]: ...
def any_number() -> tuple[Annotated[int, "rows"], ...]: ...
def noted_otherwise() -> Annotated[int, 7]: ...


@pytest.mark.parametrize(
    ("function", "names", "as_tuple"),
    [
        (nothing, [], False),
        (bare, ["output"], False),
        (plain, ["output"], False),
        (named, ["accuracy"], False),
        (pair, ["output"], False),
        (named_pair, ["both"], False),
        (two, ["rows", "label"], True),
        (half_named, ["rows", "output_1"], True),
        (one_in_tuple, ["rows"], True),
        (any_number, ["output"], False),
        (noted_otherwise, ["output"], False),
    ],
)
def test_outputs_are_named_by_the_return_annotation(function: Any, names: list[str], as_tuple: bool) -> None:
    outputs = outputs_of(function)
    assert list(outputs.annotations) == names
    assert outputs.as_tuple is as_tuple


def test_outputs_have_the_type_without_its_name() -> None:
    assert outputs_of(two).annotations == {"rows": int, "label": str}
    assert outputs_of(bare).annotations == {"output": UNKNOWN}


def test_two_outputs_of_one_name_are_refused() -> None:
    def twice() -> tuple[Annotated[int, "rows"], Annotated[int, "rows"]]: ...

    with pytest.raises(PipelineError, match="two outputs the same name: rows, rows"):
        outputs_of(twice)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "x" * 201])
def test_an_output_is_named_as_a_file_can_be(name: str) -> None:
    def odd(): ...

    odd.__annotations__["return"] = Annotated[int, name]
    with pytest.raises(PipelineError, match="cannot name an output"):
        outputs_of(odd)


def test_an_argument_whose_annotation_cannot_be_resolved_is_unknown() -> None:
    def takes(model: Unheard, rows: int) -> None: ...

    assert annotations_of(takes) == {"model": UNKNOWN, "rows": int, "return": None}


def test_a_return_annotation_that_cannot_be_resolved_is_refused() -> None:
    def gives() -> Unheard: ...

    with pytest.raises(PipelineError, match="cannot be resolved: Unheard") as caught:
        outputs_of(gives)
    assert "type checkers" in (caught.value.hint or "")


class Animal: ...


class Dog(Animal): ...


class Cat(Animal): ...


class Quacks(Protocol):
    quack: int


@pytest.mark.parametrize(
    ("consumer", "producer", "allowed"),
    [
        (Animal, Dog, True),
        (Dog, Animal, True),  # may turn out right
        (Dog, Cat, False),
        (str, int, False),
        (float, int, True),
        (int, float, False),
        (float, bool, True),
        (object, Dog, True),
        (Any, Dog, True),
        (UNKNOWN, Dog, True),
        (Dog, UNKNOWN, True),
        (Dog | None, Dog, True),
        (Dog | None, Cat, False),
        (Dog | None, Cat | None, True),
        (list[int], list[str], True),  # what is inside is not looked at
        (list[int], dict[str, int], False),
        (Sequence[int], list[int], True),
        (Quacks, Dog, True),
        (Annotated[Dog, "x"], Annotated[Cat, "x"], False),
        (ServiceConfig, Service | None, True),  # it is loaded as one
        (str, Service, False),
    ],
)
def test_only_what_cannot_fit_is_refused(consumer: Any, producer: Any, allowed: bool) -> None:
    assert may_take(consumer, producer) is allowed


@pytest.mark.parametrize(
    ("annotation", "wants"), [(Artifact, True), (Artifact | str, True), (Annotated[Artifact, "x"], True), (str, False)]
)
def test_a_parameter_asks_for_the_artifact_by_its_annotation(annotation: Any, wants: bool) -> None:
    assert wants_artifact(annotation) is wants


class Options(BaseModel):
    depth: int


@pytest.mark.parametrize(
    ("annotation", "value", "read"),
    [
        (float, 1, 1.0),
        (float, "0.5", 0.5),
        (int | None, None, None),
        (Options, {"depth": 3}, Options(depth=3)),
        (UNKNOWN, "anything", "anything"),
        (Quacks, 7, 7),  # a protocol that cannot be asked
        (Artifact | str, "models:/churn/3", "models:/churn/3"),
    ],
)
def test_a_value_is_read_as_its_annotation_has_it(annotation: Any, value: Any, read: Any) -> None:
    assert check_value(annotation, value, "the step 'x'", "a") == read


@pytest.mark.parametrize(
    ("annotation", "value"), [(float, "half"), (Dog, Animal()), (Options, {"depth": "deep"}), (list[int], "text")]
)
def test_a_value_that_does_not_fit_is_refused(annotation: Any, value: Any) -> None:
    with pytest.raises(PipelineError, match="The argument 'a' of the step 'x' is wrong"):
        check_value(annotation, value, "the step 'x'", "a")
