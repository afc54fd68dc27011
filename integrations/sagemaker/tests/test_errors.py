"""AWS's errors in words, and which of them leave the services unknown."""

from __future__ import annotations

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)
from stackkit_sagemaker.errors import aws_errors

from stackkit.errors import DeploymentError, PlatformUnavailableError, StackkitError


def told(error: Exception) -> StackkitError:
    with pytest.raises(StackkitError) as raised, aws_errors("The model was not created"):
        raise error
    assert raised.value.message.startswith("The model was not created")
    assert "\n" not in raised.value.message
    return raised.value


def refused(code: str, message: str = "") -> StackkitError:
    return told(ClientError({"Error": {"Code": code, "Message": message}}, "CreateModel"))


@pytest.mark.parametrize(
    "code",
    ["ExpiredTokenException", "UnrecognizedClientException", "AccessDeniedException", "ThrottlingException", "503"],
)
def test_what_says_nothing_about_a_server_makes_it_unknown(code: str) -> None:
    error = refused(code, "words")
    assert isinstance(error, PlatformUnavailableError)
    assert error.hint


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoCredentialsError(), "aws sso login"),
        (UnauthorizedSSOTokenError(), "aws sso login"),
        (TokenRetrievalError(provider="sso", error_msg="Token has expired"), "aws sso login"),
        (CredentialRetrievalError(provider="process", error_msg="no answer"), "aws sso login"),
        (ProfileNotFound(profile="p"), "list-profiles"),
        (EndpointConnectionError(endpoint_url="https://sts.nowhere-1.amazonaws.com"), "region"),
    ],
    ids=["credentials", "sso", "token", "process", "profile", "region"],
)
def test_without_a_connection(error: BotoCoreError, words: str) -> None:
    found = told(error)
    assert isinstance(found, PlatformUnavailableError)
    assert words in (found.hint or "")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
        ("InvalidSignatureException", "Signature expired: 20261122T010000Z is now earlier than 20261122T015500Z"),
        ("SignatureDoesNotMatch", "Signature not yet current: 20261122T030000Z is still later than 20261122T020500Z"),
    ],
)
def test_a_clock_that_is_wrong_is_named(code: str, words: str) -> None:
    error = refused(code, words)
    assert isinstance(error, PlatformUnavailableError)
    assert "clock" in (error.hint or "")


def test_a_region_that_does_not_exist_names_those_like_it() -> None:
    hint = told(EndpointConnectionError(endpoint_url="https://sts.us-est-1.amazonaws.com/")).hint or ""
    assert "us-est-1" in hint
    assert "us-east-1" in hint


def test_refusals_are_told_in_aws_own_words_on_one_line() -> None:
    error = refused("ValidationException", "Could not assume role\n arn:… .")
    assert isinstance(error, DeploymentError)
    assert error.message.endswith("Could not assume role arn:… .")


def test_a_value_that_does_not_exist_is_told_without_the_hundreds_that_do() -> None:
    error = refused(
        "ValidationException",
        "1 validation error detected: Value 'ml.m5.larg' at 'productionVariants.1.member.instanceType' failed to "
        "satisfy constraint: Member must satisfy enum value set: [ml.r7i.48xlarge, ml.m5.large, ml.m5.xlarge]",
    )
    assert error.message.endswith("SageMaker knows no instanceType 'ml.m5.larg'.")
    assert "ml.m5.large" in (error.hint or "")


def test_a_quota_names_the_way_out() -> None:
    assert "Service Quotas" in (refused("ResourceLimitExceeded", "The account-level limit …").hint or "")
