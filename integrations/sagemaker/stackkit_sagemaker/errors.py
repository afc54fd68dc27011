"""From botocore's errors to words a person can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import boto3
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    LoginError,
    NoAuthTokenError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from stackkit.errors import DeploymentError, PlatformUnavailableError, StackkitError
from stackkit.stack.configs import MASK

_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_UNKNOWN_CALLER = frozenset(
    {"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
    | {"InvalidSignatureException", "InvalidToken"}
)
_OTHER_TIME = frozenset({"RequestTimeTooSkewed", "RequestInTheFuture"})
_SAYS_OTHER_TIME = re.compile(r"Signature (expired|not yet current)")
_LOGGED_OUT = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    SSOError,
    LoginError,
    TokenRetrievalError,
    NoAuthTokenError,
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403", "Forbidden"})
_BUSY = frozenset(
    {"Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown"}
    | {"ServiceUnavailable", "ServiceUnavailableException", "InternalFailure", "InternalServerException", "500", "503"}
)
_MISSING = frozenset({"404", "NoSuchEntity", "NoSuchKey", "NoSuchBucket", "NoSuchUpload", "NotFound"})
_NOT_FOUND = frozenset({"ResourceNotFound", "ResourceNotFoundException", "ObjectNotFoundException"})

_REGION = re.compile(r"\b[a-z]{2,4}(-[a-z]+)+-\d\b")
_NO_SUCH_VALUE = re.compile(
    r"[Vv]alue '(?P<value>[^']*)' at '(?P<field>[^']*)'.*?enum value set: \[(?P<known>[^\]]*)\]"
)


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def words_of(error: ClientError) -> str:
    """AWS's own words, on one line."""
    message = str(error.response.get("Error", {}).get("Message") or code_of(error))
    return " ".join(message.split())


def is_missing(error: ClientError) -> bool:
    """Whether what was asked for does not exist. SageMaker says so in words alone, under the code of any bad input."""
    said = words_of(error).startswith("Could not find")
    return code_of(error) in _MISSING | _NOT_FOUND or (said and code_of(error).startswith("Validation"))


def has_changed(error: ClientError) -> bool:
    """Whether an object in S3 is another than the one that was to be replaced."""
    return code_of(error) in {"PreconditionFailed", "412", "ConditionalRequestConflict"}


def is_of_credentials(error: ClientError | BotoCoreError) -> bool:
    """Whether others than these credentials are needed, or the same ones renewed."""
    if isinstance(error, ClientError):
        return code_of(error) in _EXPIRED | _UNKNOWN_CALLER
    return isinstance(error, _LOGGED_OUT)


def is_denied(error: ClientError) -> bool:
    """Whether these credentials may not ask for that."""
    return code_of(error) in _DENIED


def exists_already(error: ClientError) -> bool:
    """Whether something of that name was there before."""
    return "already existing" in words_of(error)


def is_refusal(error: ClientError) -> bool:
    """Whether AWS understood the request and will not do it as things stand."""
    return code_of(error).startswith("Validation") or code_of(error) in {"ResourceInUse", "ConflictException"}


@contextmanager
def there_before() -> Iterator[None]:
    """For a call that makes something: a no-op when something of that name is there."""
    try:
        yield
    except ClientError as error:
        if not exists_already(error):
            raise


@contextmanager
def gone_before() -> Iterator[None]:
    """For a call that removes something: a no-op when it is gone."""
    try:
        yield
    except ClientError as error:
        if not is_missing(error):
            raise


@contextmanager
def aws_errors(failed: str, secrets: Collection[str] = ()) -> Iterator[None]:
    """Tell what goes wrong with AWS in the block. ``failed`` begins the message: "The model was not created".

    ``secrets`` are what was sent and may not be shown: AWS repeats in its words what it finds wrong. Raises
    PlatformUnavailableError where AWS did not answer, or not to these credentials, and DeploymentError where it
    refused.
    """
    try:
        yield
    except ClientError as error:
        raise _explained(failed, error, secrets) from (None if secrets else error)
    except BotoCoreError as error:
        raise _unreachable(failed, error) from error


def _explained(failed: str, error: ClientError, secrets: Collection[str]) -> StackkitError:
    code, words = code_of(error), words_of(error)
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        words = words.replace(secret, MASK).replace(" ".join(secret.split()), MASK)
    if code in _OTHER_TIME or _SAYS_OTHER_TIME.search(words):
        return PlatformUnavailableError(
            f"{failed}: this machine's clock and AWS's differ ({words}).", "Set this machine's clock, and ask again."
        )
    if code in _EXPIRED:
        return PlatformUnavailableError(
            f"{failed}: the AWS credentials have expired.", "Renew them (aws sso login, or new keys), and ask again."
        )
    if code in _UNKNOWN_CALLER:
        return PlatformUnavailableError(
            f"{failed}: AWS does not know these credentials ({code}).",
            "See who you are: aws sts get-caller-identity. Choose others with profile=….",
        )
    if code in _DENIED:
        return PlatformUnavailableError(
            f"{failed}: {error.operation_name} is not allowed: {words}",
            "Give your role the permissions listed in docs/sagemaker.md.",
        )
    if code in _BUSY:
        return PlatformUnavailableError(
            f"{failed}: AWS does not keep up ({code}: {words}), also after several attempts.", "Try again in a while."
        )
    if code == "ResourceLimitExceeded":
        return DeploymentError(
            f"{failed}: {words}", "Choose another instance_type, or ask for more in the console of Service Quotas."
        )
    if match := _NO_SUCH_VALUE.search(words):
        near = difflib.get_close_matches(match["value"], re.findall(r"[\w.\-]+", match["known"]), n=3)
        return DeploymentError(
            f"{failed}: SageMaker knows no {match['field'].rpartition('.')[2]} {match['value']!r}.",
            f"Did you mean {' or '.join(near)}?" if near else None,
        )
    return DeploymentError(f"{failed}: {words}")


def _unreachable(failed: str, error: BotoCoreError) -> PlatformUnavailableError:
    hint = "Check the region, the network and endpoint_url."
    if isinstance(error, EndpointConnectionError) and (region := _REGION.search(str(error))) is not None:
        known = boto3.session.Session().get_available_regions("sagemaker")
        near = difflib.get_close_matches(region[0], known, n=2)
        if region[0] not in known and near:
            hint = f"No region of AWS is known as {region[0]!r}: did you mean {' or '.join(near)}?"
    elif isinstance(error, _LOGGED_OUT):
        hint = "Log in (aws sso login), set AWS_PROFILE or AWS_ACCESS_KEY_ID, or give the deployer a profile."
    elif isinstance(error, ProfileNotFound):
        hint = "See which there are: aws configure list-profiles."
    elif isinstance(error, NoRegionError):
        hint = "Give the deployer a region."
    return PlatformUnavailableError(f"{failed}: {' '.join(str(error).split())}", hint)
