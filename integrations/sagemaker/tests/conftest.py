"""AWS on this machine, a client on an empty database, a deployer, and models; and what the deployer calls."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.loaders import Loader, create_loader
from stackkit_sagemaker import registry
from stackkit_sagemaker.clients import Clients

from stackkit import Client
from stackkit.environments.images import BuiltImage
from stackkit.environments.models import ResolvedModel
from stackkit.errors import ImageError
from stackkit.model_deployers import BaseModelDeployer, Service
from stackkit.settings import Settings
from stackkit.stack import ComponentType

REGION = "us-east-1"
ROLE = "arn:aws:iam::123456789012:role/serving"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving:1"
MODEL = "def predict(data):\n    return [{answer} for row in data]\n"


class Aws:
    """AWS as extended_moto.py plays it; see there."""

    def __init__(self, url: str) -> None:
        self.url = url

    def client(self, service: str) -> Any:
        return boto3.client(service, region_name=REGION, endpoint_url=self.url)  # type: ignore[call-overload]

    def reset(self) -> None:
        """Empty the account, but for the role that containers run with."""
        self._send("POST", "/moto-api/reset", {})
        self.behave(ticks=1, faults={})
        self.make_role("serving", "sagemaker.amazonaws.com")

    def make_role(self, name: str, trusted: str) -> None:
        """Make a role that a service of AWS may take on."""
        trust = {"Effect": "Allow", "Principal": {"Service": trusted}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        self.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)

    def make_alarm(self, name: str) -> None:
        """Make an alarm that a rollout can heed."""
        self.client("cloudwatch").put_metric_alarm(
            AlarmName=name,
            Namespace="Ours",
            MetricName="Errors",
            Statistic="Sum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanThreshold",
        )

    def behave(self, **settings: Any) -> None:
        """Change how it behaves: ``ticks``, and ``faults`` by operation as ``{"code": …, "times": …}``."""
        self._send("PUT", "/extended", settings)

    def answer_later(self, *results: dict[str, Any]) -> None:
        """What asynchronous endpoints will answer, one after the other."""
        self._send("POST", "/moto-api/static/sagemaker/async-endpoint-results", {"results": list(results)})

    def names(self) -> dict[str, list[str]]:
        """The names of all that is there, by kind; a bucket or repository counts by what is in it."""
        sagemaker, s3 = self.client("sagemaker"), self.client("s3")
        buckets = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
        pages = [s3.list_objects_v2(Bucket=name) for name in buckets]
        ecr = self.client("ecr")
        repositories = [each["repositoryName"] for each in ecr.describe_repositories()["repositories"]]
        images = [image for name in repositories for image in ecr.list_images(repositoryName=name)["imageIds"]]
        scaling, sagemakers = self.client("application-autoscaling"), {"ServiceNamespace": "sagemaker"}
        uploads = [s3.list_multipart_uploads(Bucket=name) for name in buckets]
        found = {
            "endpoints": [each["EndpointName"] for each in sagemaker.list_endpoints()["Endpoints"]],
            "configs": [each["EndpointConfigName"] for each in sagemaker.list_endpoint_configs()["EndpointConfigs"]],
            "models": [each["ModelName"] for each in sagemaker.list_models()["Models"]],
            "images": [image["imageTag"] for image in images],
            "scaling": [
                each["ResourceId"] for each in scaling.describe_scalable_targets(**sagemakers)["ScalableTargets"]
            ],
            "policies": [
                f"{each['PolicyName']} {each['ResourceId']}"
                for each in scaling.describe_scaling_policies(**sagemakers)["ScalingPolicies"]
            ],
            "alarms": [
                each["AlarmName"]
                for each in self.client("cloudwatch").describe_alarms()["MetricAlarms"]
                if each["AlarmName"].startswith("stackkit-")  # the others are Application Auto Scaling's own
            ],
            "objects": [item["Key"] for page in pages for item in page.get("Contents", [])],
            "uploads": [item["Key"] for page in uploads for item in page.get("Uploads", [])],
        }
        return {kind: sorted(names) for kind, names in found.items() if names}

    def _send(self, method: str, path: str, body: Any) -> None:
        data = json.dumps(body).encode()
        with urlopen(Request(f"{self.url}{path}", data, {"Content-Type": "application/json"}, method=method)):
            pass


@pytest.fixture(scope="session")
def server() -> Iterator[Aws]:
    script = Path(__file__).with_name("extended_moto.py")
    process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    with process:
        yield Aws(process.stdout.readline().strip())
        process.stdin.close()


@pytest.fixture(scope="session")
def loader() -> Loader:
    """What botocore has read of its descriptions of AWS: they are large, and each session reads them anew."""
    return create_loader()


@pytest.fixture
def aws(server: Aws, loader: Loader, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """An empty account, with credentials for it in the environment."""
    monkeypatch.setattr("botocore.session.create_loader", lambda *given: loader)
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server.reset()
    return server


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client on an empty SQLite file in a home of this test's own."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("STACKKIT_HOME", str(home))
    monkeypatch.delenv("STACKKIT_DATABASE_URL", raising=False)
    client = Client(Settings(home, f"sqlite:///{home / 'stackkit.db'}"))
    yield client
    client.database.close()


@pytest.fixture
def attributes(aws: Aws) -> dict[str, Any]:
    """What a deployer is registered with."""
    return {"region": REGION, "execution_role_arn": ROLE, "endpoint_url": aws.url}


@pytest.fixture
def deployer(client: Client, attributes: dict[str, Any]) -> BaseModelDeployer:
    client.register_component(ComponentType.MODEL_DEPLOYER, "aws", "sagemaker", attributes)
    return client.model_deployer("aws")


@pytest.fixture
def models(tmp_path: Path) -> dict[str, str]:
    """The URIs of two models by name."""
    for name, answer in (("one", 1), ("two", 2)):
        (tmp_path / f"{name}.py").write_text(MODEL.format(answer=answer), encoding="utf-8")
    return {name: f"{tmp_path}/{name}.py:predict" for name in ("one", "two")}


@pytest.fixture
def deploy(deployer: BaseModelDeployer, models: dict[str, str]) -> Callable[..., Service]:
    """Deploys the first model, or what is given."""

    def deploy(deployer: BaseModelDeployer = deployer, **fields: Any) -> Service:
        values = {"model_name": "iris", "model_uri": models["one"], "image": IMAGE, "timeout": 30, **fields}
        return deployer.deploy_model(**values)

    return deploy


PAGE = Path(__file__).parents[3] / "docs" / "sagemaker.md"

S3_ACTIONS = {
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "HeadObject": "s3:GetObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "DeleteObjects": "s3:DeleteObject",
    "PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
}
"""What an operation of S3 needs, where that is called otherwise: docs.aws.amazon.com/service-authorization."""

SERVICES = {"monitoring": "cloudwatch"}
"""What a service is called in policies that signs its requests by another name."""

WITHOUT_PERMISSION = {"sts:GetCallerIdentity"}
"""What everybody may do."""


@dataclass(frozen=True)
class Call:
    """A call that the deployer made: the action in a policy that allows it, and with what parameters."""

    action: str
    params: dict[str, Any]


@pytest.fixture(scope="session")
def policy() -> list[dict[str, Any]]:
    """The statements of the policy in the documentation."""
    (policy,) = re.findall(r"```json\n(\{\n  \"Version\".*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    statements: list[dict[str, Any]] = json.loads(policy)["Statement"]
    return statements


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch, policy: list[dict[str, Any]]) -> Iterator[list[Call]]:
    """The calls that deployers make; each must be allowed by the policy in the documentation, in every test."""
    calls: list[Call] = []
    make = Clients._client

    def note(params: dict[str, Any], model: Any, **given: Any) -> None:
        service = SERVICES.get(model.service_model.signing_name, model.service_model.signing_name)
        action = S3_ACTIONS.get(model.name, f"s3:{model.name}") if service == "s3" else f"{service}:{model.name}"
        if action not in WITHOUT_PERMISSION:
            calls.append(Call(action, dict(params)))

    def listened_to(clients: Clients, service: str) -> Any:
        is_new = service not in clients._made
        found = make(clients, service)
        if is_new:
            found.meta.events.register("before-parameter-build", note)
        return found

    monkeypatch.setattr(Clients, "_client", listened_to)
    yield calls
    allowed = {action for statement in policy for action in statement["Action"]}
    assert {call.action for call in calls} <= allowed


class Engine:
    """In place of a Docker Engine, since moto's ECR takes no layers: what was built, and a manifest in ECR for it."""

    def __init__(self, aws: Any) -> None:
        self._ecr = aws.client("ecr")
        self.built: list[dict[str, Any]] = []
        self.broken = False

    def build(self, model: ResolvedModel, *, tag: str, push: bool, **options: Any) -> BuiltImage:
        if self.broken:
            raise ImageError("The image was not built: no matching distribution.", "Check the requirements.")
        self.built.append({"model": model, "tag": tag, **options})
        assert push
        assert options["credentials"]["username"] == "AWS"
        repository, _, name = tag.removeprefix(IMAGE.partition("/")[0] + "/").partition(":")
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"digest": f"sha256:{len(self.built):064}"},
            "layers": [],
        }
        self._ecr.put_image(repositoryName=repository, imageManifest=json.dumps(manifest), imageTag=name)
        return BuiltImage("sha256:1", tag, "sha256:2")


@pytest.fixture
def engine(aws: Any, monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine(aws)
    monkeypatch.setattr(registry.images, "build", engine.build)
    return engine
