"""Why a model cannot be served, and the errors that a request is answered with."""

from __future__ import annotations


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

    The message goes to the caller: it never repeats what the request held.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


class BadRequestError(RequestError):
    """The payload cannot be understood (400 BAD_REQUEST)."""

    def __init__(self, message: str) -> None:
        super().__init__(400, "BAD_REQUEST", message)


class InvalidInputError(RequestError):
    """The payload is well-formed, and the model has no use for it (400 INVALID_PARAMETER_VALUE)."""

    def __init__(self, message: str) -> None:
        super().__init__(400, "INVALID_PARAMETER_VALUE", message)
