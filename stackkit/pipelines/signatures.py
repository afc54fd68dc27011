"""What a step takes and gives, read from its annotations, and whether a value fits.

Annotations are resolved when a pipeline is first wired, not when a step is defined: they may name what is defined
further down. One that cannot be resolved (such as an import for type checkers alone) is unknown, and then nothing is
checked against it.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from ..errors import PipelineError
from ..model_deployers import Service, ServiceConfig
from .artifacts import Artifact

UNKNOWN = inspect.Parameter.empty
"""The annotation of what has none that is known."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_LOADED_AS: dict[Any, type] = {Service: ServiceConfig}  # see ``materializers``
_WIDENS: dict[type, tuple[type, ...]] = {int: (float, complex), float: (complex,)}


def check_name(name: str, what: str) -> str:
    """``name`` if it can name ``what`` ("a step") in a table and a path; raises PipelineError otherwise."""
    if not _NAME.fullmatch(name):
        raise PipelineError(
            f"{name!r} cannot name {what}.",
            "Use at most 200 letters, digits, '_', '.' and '-', and begin with neither of the last two.",
        )
    return name


def check_function(function: Callable[..., Any], what: str) -> inspect.Signature:
    """The signature of a step's or pipeline's function. Raises PipelineError for one that cannot be such."""
    name = getattr(function, "__qualname__", repr(function))
    if (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise PipelineError(f"The {what} {name} is a generator or coroutine function.", "Make it a plain function.")
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise PipelineError(
                f"The {what} {name} takes any number of arguments (*{parameter.name}).",
                "Name each, or take them as one list or dict.",
            )
    return signature


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations by parameter name, the return annotation as ``return``; UNKNOWN where one cannot be resolved."""
    return {
        name: _evaluate(annotation, function) if isinstance(annotation, str) else annotation
        for name, annotation in inspect.get_annotations(function).items()
    }


@dataclass(frozen=True)
class Outputs:
    """What a step gives: annotations by name, and whether its function returns a tuple with an element for each."""

    annotations: Mapping[str, Any]
    as_tuple: bool = False


def outputs_of(function: Callable[..., Any]) -> Outputs:
    """The outputs of a step; none for one that is annotated to return None.

    Raises PipelineError when the return annotation cannot be resolved or gives a name twice.
    """
    where = f"The return annotation of the step {function.__qualname__}"
    annotations = annotations_of(function)
    if "return" in annotations and annotations["return"] is UNKNOWN:
        raise PipelineError(
            f"{where} cannot be resolved: {inspect.get_annotations(function)['return']}.",
            "Import or define what it names in the step's module, not for type checkers alone.",
        )
    annotation = annotations.get("return", UNKNOWN)
    if annotation in (None, types.NoneType):
        return Outputs({})
    parts = typing.get_args(annotation) if typing.get_origin(annotation) is tuple else ()
    if Ellipsis in parts or not any(map(_given_name, parts)):
        return Outputs({check_name(_given_name(annotation) or "output", "an output"): _bare(annotation)})
    names = [_given_name(part) or f"output_{position}" for position, part in enumerate(parts)]
    if len(set(names)) < len(names):
        raise PipelineError(f"{where} gives two outputs the same name: {', '.join(names)}.")
    named = {check_name(name, "an output"): _bare(part) for name, part in zip(names, parts, strict=True)}
    return Outputs(named, as_tuple=True)


def bind(signature: inspect.Signature, what: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, defaults left out.

    Raises PipelineError naming ``what`` and the argument that is missing, unknown or given twice.
    """
    try:
        return dict(signature.bind(*args, **kwargs).arguments)
    except TypeError as error:
        raise PipelineError(
            f"{what[0].upper()}{what[1:]} is called wrongly: {error}.",
            f"Its arguments: {', '.join(signature.parameters) or 'none'}.",
        ) from None


def wants_artifact(annotation: Any) -> bool:
    """Whether a parameter takes the artifact itself in place of its value."""
    return Artifact in _members(annotation)


def check_value(annotation: Any, value: Any, what: str, argument: str) -> Any:
    """``value`` as ``annotation`` has it, as pydantic reads it: the text "0.5" is a float.

    Raises PipelineError naming ``what`` and ``argument`` when it does not fit.
    """
    if annotation is UNKNOWN:
        return value
    try:
        return _adapter(annotation).validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]["msg"]
    except (PydanticUserError, PydanticUndefinedAnnotation, SchemaError):  # nothing that pydantic can check
        if _is_instance(annotation, value):
            return value
        problem = "Input has another class"
    raise PipelineError(
        f"The argument {argument!r} of {what} is wrong: {problem}, not {_brief(value)}.",
        f"It takes {describe(annotation)}.",
    )


def may_take(consumer: Any, producer: Any) -> bool:
    """Whether a value annotated ``producer`` may be given where ``consumer`` is annotated.

    Only what cannot be is refused: a class in place of its subclass may turn out right, and so may whatever is not
    made of classes.
    """
    taken, given = _classes(consumer), _classes(producer)
    if taken is None or given is None:
        return True
    return any(_related(one, other) for one in taken for other in given)


def describe(annotation: Any) -> str:
    """An annotation in words for an error: a class by its full name, since numpy calls one of its own ``bool``."""
    if not isinstance(annotation, type):
        return str(annotation).replace("typing.", "")
    is_builtin = annotation.__module__ == "builtins"
    return annotation.__name__ if is_builtin else f"{annotation.__module__}.{annotation.__qualname__}"


def _evaluate(annotation: str, function: Callable[..., Any]) -> Any:
    inner = inspect.unwrap(function)
    module = sys.modules.get(inner.__module__)
    scope = getattr(inner, "__globals__", vars(module) if module else {})
    try:
        return eval(annotation, scope)  # noqa: S307 - the user's own code, as typing.get_type_hints does it
    except Exception:  # an annotation may be any expression, and fail in any way
        return UNKNOWN


def _given_name(annotation: Any) -> str | None:
    if typing.get_origin(annotation) is not Annotated:
        return None
    return next((note for note in annotation.__metadata__ if isinstance(note, str)), None)


def _bare(annotation: Any) -> Any:
    return annotation.__origin__ if typing.get_origin(annotation) is Annotated else annotation


def _members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union; of anything else itself."""
    annotation = _bare(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return tuple(_bare(member) for member in typing.get_args(annotation))
    return (types.NoneType if annotation is None else annotation,)


def _classes(annotation: Any) -> tuple[type, ...] | None:
    """The classes that a value may be of, None where that is not known."""
    found = []
    for member in _members(annotation):
        known = _LOADED_AS.get(member, typing.get_origin(member) or member)
        if not isinstance(known, type) or known in (UNKNOWN, Any):
            return None
        found.append(known)
    return tuple(found)


def _related(taken: type, given: type) -> bool:
    try:
        widened = any(taken in wider for narrow, wider in _WIDENS.items() if issubclass(given, narrow))
        return widened or issubclass(given, taken) or issubclass(taken, given)
    except TypeError:  # a protocol that cannot be asked
        return True


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
        return TypeAdapter(annotation)  # a model or dataclass, which brings its own configuration


def _is_instance(annotation: Any, value: Any) -> bool:
    classes = _classes(annotation)
    try:
        return classes is None or isinstance(value, classes)
    except TypeError:  # a protocol that cannot be asked
        return True


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
