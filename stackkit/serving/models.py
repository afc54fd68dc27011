"""What a loaded model is to the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .payloads import Payload


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
    def signature(self) -> Any:
        """The model's own description of its inputs, None when it has none."""

    @property
    def chat_keys(self) -> frozenset[str]:
        """Which of CHAT_KEYS make a request's whole object the model's input; none for a tabular model."""

    def predict(self, data: Payload, params: Mapping[str, Any] | None) -> Any:
        """Build the input that the model wants from ``data``, and call it."""
