"""The texts that AWS takes: what is written otherwise is refused before anybody is asked.

To be used as Annotated[str, REGION], or Annotated[str | None, REGION] where there may be none.

The rules are those of the API reference (docs.aws.amazon.com/sagemaker/latest/APIReference).
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, SecretStr

TAG_PREFIX = "stackkit:"
"""How the keys of our own tags begin."""

_MOST_TAGS = 20  # AWS takes 50: the deployer's, the service's, and those by which an endpoint is found again


def _written(pattern: str, words: str) -> AfterValidator:
    """Refuses a text that is not written as ``pattern`` says, in words; None passes."""

    def check(text: str | None) -> str | None:
        if text is not None and re.fullmatch(pattern, text) is None:
            raise ValueError(words)
        return text

    return AfterValidator(check)


ROLE = _written(r"arn:aws[a-z\-]*:iam::\d{12}:role/[\w+=,.@\-/]+", "write a role as arn:aws:iam::ACCOUNT:role/NAME")
S3_URI = _written(r"s3://[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9](/.*)?", "write a place in S3 as s3://BUCKET/FOLDER")
REGION = _written(r"[a-z]{2,4}(-[a-z]+)+-\d", "write a region as us-east-1 is written")
BUCKET = _written(
    r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]", "write the bucket's name alone: lower case, digits, '-' and '.'"
)
REPOSITORY = _written(
    r"[a-z0-9]+([._/\-][a-z0-9]+)*",
    "write the repository's name alone: lower case, digits, and '/', '-', '_' or '.'",
)
URL = _written(r"https?://\S+", "write a URL: https://HOST")
IMAGE = _written(r"\S{1,255}", "write an image without spaces: ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG")
INSTANCE_TYPE = _written(r"ml\.[a-z0-9.\-]+", "write a type of SageMaker's, which begin with ml., such as ml.m5.large")


def _free_of_reserved(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > _MOST_TAGS:
        raise ValueError(f"there are {len(tags)} tags, and {_MOST_TAGS} are the most")
    for key, value in tags.items():
        for text in (key, value):
            if re.fullmatch(r"[\w\s.:/=+\-@]*", text) is None:
                raise ValueError(
                    f"AWS takes letters, digits, spaces and . : / = + - @ _ in a tag, which {text!r} is not"
                )
        if not key or len(key) > 128 or len(value) > 256:
            raise ValueError(f"the tag {key!r} is too long or empty: AWS takes keys of 1 to 128 and values of 256")
        if key.lower().startswith(("aws:", TAG_PREFIX)):
            raise ValueError(f"the tag {key!r} begins with a prefix that is reserved")
    return tags


def _possible_variables(variables: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, value in variables.items():
        if re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]{0,1023}", name) is None:
            raise ValueError(f"{name!r} cannot name an environment variable")
        if len(value.get_secret_value()) > 1024:
            raise ValueError(f"the value of {name} is longer than the 1024 characters that SageMaker takes")
    return variables


Tags = Annotated[dict[str, str], AfterValidator(_free_of_reserved)]
Variables = Annotated[dict[str, SecretStr], AfterValidator(_possible_variables)]
