"""What a deployer and a service are told, and what of it is refused, in words that name the field."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from kubernetes_parts import configuration

from stackkit.cli.attributes import typed
from stackkit.errors import InvalidConfigError
from stackkit.stack.configs import parse


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "give a model_uri or an image"),
        ({"image": "a b"}, "image"),
        ({"model_uri": "pvc://Store/iris", "image": "i"}, "names no claim"),
        ({"model_uri": "pvc://store/iris"}, "give the image that is to serve it"),
        ({"image": "i", "replicas": 0}, "replicas"),
        ({"image": "i", "min_replicas": 2}, "need max_replicas"),
        ({"image": "i", "max_replicas": 2}, "requests.cpu"),
        ({"image": "i", "max_replicas": 2, "replicas": 3, "requests": {"cpu": "1"}}, "either replicas"),
        ({"image": "i", "max_replicas": 2, "min_replicas": 3, "requests": {"cpu": "1"}}, "more than max_replicas"),
        ({"image": "i", "limits": {"memory": "lots"}}, "no quantity"),
        ({"image": "i", "limits": {"memory": "512 Mi"}}, "no quantity"),
        ({"image": "i", "env": {"A B": "x"}}, "cannot name an environment variable"),
        ({"image": "i", "env": {"A": "{{vault.token}}"}}, "put it in secrets"),
        ({"image": "i", "env": {"A": "x"}, "secrets": {"A": "y"}}, "both in env and in secrets"),
        ({"image": "i", "labels": {"stackkit/service": "x"}}, "stackkit's own"),
        ({"image": "i", "labels": {"app.kubernetes.io/managed-by": "me"}}, "stackkit's own"),
        ({"image": "i", "labels": {"team": "a b"}}, "the label 'team' cannot be"),
        ({"image": "i", "annotations": {"a//b": "x"}}, "is no key"),
        ({"image": "i", "service_account": "Reader"}, "lower case"),
        ({"image": "i", "ingress": {"host": "a/b"}}, "no host name"),
        ({"image": "i", "disruption_budget": {}}, "either min_available or max_unavailable"),
        ({"image": "i", "disruption_budget": {"min_available": "most"}}, "neither a number"),
        ({"image": "i", "tolerations": [{"value": "x"}]}, "goes with the operator Equal"),
        ({"image": "i", "tolerations": [{"key": "x", "toleration_seconds": 1}]}, "NoExecute"),
        ({"image": "i", "run_as_user": 0}, "run_as_user"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused_by_name(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidConfigError) as raised:
        configuration(**fields)
    assert told in str(raised.value)


def test_a_limit_of_processors_is_a_request_too() -> None:
    assert configuration(image="i", max_replicas=2, limits={"cpu": "1"}).max_replicas == 2


def test_what_the_command_line_gives_is_read() -> None:
    from stackkit_kubernetes.config import KubernetesServiceConfig

    texts = {
        "image": "iris:1",
        "requests.cpu": "2",
        "limits.memory": "1Gi",
        "gpus": "1",
        "labels.example.com/team": "flowers",
        "disruption_budget.min_available": "1",
        "secrets.TOKEN": "{{vault.token}}",
        "tolerations": '[{"key": "gpu"}]',
    }
    read = parse(KubernetesServiceConfig, {"model_name": "iris", **typed(KubernetesServiceConfig, texts)}, "a service")
    assert (read.requests.cpu, read.limits.memory, read.gpus) == ("2", "1Gi", 1)
    assert read.labels == {"example.com/team": "flowers"}
    assert read.disruption_budget is not None
    assert read.disruption_budget.min_available == 1
    assert read.tolerations[0].operator == "Exists"
    assert "vault" not in repr(read.secrets)


def test_describing_the_flavor_needs_no_kubernetes_client() -> None:
    program = "import sys, stackkit_kubernetes.flavor; print('kubernetes' in sys.modules, 'docker' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "False"]
