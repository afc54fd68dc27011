"""Every error that stackkit raises on purpose.

All of them derive from StackkitError, whose text says what is wrong and whose ``hint`` names the command or the
field that mends it. The command line prints the two on separate lines and exits with 1; in Python ``str(error)``
holds both.
"""

from __future__ import annotations


class StackkitError(Exception):
    """The root of all errors raised on purpose.

    ``message`` is one line about what is wrong; ``hint``, when given, is one line about what mends it.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class NotFoundError(StackkitError):
    """What was named does not exist."""


class AlreadyExistsError(StackkitError):
    """The name is taken."""


class AmbiguousNameError(StackkitError):
    """A prefix or a name fits more than one."""


class InvalidConfigError(StackkitError):
    """A field is unknown, ill-typed or missing."""


class InUseError(StackkitError):
    """Something else still needs what was to be removed or changed."""


class SettingsError(StackkitError):
    """The home folder, a setting or an environment variable cannot be used."""


class FlavorError(StackkitError):
    """A flavor is unknown, cannot be loaded, or lacks one of its dependencies."""


class NotSupportedError(StackkitError):
    """This flavor cannot do that."""


class StoreError(StackkitError):
    """The database cannot be reached, or is not one of ours."""


class SchemaVersionError(StoreError):
    """The database's schema is older or newer than this code."""


class SecretError(StackkitError):
    """A secret is missing, or the key that encrypts secrets is not the right one."""


class ModelError(StackkitError):
    """The model URI cannot be resolved, or what it names is no model."""


class ImageError(StackkitError):
    """A model's image cannot be built or pushed; the message carries the resolver's or the engine's own words."""


class PlatformUnavailableError(StackkitError):
    """The platform that runs the servers cannot be asked; nothing is known about them."""


class DeploymentError(StackkitError):
    """A model server did not start, stop or go away; the message carries the platform's own words."""


class DeploymentTimeoutError(DeploymentError):
    """A model server did not get where it should in the time given; the message says what it was waiting for."""


class LeaseLostError(StackkitError):
    """Another process has taken over the work on this service; this one must stop."""


class PredictionError(StackkitError):
    """The model server refused or failed to answer a prediction request."""


class PipelineError(StackkitError):
    """A pipeline is wired wrongly, or one of its steps failed."""
