"""A home of each test's own, a namespace of each module's own, and small images to serve from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import kube
import pytest
from api_standin import Standin, write_kubeconfig
from docker import DockerClient
from integration_fixtures import client, engine, home
from stackkit_kubernetes.cluster import Cluster, ClusterConfig
from stackkit_kubernetes.cluster.connection import Connection

__all__ = ["client", "engine", "home"]  # fixtures that all integrations share


@pytest.fixture(scope="session")
def images(engine: DockerClient) -> dict[str, str]:
    """The names of three images: two that answer with their own name, and one that ends at once."""
    return kube.server_images(engine)


@pytest.fixture(scope="session")
def model_image(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image with a model in it that answers each row with 1."""
    return kube.model_image(engine, tmp_path_factory.mktemp("model-image"))


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kube.Namespace]:
    """A namespace of this module's own, entered with the rights of docs/kubernetes-rbac.yaml."""
    with kube.namespace(tmp_path_factory.mktemp("kubeconfig")) as made, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(made.kubeconfig))
        yield made


@pytest.fixture
def cluster(namespace: kube.Namespace) -> Iterator[Cluster]:
    """The namespace's cluster, with the Role's rights."""
    opened = Cluster.connect(namespace.config)
    yield opened
    opened.close()


@pytest.fixture
def standin() -> Iterator[Standin]:
    """An API server that answers what the test says."""
    made = Standin()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def connection(standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    """A connection to ``standin``."""
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, standin.url)))
    opened = Connection(ClusterConfig())
    yield opened
    opened.close()
