"""Why a model cannot be served, and the errors that a request is answered with."""

from __future__ import annotations

from collections.abc import Mapping


class ModelFormatError(ValueError):
    """What was named is no model, or not one of the formats that can be served."""


class ModelLoadError(Exception):
    """The model is of a known format and still cannot be loaded; the text says why."""


class MissingLibraryError(ModelLoadError):
    """A library that this model's format needs is not installed."""

    def __init__(self, library: str, format_name: str, extra: str) -> None:
        super().__init__(
            f"a {format_name} model needs {library}, which is not installed here: pip install 'stackkit[{extra}]'"
        )


class RequestError(Exception):
    """A request that is answered with an error. ``code`` is one of MLflow's error codes.

    The message goes to the caller: it never repeats what the request held. ``headers`` go with it, ``details`` are
    further fields of the error's body where its protocol has room for them.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}
        self.details = details or {}


class BadRequestError(RequestError):
    """The payload cannot be understood (400 BAD_REQUEST)."""

    def __init__(self, message: str) -> None:
        super().__init__(400, "BAD_REQUEST", message)


class InvalidInputError(RequestError):
    """The payload is well-formed, and the model has no use for it (400 INVALID_PARAMETER_VALUE)."""

    def __init__(self, message: str) -> None:
        super().__init__(400, "INVALID_PARAMETER_VALUE", message)


class UnavailableError(RequestError):
    """Nothing is wrong with the request, and it cannot be answered just now (503 TEMPORARILY_UNAVAILABLE)."""

    def __init__(self, message: str) -> None:
        super().__init__(503, "TEMPORARILY_UNAVAILABLE", message, headers={"retry-after": "1"})


class ModelFailedError(Exception):
    """The model's own code raised what is no complaint about its input; the cause is its exception."""
