"""Services as containers on this machine's Docker Engine, under the contract that SageMaker has with its containers.

What is run is what CreateModel would be asked for: the same image, started with ``serve`` as its own user, the same
environment, the model's files in ``/opt/ml/model``, answering ``/ping`` and ``/invocations`` on port 8080
(docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html).
"""

from __future__ import annotations

import socket
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import IO, Any

import requests
from docker import DockerClient
from docker.errors import APIError

from stackkit.environments.files import list_files
from stackkit.environments.images import connect, log_lines, model_image
from stackkit.environments.images.engine import reaching, words
from stackkit.errors import (
    DeploymentError,
    ImageError,
    ModelError,
    NotSupportedError,
    PlatformUnavailableError,
    PredictionError,
    StackkitError,
)
from stackkit.local.probes import answers
from stackkit.model_deployers import FoundServer, Observation, Operation, PlatformIdentity, Service, ServiceState
from stackkit.serving.container import MODEL_FOLDER

from . import definitions
from .archive import archive
from .config import SageMakerModelDeployerConfig, SageMakerServiceConfig
from .local_containers import Container, create, ended_words, find, found_server, remove
from .names import endpoint_name
from .predictions import decoded, encode, said_by_server
from .sources import resolved

_TRIES = 20
_MOST_PROBES = 16
_ANSWER_SECONDS = 60  # how long SageMaker waits for an answer


class LocalHosting:
    """A container for each service. There is no rollout, no canary and no scaling: an update makes it anew."""

    def __init__(self, config: SageMakerModelDeployerConfig) -> None:
        self._config = config

    def identify(self) -> PlatformIdentity:
        with _engine(PlatformUnavailableError) as engine:
            info = engine.api.info()
        return PlatformIdentity(f"sagemaker-local:{info['ID']}", f"the Docker Engine on {info['Name']}")

    def check_config(self, config: SageMakerServiceConfig) -> None:
        """Nothing: what kind of endpoint it would be makes no other container."""

    def can_update(self, before: SageMakerServiceConfig, after: SageMakerServiceConfig) -> bool:
        return False

    def prepare(self, operation: Operation, config: SageMakerServiceConfig) -> None:
        """Have the image on the engine: the one that is given, or one built of the model."""
        service = operation.service
        with _engine() as engine:
            if config.image is not None:
                _fetch(engine, config.image, operation)
                operation.checkpoint(image=config.image)
                return
            model = resolved(service.source)
            tag = model_image.tag_of(model, self._config.base_image, None)
            # noted before it is there: what is being built when this process is killed has its name already
            operation.checkpoint(image=tag, images=sorted({*service.status.details.get("images", ()), tag}))
            model_image.provide(
                engine,
                model,
                tag,
                base_image=self._config.base_image,
                registry=None,
                progress=operation.progress,
            )

    def start(self, operation: Operation, config: SageMakerServiceConfig) -> None:
        service = operation.service
        with _engine() as engine:
            for container in find(engine, service.id):
                if container.is_alive and container.revision == service.revision:
                    return
                if container.is_alive:
                    raise DeploymentError(
                        f"Revision {container.revision} of {service.name!r} still runs.", "Stop it first."
                    )
                remove(engine, container.id)
            self._run(engine, operation, config)

    def update(self, operation: Operation, config: SageMakerServiceConfig) -> None:
        raise _in_aws_alone("updates without a gap")

    def check_split(self, service: Service, config: SageMakerServiceConfig, percent: int) -> None:
        raise _in_aws_alone("canaries")

    def split(self, operation: Operation, config: SageMakerServiceConfig, percent: int) -> None:
        raise _in_aws_alone("canaries")

    def complete(self, operation: Operation, config: SageMakerServiceConfig) -> None:
        """Nothing: there is no autoscaling here."""

    def check(self, services: Sequence[Service]) -> Mapping[str, Observation]:
        if not services:
            return {}
        with _engine(PlatformUnavailableError) as engine:
            containers = {each.service_id: each for each in find(engine)}
            present = [service for service in services if service.id in containers]
            with ThreadPoolExecutor(min(_MOST_PROBES, len(present) or 1)) as pool:
                seen = pool.map(lambda service: _observe(engine, service, containers[service.id]), present)
                return dict(zip([service.id for service in present], seen, strict=True))

    def find(self) -> Sequence[FoundServer]:
        with _engine(PlatformUnavailableError) as engine:
            return [found_server(each) for each in find(engine) if each.is_alive]

    def stop(self, operation: Operation) -> None:
        with _engine() as engine:
            for container in find(engine, operation.service.id):
                remove(engine, container.id)

    def delete(self, operation: Operation) -> None:
        with _engine() as engine:
            for tag in operation.service.status.details.get("images", ()):
                model_image.discard(engine, tag)

    def logs(self, service: Service, *, follow: bool, tail: int | None) -> Iterator[str]:
        with _engine() as engine:
            for container in find(engine, service.id):
                yield from log_lines(engine, container.id, follow=follow, tail=tail)

    def predict(self, service: Service, data: Any, params: Mapping[str, Any] | None) -> Any:
        body, content_type = encode(data, params)
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        with requests.Session() as session:
            session.trust_env = False  # a proxy has no way to this machine's own servers
            try:
                answer = session.post(str(service.prediction_url), body, headers=headers, timeout=_ANSWER_SECONDS)
            except requests.RequestException as error:
                raise PredictionError(
                    f"The service {service.name!r} cannot be reached: {type(error).__name__}.",
                    f"See how it is: stackkit model-deployer models describe {service.id[:8]}.",
                ) from error
        if not answer.ok:
            raise PredictionError(
                f"The service {service.name!r} answered {answer.status_code}: {said_by_server(answer.text)}"
            )
        return decoded(answer.content)

    def info(self, service: Service) -> Mapping[str, str]:
        image = service.status.details.get("image")
        return {"CONTAINER": endpoint_name(service.id), **({"CONTAINER_IMAGE": image} if image else {})}

    def _run(self, engine: DockerClient, operation: Operation, config: SageMakerServiceConfig) -> None:
        """Make and start the container, on the port that it had before, or on one that is free."""
        service, image = operation.service, operation.service.status.details["image"]
        given = config.image is not None
        uri = f"file://{MODEL_FOLDER}" if given else None
        body = definitions.model(endpoint_name(service.id), service, self._config, config, image=image, archive=uri)
        port = service.status.details.get("port")
        with _model_files(service) if given else nullcontext() as files:
            for _ in range(_TRIES):
                operation.checkpoint(port=port or _free_port())
                if create(
                    engine,
                    service,
                    body["PrimaryContainer"],
                    files=files,
                    port=operation.service.status.details["port"],
                    memory_mb=None if config.serverless is None else config.serverless.memory_mb,
                ):
                    return
                port = None
        raise DeploymentError("No port of this machine could be had for the container.", "Free some, and start it.")


