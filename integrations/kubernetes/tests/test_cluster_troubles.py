"""Why pods do not come up, as a cluster records it and as a real one says it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kube
import pytest
from stackkit_kubernetes.cluster import Cluster, KubernetesObject, Trouble, why

real = pytest.mark.kubernetes

WAITING = {"type": "Ready", "status": "False", "reason": "ContainersNotReady"}


def pod(*statuses: dict[str, Any], conditions: list[dict[str, Any]] | None = None, **status: Any) -> KubernetesObject:
    return {
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"nodeName": "node-1", "containers": [{"name": "server", "resources": {"limits": {"memory": "64Mi"}}}]},
        "status": {"containerStatuses": list(statuses), "conditions": conditions or [WAITING], **status},
    }


def container(state: dict[str, Any], *, restarts: int = 0, last: dict[str, Any] | None = None) -> dict[str, Any]:
    told = {"name": "server", "image": "registry.example/iris:1", "ready": False, "restartCount": restarts}
    return {**told, "state": state, "lastState": {"terminated": last} if last else {}}


def event(reason: str, message: str) -> KubernetesObject:
    return {"reason": reason, "message": message, "involvedObject": {"uid": "u"}}


def deployment(**conditions: dict[str, str]) -> KubernetesObject:
    return {"status": {"conditions": [{"type": kind, **told} for kind, told in conditions.items()]}}


def told(
    deployed: KubernetesObject | None = None, *pods: KubernetesObject, events: tuple[KubernetesObject, ...] = ()
) -> Trouble | None:
    return why(deployed, pods, events, log_tail=lambda *_: ["Traceback:", "", "  line 1", "ValueError: it is no model"])


def back_off(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


CRASHED = {"exitCode": 1, "reason": "Error"}
KILLED = {"exitCode": 137, "reason": "OOMKilled"}
QUOTA = 'pods "p" is forbidden: exceeded quota: small, requested: {}, used: {}, limited: {}'


@pytest.mark.parametrize(
    ("trouble", "message", "is_final"),
    [
        pytest.param(
            lambda: told(
                None,
                pod(container(back_off("ImagePullBackOff", "Back-off pulling image"))),
                events=(event("Failed", 'Failed to pull image "x": manifest unknown'), event("Failed", "Error: x")),
            ),
            'The image registry.example/iris:1 cannot be pulled (ImagePullBackOff): Failed to pull image "x": '
            "manifest unknown.",
            True,
            id="no such image",
        ),
        pytest.param(
            lambda: told(None, pod(container(back_off("ErrImagePull", "dial tcp: i/o timeout")))),
            "The image registry.example/iris:1 cannot be pulled (ErrImagePull): dial tcp: i/o timeout.",
            False,
            id="the registry does not answer",
        ),
        pytest.param(
            lambda: told(None, pod(container(back_off("ErrImageNeverPull", "not present, policy of Never")))),
            "The image registry.example/iris:1 cannot be pulled (ErrImageNeverPull): not present, policy of Never.",
            True,
            id="never pulled",
        ),
        pytest.param(
            lambda: told(None, pod(container(back_off("CrashLoopBackOff"), restarts=3, last=CRASHED))),
            "The container server of the pod p ended with exit code 1, 3 times over: Traceback: | line 1 | "
            "ValueError: it is no model.",
            True,
            id="crash loop",
        ),
        pytest.param(
            lambda: told(None, pod(container({"running": {}}, restarts=2, last=CRASHED))),
            "The container server of the pod p ended with exit code 1, 2 times over: Traceback: | line 1 | "
            "ValueError: it is no model.",
            False,
            id="started again",
        ),
        pytest.param(
            lambda: told(None, pod(container({"terminated": KILLED}, restarts=2))),
            "The container server of the pod p was killed because it needed more memory than the 64Mi that it may "
            "have, 2 times over: Traceback: | line 1 | ValueError: it is no model.",
            True,
            id="out of memory",
        ),
        pytest.param(
            lambda: told(
                None,
                pod(container({"running": {}}, restarts=1, last={"exitCode": 137, "reason": "Error"})),
                events=(event("Killing", "Container server failed liveness probe, will be restarted"),),
            ),
            "The container server of the pod p was ended because its liveness probe failed: Traceback: | line 1 | "
            "ValueError: it is no model.",
            False,
            id="liveness probe",
        ),
        pytest.param(
            lambda: told(None, pod(container(back_off("CreateContainerConfigError", 'secret "s" not found')))),
            'The container server of the pod p cannot be made: secret "s" not found.',
            True,
            id="no such secret",
        ),
        pytest.param(
            lambda: told(
                None,
                pod(
                    container(
                        back_off(
                            "CreateContainerConfigError",
                            "failed to sync secret cache: timed out waiting for the condition",
                        )
                    )
                ),
            ),
            "The container server of the pod p cannot be made: "
            "failed to sync secret cache: timed out waiting for the condition.",
            False,
            id="a secret that the node has not read yet",
        ),
        pytest.param(
            lambda: told(
                None,
                pod(
                    conditions=[
                        {
                            "type": "PodScheduled",
                            "status": "False",
                            "reason": "Unschedulable",
                            "message": "0/3 nodes are available: 3 Insufficient cpu.",
                        }
                    ]
                ),
            ),
            "No node takes the pod p: 0/3 nodes are available: 3 Insufficient cpu.",
            False,
            id="unschedulable",
        ),
        pytest.param(
            lambda: told(
                None,
                pod(container({"running": {}})),
                events=(event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),),
            ),
            "The pod p is not healthy: Readiness probe failed: HTTP probe failed with statuscode: 503.",
            False,
            id="probe",
        ),
        pytest.param(
            lambda: told(
                None,
                pod(
                    {**container({"running": {}}), "ready": True},
                    conditions=[{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}],
                ),
            ),
            "The pod p is not ready: nothing has been heard of node-1 lately.",
            False,
            id="silent node",
        ),
        pytest.param(
            lambda: told(
                None,
                pod(container(back_off("ContainerCreating"))),
                events=(event("FailedMount", 'persistentvolumeclaim "models" not found'),),
            ),
            'The pod p cannot be made ready (FailedMount): persistentvolumeclaim "models" not found.',
            False,
            id="no such volume",
        ),
        pytest.param(
            lambda: told(None, pod(phase="Failed", reason="Evicted", message="The node was low on memory.")),
            "The pod p was ended (Evicted): The node was low on memory.",
            False,
            id="evicted",
        ),
        pytest.param(
            lambda: told(
                deployment(
                    ReplicaFailure={"status": "True", "message": QUOTA.format("pods=1", "pods=0", "pods=0")},
                )
            ),
            "The cluster refuses the pods: " + QUOTA.format("pods=1", "pods=0", "pods=0") + ".",
            True,
            id="quota of zero",
        ),
        pytest.param(
            lambda: told(
                deployment(
                    ReplicaFailure={"status": "True", "message": QUOTA.format("cpu=500m", "cpu=2", "cpu=2,pods=9")},
                )
            ),
            "The cluster refuses the pods: " + QUOTA.format("cpu=500m", "cpu=2", "cpu=2,pods=9") + ".",
            False,
            id="quota in use",
        ),
        pytest.param(
            lambda: told(deployment(ReplicaFailure={"status": "True", "message": 'pods "p" is forbidden: no'})),
            'The cluster refuses the pods: pods "p" is forbidden: no.',
            True,
            id="forbidden",
        ),
        pytest.param(
            lambda: told(
                deployment(
                    Progressing={"status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
                ),
                pod(container(back_off("ErrImagePull", "i/o timeout"))),
            ),
            "The cluster has given the rollout up: timed out.",
            True,
            id="what is final goes first",
        ),
    ],
)
def test_it_is_told_in_a_line(trouble: Callable[[], Trouble | None], message: str, is_final: bool) -> None:
    assert trouble() == Trouble(message, is_final)


@pytest.mark.parametrize(
    "said",
    [
        'Head "http://127.0.0.1:5000/v2/iris/manifests/1": no basic auth credentials',
        'Head "https://registry.example/v2/iris/manifests/1": http: server gave HTTP response to HTTPS client',
        "failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized",
        "Error response from daemon: pull access denied for iris, repository does not exist",
    ],
    ids=["no password", "no TLS", "another password", "no right"],
)
def test_a_registry_that_gives_nothing_away_is_not_waited_for(said: str) -> None:
    trouble = told(None, pod(container(back_off("ErrImagePull", f"rpc error: {said}"))))
    assert trouble is not None and trouble.is_final
    assert said in trouble.message


def test_nothing_is_wrong_with_what_is_ready_or_still_coming() -> None:
    ready = pod({**container({"running": {}}, restarts=2, last=CRASHED), "ready": True})
    ready["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    going = pod(container({"terminated": CRASHED}))
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert (
        told(deployment(Progressing={"status": "True"}), ready, going, pod(container(back_off("PodInitializing"))))
        is None
    )
    assert told(None, {"metadata": {"name": "new", "uid": "n"}, "spec": {"containers": []}}) is None
    assert told(deployment(Available={"status": "False"})) is None


def test_events_of_others_do_not_count() -> None:
    other = {**event("Unhealthy", "it fails"), "involvedObject": {"uid": "another"}}
    assert told(None, pod(container({"running": {}})), events=(other,)) is None


def test_an_event_need_not_say_anything() -> None:
    bare: KubernetesObject = {"involvedObject": {"uid": "u"}}
    crashed = pod(container({"terminated": CRASHED}))
    assert told(None, pod(container({"running": {}})), events=(bare, {**bare, "reason": "Unhealthy"})) == Trouble(
        "The pod p is not healthy: no more is told.", is_final=False
    )
    assert told(None, crashed, pod(container(back_off("ErrImagePull"))), events=(bare,)) is not None


def test_a_long_story_is_cut() -> None:
    trouble = told(None, pod(container(back_off("ErrImagePull", "no\n " * 1000))))
    assert trouble is not None and len(trouble.message) == 600 and "\n" not in trouble.message


# A real cluster


def seen(cluster: Cluster, name: str) -> Trouble | None:
    """What is wrong with the pods of that name, as the deployer finds it: with the Role's rights."""
    return why(
        cluster.get("apps/v1", "Deployment", name),
        cluster.find("v1", "Pod", {"app": name}, managed=False),
        cluster.events(),
        log_tail=cluster.log_tail,
    )


