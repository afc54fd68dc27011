"""A home of each test's own, and a namespace of each module's own in which a stand-in does KServe's work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import crds
import kube
import pytest
from docker import DockerClient
from integration_fixtures import client, engine, home
from protocol_images import protocol_images
from stackkit_kserve.deployer import KServeModelDeployer
from stand_in_kserve import KNATIVE_CRD, StandInKServe

from stackkit import Client
from stackkit.stack import ComponentType

ROLE = Path(__file__).resolve().parents[3] / "docs" / "kserve-rbac.yaml"

__all__ = ["client", "engine", "home"]  # fixtures that all integrations share


@pytest.fixture(scope="session")
def images(engine: DockerClient) -> dict[str, str]:
    """Three images that speak V1 and V2: two that answer with their own name, and one that ends at once."""
    return protocol_images(engine)


@pytest.fixture(scope="session")
def model_image(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of stackkit's with a model in it that answers each row with 1."""
    return kube.model_image(engine, tmp_path_factory.mktemp("model-image"))


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kube.Namespace]:
    """A namespace of this module's own, entered with the rights of docs/kserve-rbac.yaml and no others."""
    with kube.namespace(tmp_path_factory.mktemp("kubeconfig"), roles=[ROLE]) as made:
        crds.install(made, crds.load("kserve-inferenceservices"))
        crds.install(made, KNATIVE_CRD)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KUBECONFIG", str(made.kubeconfig))
            yield made


@pytest.fixture(scope="module")
def kserve(namespace: kube.Namespace, images: dict[str, str]) -> Iterator[StandInKServe]:
    """What does KServe's work in the namespace."""
    with StandInKServe(namespace, runtimes={"sklearn": images["one"], "xgboost": images["two"]}) as running:
        yield running


@pytest.fixture
def deployer(client: Client, namespace: kube.Namespace, kserve: StandInKServe) -> Iterator[KServeModelDeployer]:
    client.register_component(ComponentType.MODEL_DEPLOYER, "kserve", "kserve", namespace.attributes)
    made = client.model_deployer("kserve")
    assert isinstance(made, KServeModelDeployer)
    yield made
    for service in list(client.servers.find(refresh=False)):
        service.delete(timeout=150)
    made._cluster.close()