def _observe(engine: DockerClient, service: Service, container: Container) -> Observation:
    if container.state == "created":
        return Observation(ServiceState.INACTIVE, "Its container was never started.")
    if not container.is_alive:
        return Observation(ServiceState.ERROR, ended_words(engine, container), revision=container.revision)
    url = f"http://127.0.0.1:{container.port}"
    said = answers(url) if container.port else None
    if said is not None and said.ready:
        return Observation(ServiceState.ACTIVE, prediction_url=f"{url}/invocations", revision=container.revision)
    waits = "its port is being opened" if said is None else f"{url}/ping: {said.message}"
    return Observation(ServiceState.PENDING_STARTUP, waits, revision=container.revision)


def _fetch(engine: DockerClient, image: str, operation: Operation) -> None:
    try:
        model_image.identify(engine, image, None, operation.progress)
    except ImageError as error:
        raise ImageError(
            error.message,
            f"Log in and fetch it: aws ecr get-login-password | docker login --username AWS --password-stdin "
            f"{image.partition('/')[0]}; docker pull {image}",
        ) from error


@contextmanager
def _model_files(service: Service) -> Iterator[IO[bytes]]:
    """The model's archive as SageMaker unpacks it, as a tar archive of the container's root."""
    path, _ = definitions.split_reference(service.source)
    if not path.exists():
        raise ModelError(
            f"The bytes of {service.source.uri} are not on this machine.",
            "Deploy the model again from where it came from: stackkit model-deployer models deploy.",
        )
    with tempfile.TemporaryFile() as moved:
        with (
            archive(list_files(path)) as packed,
            tarfile.open(fileobj=packed, mode="r|gz") as given,
            tarfile.open(fileobj=moved, mode="w|") as target,
        ):
            for member in given:
                member.name = f"{MODEL_FOLDER.lstrip('/')}/{member.name}"
                target.addfile(member, given.extractfile(member))
        yield moved


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _in_aws_alone(what: str) -> NotSupportedError:
    return NotSupportedError(
        f"A deployer that is local has no {what}: there is one container on this machine.",
        "Use a deployer in AWS: stackkit model-deployer register NAME --flavor=sagemaker --region=….",
    )


@contextmanager
def _engine(refusal: type[StackkitError] = DeploymentError) -> Iterator[DockerClient]:
    engine = connect()
    try:
        yield engine
    except APIError as error:
        raise refusal(f"The Docker Engine refuses: {words(error)}") from error
    except requests.RequestException:
        with reaching(None):
            raise
    finally:
        engine.close()
