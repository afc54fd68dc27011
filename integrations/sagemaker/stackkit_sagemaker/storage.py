"""The objects of a service in S3: all of them, and nothing else, lie under a prefix that bears its UUID."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from stackkit.environments.files import format_size, list_files
from stackkit.errors import DeploymentError
from stackkit.model_deployers import Progress

from .archive import archive
from .clients import Clients
from .errors import code_of, has_changed, is_missing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MOST_PARTS = 9_000  # S3 takes 10,000 in one upload, and the archive's size is not known beforehand
_SMALLEST_PART = 8 << 20
_DELETED_AT_ONCE = 1000


_ROOT = "stackkit/"


def prefix_of(service_id: str) -> str:
    """Under which all objects of a service lie, or of a batch transform by its name."""
    return f"{_ROOT}{service_id}/"


def _archive_key(service_id: str, digest: str) -> str:
    return f"{prefix_of(service_id)}models/{digest.removeprefix('sha256:')}/model.tar.gz"


class Storage:
    """The bucket of a deployer.

    ``named`` is the bucket that the user gave; without one it is ours, and made when it is first needed. Every call
    names the account that must own the bucket, so that a stranger's bucket of that name is refused.
    """

    def __init__(self, clients: Clients, region: str, named: str | None) -> None:
        self._clients = clients
        self._region = region
        self._named = named

    @property
    def bucket(self) -> str:
        return self._named or f"stackkit-sagemaker-{self._region}-{self._account}"

    def check_bucket(self) -> None:
        """Raises as ``ensure_bucket`` does where a bucket was named, and makes none."""
        if self._named is not None:
            self.ensure_bucket()

    def ensure_bucket(self) -> None:
        """Make sure that the bucket is there and in this region, making ours; a no-op when it is.

        Raises DeploymentError when it is another account's, in another region, or one that was named and is not there.
        """
        with self._clients.calling(f"The bucket {self.bucket} cannot be used"):
            try:
                found = self._s3.head_bucket(Bucket=self.bucket, ExpectedBucketOwner=self._account)
            except ClientError as error:
                if code_of(error) in {"403", "Forbidden", "AccessDenied"}:
                    raise DeploymentError(
                        f"The bucket {self.bucket} cannot be used: it is another account's, or you may not see it.",
                        "Name one of your own (bucket=…), or ask for s3:ListBucket on it.",
                    ) from error
                if not is_missing(error):
                    raise
                if self._named is not None:
                    raise DeploymentError(
                        f"There is no bucket {self.bucket}.", "Create it, or leave out bucket=… to have one made."
                    ) from error
                self._create()
                return
        region = found.get("BucketRegion") or found["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        if region not in (None, self._region):
            raise DeploymentError(
                f"The bucket {self.bucket} is in {region}: SageMaker reads models from its own region, {self._region}.",
                f"Name a bucket in {self._region} (bucket=…), or leave it out to have one made.",
            )

    def archive_uri(self, service_id: str, digest: str) -> str:
        """Where the archive of a model lies, or would lie."""
        return f"s3://{self.bucket}/{_archive_key(service_id, digest)}"

    def has_archive(self, service_id: str, digest: str) -> bool:
        """Whether the archive is there: S3 shows an object when it is whole, and not before."""
        with self._clients.calling("The model's archive cannot be looked at"):
            try:
                self._s3.head_object(
                    Bucket=self.bucket, Key=_archive_key(service_id, digest), ExpectedBucketOwner=self._account
                )
            except ClientError as error:
                if is_missing(error):
                    return False
                raise
        return True

    def upload(self, service_id: str, digest: str, path: Path, progress: Progress) -> None:
        """Put the archive of the model at ``path`` under its digest. Raises ModelError and DeploymentError."""
        files = list_files(path)
        size = sum(file.size for file in files)
        told = _Share(f"uploading {format_size(size)} to s3://{self.bucket}", size, progress)
        with self._clients.calling("The model was not uploaded"), archive(files, told.add) as opened:
            self._s3.upload_fileobj(
                opened,
                self.bucket,
                _archive_key(service_id, digest),
                ExtraArgs={"ChecksumAlgorithm": "SHA256", "ExpectedBucketOwner": self._account},
                Config=TransferConfig(multipart_chunksize=max(_SMALLEST_PART, size // _MOST_PARTS)),
            )

    def change(self, owner: str, file: str, change: Callable[[bytes | None], bytes | None]) -> None:
        """Put what ``change`` makes of a small object in its place; it is given None where there is none.

        No change is lost that somebody else makes meanwhile: ``change`` is asked again then. When it gives None,
        nothing is put.
        """
        key = f"{prefix_of(owner)}{file}"
        with self._clients.calling("The object was not written"):
            while True:
                found = self._get(key)
                content = change(None if found is None else found[0])
                if content is None:
                    return
                unchanged: dict[str, Any] = {"IfNoneMatch": "*"} if found is None else {"IfMatch": found[1]}
                try:
                    self._s3.put_object(
                        Bucket=self.bucket, Key=key, Body=content, ExpectedBucketOwner=self._account, **unchanged
                    )
                    return
                except ClientError as error:
                    if not (has_changed(error) or (found is not None and is_missing(error))):
                        raise

    def read(self, owner: str, file: str) -> bytes | None:
        """What ``change`` has put there; None when it is gone."""
        with self._clients.calling("The object cannot be read"):
            found = self._get(f"{prefix_of(owner)}{file}")
        return None if found is None else found[0]

    def owners(self, prefix: str) -> list[str]:
        """Who has objects in the bucket, of those whose name begins so; nobody when there is no bucket."""
        with self._clients.calling(f"The objects in {self.bucket} cannot be listed"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=f"{_ROOT}{prefix}", Delimiter="/", ExpectedBucketOwner=self._account
            )
            try:
                folders = [folder["Prefix"] for page in pages for folder in page.get("CommonPrefixes", [])]
            except ClientError as error:
                if is_missing(error):
                    return []
                raise
        return [folder.removeprefix(_ROOT).rstrip("/") for folder in folders]

    def remove_models(self, service_id: str, keep: Collection[str]) -> None:
        """Remove the service's archives but for those whose URI is in ``keep``; a no-op when there is no bucket."""
        self._remove(service_id, f"{prefix_of(service_id)}models/", keep)

    def remove_archive(self, uri: str) -> None:
        """Remove one archive; a no-op when it is gone."""
        key = uri.removeprefix(f"s3://{self.bucket}/")
        with self._clients.calling("The model's archive was not removed"):
            self._s3.delete_object(Bucket=self.bucket, Key=key, ExpectedBucketOwner=self._account)

    def remove_all(self, service_id: str) -> None:
        """Remove every object of the service, and what uploads that were cut off have left; a no-op when none is."""
        self._remove(service_id, prefix_of(service_id), ())

    @property
    def _s3(self) -> S3Client:
        return self._clients.s3

    @property
    def _account(self) -> str:
        return self._clients.caller().account

    def _get(self, key: str) -> tuple[bytes, str] | None:
        """An object's content and what tells it from any other of that name; None when there is none."""
        try:
            found = self._s3.get_object(Bucket=self.bucket, Key=key, ExpectedBucketOwner=self._account)
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        return found["Body"].read(), found["ETag"]

    def _create(self) -> None:
        where: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": self._region}}
        if self._region == "us-east-1":  # the one region that S3 refuses to be told
            where = {}
        try:
            self._s3.create_bucket(Bucket=self.bucket, **where)
        except ClientError as error:
            if code_of(error) != "BucketAlreadyOwnedByYou":  # two deploys at once
                raise
        # the parts of an upload that was cut off cost money and show in no listing
        self._s3.put_bucket_lifecycle_configuration(
            Bucket=self.bucket,
            LifecycleConfiguration={
                "Rules": [
                    {
                        "ID": "stackkit-unfinished-uploads",
                        "Status": "Enabled",
                        "Filter": {"Prefix": ""},
                        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                    }
                ]
            },
            ExpectedBucketOwner=self._account,
        )

    def _remove(self, service_id: str, prefix: str, keep: Collection[str]) -> None:
        with self._clients.calling(f"The objects in {self.bucket} were not removed"):
            try:
                self._abort_uploads(service_id)
                keys = [key for key in self._keys(prefix) if f"s3://{self.bucket}/{key}" not in keep]
            except ClientError as error:
                if is_missing(error):
                    return
                raise
            for start in range(0, len(keys), _DELETED_AT_ONCE):
                answer = self._s3.delete_objects(
                    Bucket=self.bucket,
                    Delete={"Objects": [{"Key": key} for key in keys[start : start + _DELETED_AT_ONCE]], "Quiet": True},
                    ExpectedBucketOwner=self._account,
                )
                for failed in answer.get("Errors", []):
                    raise DeploymentError(f"{failed.get('Key')} was not removed from S3: {failed.get('Message')}")

    def _abort_uploads(self, service_id: str) -> None:
        # whoever had begun them has lost the service's lease, or is dead
        pages = self._s3.get_paginator("list_multipart_uploads").paginate(
            Bucket=self.bucket, Prefix=prefix_of(service_id), ExpectedBucketOwner=self._account
        )
        for page in pages:
            for upload in page.get("Uploads", []):
                self._s3.abort_multipart_upload(
                    Bucket=self.bucket,
                    Key=upload["Key"],
                    UploadId=upload["UploadId"],
                    ExpectedBucketOwner=self._account,
                )

    def _keys(self, prefix: str) -> Iterator[str]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix, ExpectedBucketOwner=self._account
        )
        for page in pages:
            yield from (item["Key"] for item in page.get("Contents", []))


class _Share:
    """Tells how much of so many bytes is done, whenever another percent of them is."""

    def __init__(self, what: str, size: int, progress: Progress) -> None:
        self._what, self._size, self._progress = what, size, progress
        self._done, self._told = 0, -1
        self.add(0)

    def add(self, size: int) -> None:
        self._done += size
        percent = 100 * self._done // self._size if self._size else 100
        if percent > self._told:
            self._told = percent
            self._progress(f"{self._what}: {percent} %")
