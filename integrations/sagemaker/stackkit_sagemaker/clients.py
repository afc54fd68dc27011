"""The connections to AWS: one session, and a client for each service, shared by the threads of a process."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.session import Session as BotocoreSession
from botocore.session import get_session

from .config import SageMakerModelDeployerConfig
from .errors import aws_errors, is_of_credentials

if TYPE_CHECKING:
    from mypy_boto3_application_autoscaling import ApplicationAutoScalingClient
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_ecr import ECRClient
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

_OPTIONS = Config(
    connect_timeout=5,
    read_timeout=75,  # an endpoint may take 60 seconds to answer
    retries={"mode": "standard", "total_max_attempts": 6},
    user_agent_extra="stackkit-sagemaker",
    max_pool_connections=20,
)


@dataclass(frozen=True)
class Caller:
    """Whose credentials these are.

    ``partition`` is ``aws``, ``aws-cn`` or another of AWS's separate worlds, and ``domain`` how its hosts' names end.
    """

    account: str
    partition: str
    domain: str


class Clients:
    """Made when they are first asked for. Raises nothing until then."""

    def __init__(self, config: SageMakerModelDeployerConfig) -> None:
        self._config = config
        self._lock = threading.RLock()
        self._session: boto3.Session | None = None
        self._made: dict[str, Any] = {}
        self._caller: Caller | None = None

    @property
    def sagemaker(self) -> SageMakerClient:
        client: SageMakerClient = self._client("sagemaker")
        return client

    @property
    def runtime(self) -> SageMakerRuntimeClient:
        client: SageMakerRuntimeClient = self._client("sagemaker-runtime")
        return client

    @property
    def s3(self) -> S3Client:
        client: S3Client = self._client("s3")
        return client

    @property
    def ecr(self) -> ECRClient:
        client: ECRClient = self._client("ecr")
        return client

    @property
    def logs(self) -> CloudWatchLogsClient:
        client: CloudWatchLogsClient = self._client("logs")
        return client

    @property
    def autoscaling(self) -> ApplicationAutoScalingClient:
        client: ApplicationAutoScalingClient = self._client("application-autoscaling")
        return client

    @property
    def cloudwatch(self) -> CloudWatchClient:
        client: CloudWatchClient = self._client("cloudwatch")
        return client

    @property
    def iam(self) -> IAMClient:
        client: IAMClient = self._client("iam")
        return client

    def caller(self) -> Caller:
        """Whose account this is. Asks AWS once: a session's credentials are one account's.

        Raises PlatformUnavailableError.
        """
        with self._lock:
            if self._caller is None:
                with self.calling("AWS did not say which account this is"):
                    identity = self._client("sts").get_caller_identity()
                partition = identity["Arn"].split(":")[1]
                self._caller = Caller(identity["Account"], partition, _domain(partition))
            return self._caller

    @contextmanager
    def calling(self, failed: str, secrets: Collection[str] = ()) -> Iterator[None]:
        """Tell what goes wrong with AWS in the block; see ``aws_errors``, which this raises as.

        When the credentials are no good, the next call looks for them anew: they may have been renewed meanwhile.
        """
        with aws_errors(failed, secrets):
            try:
                yield
            except (ClientError, BotoCoreError) as error:
                if is_of_credentials(error):
                    with self._lock:
                        self._session, self._made, self._caller = None, {}, None
                raise

    def _client(self, service: str) -> Any:
        # neither making a session nor making a client is safe to do in two threads at once
        with self._lock:
            if service not in self._made:
                with aws_errors("AWS cannot be asked"):
                    if self._session is None:
                        self._session = _session(self._config)
                    self._made[service] = self._session.client(
                        service,  # type: ignore[call-overload]
                        config=_OPTIONS,
                        endpoint_url=self._config.endpoint_url,
                    )
            return self._made[service]


def _domain(partition: str) -> str:
    known = get_session().get_data("partitions")["partitions"]
    return next((str(each["outputs"]["dnsSuffix"]) for each in known if each["id"] == partition), "amazonaws.com")


def _session(config: SageMakerModelDeployerConfig) -> boto3.Session:
    own = boto3.Session(profile_name=config.profile, region_name=config.region)
    if config.assume_role_arn is None:
        return own
    if own.get_credentials() is None:
        raise NoCredentialsError
    sts = own.client("sts", config=_OPTIONS, endpoint_url=config.endpoint_url)
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=lambda *args, **options: sts,
        source_credentials=own.get_credentials(),
        role_arn=config.assume_role_arn,
        extra_args={"RoleSessionName": "stackkit"},
    )
    taken_on: BotocoreSession = get_session()
    # they expire after an hour; these renew themselves before that
    taken_on._credentials = DeferredRefreshableCredentials(  # type: ignore[attr-defined]
        method="assume-role", refresh_using=fetcher.fetch_credentials
    )
    return boto3.Session(botocore_session=taken_on, region_name=config.region)
