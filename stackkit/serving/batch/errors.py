"""Why a file got no predictions."""

from __future__ import annotations


class BatchError(Exception):
    """What was asked for cannot be done, or a row of the input does not fit. Nothing was written.

    ``message`` is one line about what is wrong; ``hint``, when given, is one line about what mends it.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ModelBrokenError(BatchError):
    """The model's own code raised what is no complaint about its input; the cause is its exception."""


def first_line(error: BaseException) -> str:
    """The first line of what an exception says; libraries say more than fits one."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
