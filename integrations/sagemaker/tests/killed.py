"""Processes that operate on services and are killed at a chosen point. Run as a process of its own.

It reads a line of JSON for each operation, forks a child for it, and prints whether the child was killed. The child
has everything imported already, so that a hundred of them cost little.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore.loaders import create_loader
from stackkit_sagemaker import deployer as _deployer  # noqa: F401
from stackkit_sagemaker import registry

from stackkit import Client
from stackkit.environments.images import BuiltImage
from stackkit.environments.models import ResolvedModel
from stackkit.errors import StackkitError
from stackkit.model_deployers.leases import Lease
from stackkit.settings import Settings


class Points:
    """Where a process can be killed: before and after each call of AWS and each write to the row.

    At the point ``at``, counted from 1, it sends itself SIGKILL.
    """

    def __init__(self, at: int) -> None:
        self._left = at
        client, write = boto3.Session.client, Lease.write

        def watched(*given: Any, **options: Any) -> Any:
            found = client(*given, **options)
            found.meta.events.register("before-call", self.reach)
            found.meta.events.register("after-call", self.reach)
            return found

        def written(*given: Any) -> None:
            self.reach()
            write(*given)
            self.reach()

        boto3.Session.client = watched  # type: ignore[method-assign]
        Lease.write = written  # type: ignore[method-assign]

    def reach(self, **given: Any) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def push(model: ResolvedModel, *, tag: str, **options: Any) -> BuiltImage:
    """In place of building and pushing an image, since moto's ECR takes no layers: a manifest with its tag."""
    address, _, name = tag.rpartition(":")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"digest": f"sha256:{hashlib.sha256(tag.encode()).hexdigest()}"},
        "layers": [],
    }
    session = boto3.Session(region_name="us-east-1")
    ecr = session.client("ecr", endpoint_url=os.environ["STACKKIT_TEST_MOTO_URL"])
    ecr.put_image(repositoryName=address.partition("/")[2], imageManifest=json.dumps(manifest), imageTag=name)
    return BuiltImage("sha256:1", tag, "sha256:2")


def operate(home: str, verb: str, name: str, fields: dict[str, Any], at: int) -> None:
    """What a child does. What is refused is part of it."""
    registry.images.build = push  # type: ignore[assignment]
    deployer = Client(Settings(Path(home), f"sqlite:///{home}/stackkit.db")).model_deployer("aws")
    Points(at)
    try:
        if verb == "deploy":
            deployer.deploy_model(model_name=name, replace=True, timeout=60, **fields)
        elif verb == "canary":
            percent = fields.pop("percent")
            deployer.update_model_server(name, canary=percent, timeout=60, **fields)
        elif verb == "list":
            list(deployer.find_model_server())
        elif verb == "transform":
            where = {"input_uri": f"s3://data/{name}", "output_uri": "s3://data/answers"}
            deployer.transforms.run(timeout=60, **where, **fields)
        elif verb == "end":
            for job in deployer.transforms.list():
                deployer.transforms.stop(job.name, timeout=60)
        else:
            getattr(deployer, f"{verb}_model_server")(name, timeout=60)
    except StackkitError:
        pass


def main() -> None:
    loader = create_loader()
    for service in (
        "application-autoscaling",
        "cloudwatch",
        "iam",
        "sagemaker",
        "sagemaker-runtime",
        "s3",
        "sts",
    ):  # to have read what botocore reads for them
        loader.load_service_model(service, "service-2")
    botocore.session.create_loader = lambda *given: loader
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            operate(**json.loads(line))
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print("killed" if killed else f"ended {status}", flush=True)


if __name__ == "__main__":
    main()
