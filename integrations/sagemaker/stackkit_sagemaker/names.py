"""What a service's resources are called and how they are marked, so that each can be found again and told apart."""

from __future__ import annotations

from collections.abc import Mapping

SERVICE_TAG = "stackkit:service"
"""The key of the tag that everything of a service bears, its UUID for value, and of a transform, with its name."""

ENDPOINTS = "stackkit-"
"""How the names of all our endpoints begin."""


def endpoint_name(service_id: str) -> str:
    """The endpoint's name; the names of the service's models and endpoint configurations begin with it."""
    return f"{ENDPOINTS}{service_id}"


def revision_name(service_id: str, revision: int, epoch: int) -> str:
    """What the model and the endpoint configuration of a revision are called, as prepared under a lease.

    The revision alone would not do: one that failed is dropped, and its number is given again to another
    configuration, while SageMaker may still be going over to the first. SageMaker takes names of up to 63 characters.
    """
    return f"{endpoint_name(service_id)}-r{revision}-{epoch}"


def split_name(service_id: str, canary: int, epoch: int) -> str:
    """What the endpoint configuration is called that has a canary share an endpoint, as made under a lease."""
    return f"{endpoint_name(service_id)}-c{canary}-{epoch}"


def is_of_lease(name: str, epoch: int) -> bool:
    """Whether what is called so was made under a lease."""
    return name.endswith(f"-{epoch}")


def tags(service_id: str, *given: Mapping[str, str]) -> list[dict[str, str]]:
    """The tags of everything of a service: ours, and those given; of two with one key the later holds."""
    merged = {SERVICE_TAG: service_id}
    for each in given:
        merged |= each
    return [{"Key": key, "Value": value} for key, value in merged.items()]