def until_told(cluster: Cluster, name: str, *words: str) -> Trouble:
    def look() -> Trouble | None:
        trouble = seen(cluster, name)
        return trouble if trouble is not None and all(word in trouble.message for word in words) else None

    return kube.until(look)


@real
@pytest.mark.parametrize(
    ("name", "container", "words"),
    [
        pytest.param(
            "image",
            {"image": "stackkit-test-kube:nowhere"},
            ["The image stackkit-test-kube:nowhere cannot", "Failed"],
            id="image",
        ),
        pytest.param(
            "never",
            {"image": "stackkit-test-kube:nowhere", "imagePullPolicy": "Never"},
            ["ErrImageNeverPull"],
            id="never pulled",
        ),
        pytest.param(
            "memory",
            {"command": ["python", "-c", "b'x' * 10**9"], "resources": {"limits": {"memory": "32Mi"}}},
            ["was killed because it needed more memory than the 32Mi"],
            id="out of memory",
        ),
        pytest.param(
            "unschedulable",
            {"resources": {"requests": {"cpu": "1000"}}},
            ["No node takes the pod", "Insufficient cpu"],
            id="unschedulable",
        ),
        pytest.param(
            "probe",
            {"readinessProbe": {"tcpSocket": {"port": 8099}, "periodSeconds": 1}},
            ["is not healthy: Readiness probe failed"],
            id="probe",
        ),
        pytest.param(
            "secret",
            {"envFrom": [{"secretRef": {"name": "nowhere"}}]},
            ["cannot be made", 'secret "nowhere" not found'],
            id="no such secret",
        ),
    ],
)
def test_a_real_cluster_s_words(
    cluster: Cluster, images: dict[str, str], name: str, container: dict[str, Any], words: list[str]
) -> None:
    manifest = kube.deployment(container.pop("image", images["one"]), name=name, **container)
    cluster.apply(manifest, epoch=1)
    assert until_told(cluster, name, *words).message.endswith(".")
    cluster.delete("apps/v1", "Deployment", name)


@real
def test_a_crash_loop_tells_the_last_lines_of_the_log(cluster: Cluster, images: dict[str, str]) -> None:
    cluster.apply(kube.deployment(images["broken"], name="broken"), epoch=1)
    trouble = until_told(cluster, "broken", "ended with exit code 1", "ValueError: it cannot be loaded")
    assert not trouble.is_final, "once may be bad luck"
    until_told(cluster, "broken", "2 times over")
    kube.until(lambda: (seen(cluster, "broken") or trouble).is_final)
    cluster.delete("apps/v1", "Deployment", "broken")


@real
def test_a_quota_of_zero(cluster: Cluster, namespace: kube.Namespace, images: dict[str, str]) -> None:
    kube.create(
        namespace,
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}},
    )
    kube.until(lambda: (namespace.admin.get("v1", "ResourceQuota", "none") or {}).get("status", {}).get("hard"))
    cluster.apply(kube.deployment(images["one"], name="quota"), epoch=1)
    assert until_told(cluster, "quota", "exceeded quota: none").is_final
    namespace.raw("DELETE", "resourcequotas/none")
    cluster.delete("apps/v1", "Deployment", "quota")
