"""The images that are built of models, in a repository of ECR: each service's bear tags that begin with its UUID."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from stackkit import __version__
from stackkit.environments import images
from stackkit.environments.models import ResolvedModel
from stackkit.errors import DeploymentError, InvalidConfigError

from .clients import Clients
from .errors import code_of
from .names import endpoint_name

if TYPE_CHECKING:
    from mypy_boto3_ecr import ECRClient

DEFAULT_REPOSITORY = "stackkit"

_ARM = re.compile(r"ml\.[a-z]+\d+g")  # Graviton: the g comes after the generation, as in ml.c7g.large
_REMOVED_AT_ONCE = 100


def platform_of(instance_types: Collection[str]) -> str:
    """What an image must be built for to run on instances of these types; without any it is serverless.

    Raises InvalidConfigError when no one image runs on all of them.
    """
    found = {"linux/arm64" if _ARM.match(each) else "linux/amd64" for each in instance_types} or {"linux/amd64"}
    if len(found) > 1:
        raise InvalidConfigError(
            f"No one image runs on {', '.join(sorted(instance_types))}: some of them are Graviton, and some are not.",
            "Choose variants of one kind, or name an image for both: image=….",
        )
    return found.pop()


def image_tag(service_id: str, digest: str, platform: str, base_image: str | None) -> str:
    """The tag of a service's image: another one for everything that makes another image."""
    made_of = hashlib.sha256("\0".join((digest, platform, base_image or "", __version__)).encode())
    return f"{endpoint_name(service_id)}-{made_of.hexdigest()[:16]}"


class Registry:
    """The repository of a deployer.

    ``named`` is the one that the user gave; without one it is ours, and made when it is first needed.
    """

    def __init__(self, clients: Clients, region: str, named: str | None) -> None:
        self._clients = clients
        self._region = region
        self._named = named

    @property
    def repository(self) -> str:
        return self._named or DEFAULT_REPOSITORY

    def address(self, tag: str) -> str:
        """How an image is called for an engine and for SageMaker."""
        caller = self._clients.caller()
        return f"{caller.account}.dkr.ecr.{self._region}.{caller.domain}/{self.repository}:{tag}"

    def has(self, tag: str) -> bool:
        """Whether the image is there. Makes our repository when there is none.

        Raises DeploymentError for a repository that was named and is not there.
        """
        with self._clients.calling(f"The repository {self.repository} cannot be used"):
            try:
                self._ecr.describe_images(repositoryName=self.repository, imageIds=[{"imageTag": tag}])
            except ClientError as error:
                if code_of(error) == "ImageNotFoundException":
                    return False
                if code_of(error) != "RepositoryNotFoundException":
                    raise
                if self._named is not None:
                    raise DeploymentError(
                        f"There is no repository {self.repository} in ECR.",
                        "Create it, or leave out ecr_repository=… to have one made.",
                    ) from error
                self._create()
                return False
        return True

    def push(
        self, model: ResolvedModel, tag: str, *, base_image: str | None, platform: str, progress: Callable[[str], None]
    ) -> None:
        """Have this machine's engine build the model's image and push it to the repository. Raises ImageError."""
        with self._clients.calling("ECR gave no login"):
            (granted,) = self._ecr.get_authorization_token()["authorizationData"]
        username, _, password = base64.b64decode(granted["authorizationToken"]).decode().partition(":")
        images.build(
            model,
            tag=self.address(tag),
            base_image=base_image,
            platform=platform,
            push=True,
            credentials={"username": username, "password": password},
            progress=progress,
        )

    def remove(self, service_id: str, keep: Collection[str] = ()) -> None:
        """Remove the service's images but for those whose address is in ``keep``; a no-op without a repository."""
        prefix = f"{endpoint_name(service_id)}-"
        with self._clients.calling(f"The images in the repository {self.repository} were not removed"):
            try:
                pages = self._ecr.get_paginator("list_images").paginate(
                    repositoryName=self.repository, filter={"tagStatus": "TAGGED"}
                )
                tags = [found["imageTag"] for page in pages for found in page["imageIds"]]
            except ClientError as error:
                if code_of(error) == "RepositoryNotFoundException":
                    return
                raise
            gone = [tag for tag in tags if tag.startswith(prefix) and self.address(tag) not in keep]
            for start in range(0, len(gone), _REMOVED_AT_ONCE):
                self._delete(gone[start : start + _REMOVED_AT_ONCE])

    def remove_image(self, address: str) -> None:
        """Remove one image; a no-op when it is gone."""
        with self._clients.calling(f"The image {address} was not removed"):
            self._delete([address.rpartition(":")[2]])

    @property
    def _ecr(self) -> ECRClient:
        return self._clients.ecr

    def _delete(self, tags: Collection[str]) -> None:
        answer = self._ecr.batch_delete_image(
            repositoryName=self.repository, imageIds=[{"imageTag": tag} for tag in tags]
        )
        for failed in answer.get("failures", []):
            if failed.get("failureCode") != "ImageNotFound":
                raise DeploymentError(f"An image was not removed from ECR: {failed.get('failureReason')}")

    def _create(self) -> None:
        try:
            self._ecr.create_repository(repositoryName=self.repository)
        except ClientError as error:
            if code_of(error) != "RepositoryAlreadyExistsException":  # two deploys at once
                raise
