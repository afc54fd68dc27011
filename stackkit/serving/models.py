"""What a loaded model is to the server."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from .payloads import Payload
from .signature import Signature


class Model(Protocol):
    """One loaded model. It is called from one thread at a time, always the same.

    ``predict`` raises RequestError for input that it has no use for. What else it raises is the model's own:
    ValueError and TypeError are taken as the caller's mistake, everything else as the model's. What it returns is
    whatever ``replies.encode`` can write.
    """

    @property
    def name(self) -> str:
        """What the model calls itself, for people."""

    @property
    def signature(self) -> Signature | None:
        """The model's own description of its inputs, None when it has none."""

    @property
    def chat_keys(self) -> frozenset[str]:
        """Which of CHAT_KEYS make a request's whole object the model's input; none for a tabular model."""

    def predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        """Build the input that the model wants from ``data``, and call it."""


@runtime_checkable
class StreamingModel(Model, Protocol):
    """A model that can answer in chunks."""

    can_stream: bool

    def stream(self, data: Payload, params: Mapping[str, Any] | None) -> Iterable[Any]:
        """The chunks of one prediction, each of which ``replies.encode`` can write; raises as ``predict``. Called, and
        iterated over, where ``predict`` is. Not to be called unless ``can_stream``.
        """


@runtime_checkable
class ExemplaryModel(Model, Protocol):
    """A model that has no signature, and still knows a request that it can answer."""

    @property
    def example(self) -> Any:
        """The body of a scoring request; None when it knows none after all."""


@dataclass(slots=True)
class PreparedInput:
    """One request's input as the model wants it, its params included if it takes any.

    Inputs of equal ``key`` have the same columns, dtypes and params, so that their rows may stand below one another;
    one whose key is None is predicted alone.
    """

    value: Any
    rows: int
    key: Hashable


@runtime_checkable
class PreparingModel(Model, Protocol):
    """A model that separates building its input from being called, so that one call can answer several requests.

    ``is_rowwise`` says that each row's prediction is known not to depend on the rows beside it.
    """

    is_rowwise: bool

    def prepare(self, data: Payload, params: Mapping[str, Any] | None) -> PreparedInput:
        """Build the input that the model wants. Called from any thread, from several at once; raises as ``predict``."""

    def predict_prepared(self, inputs: Sequence[PreparedInput]) -> Any:
        """Call the model once with the rows of all inputs, one input's after the other's. There is more than one only
        where their keys are equal and not None. Called from one thread at a time, always the same.
        """
