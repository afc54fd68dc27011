"""A cluster that cannot be reached, does not let one in, or refuses: one line that says so, and a hint."""

from __future__ import annotations

import copy
import json
import socket
from pathlib import Path
from typing import Any

import kube
import pytest
import yaml
from api_standin import Standin, write_kubeconfig
from stackkit_kubernetes.cluster import EPOCH, Cluster, ClusterConfig, service_labels
from stackkit_kubernetes.cluster.connection import Connection

from stackkit.errors import DeploymentError, LeaseLostError, PlatformUnavailableError, StackkitError

real = pytest.mark.kubernetes


def status(code: int, reason: str, message: str, **details: str) -> tuple[int, dict[str, Any]]:
    said = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}
    return code, said


# The connection


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path, f"http://127.0.0.1:{port}")))
    with pytest.raises(PlatformUnavailableError, match=rf"No cluster answers at http://127.0.0.1:{port}: .*refused"):
        Cluster.connect(ClusterConfig()).find("v1", "Pod", {})


def test_one_that_never_answers(connection: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection.configuration.host = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(PlatformUnavailableError, match=r"answers at \S+: Read timed out"):
            connection.send("GET", "/version", timeout=0.05)


def test_credentials_that_were_renewed_meanwhile(connection: Connection, standin: Standin, tmp_path: Path) -> None:
    standin.answers = [(200, {}), status(401, "Unauthorized", "Unauthorized"), (200, {"a": "b"})]
    connection.json("GET", "/version")
    write_kubeconfig(tmp_path, standin.url, {"token": "another"})
    assert connection.json("GET", "/version") == {"a": "b"}
    assert [each[2] for each in standin.asked] == ["Bearer a-token", "Bearer a-token", "Bearer another"]


def test_credentials_that_are_not_accepted_and_are_not_told(connection: Connection, standin: Standin) -> None:
    standin.answers = [status(401, "Unauthorized", "Unauthorized")] * 2
    with pytest.raises(PlatformUnavailableError, match="does not accept your credentials: Unauthorized") as raised:
        connection.json("GET", "/version")
    assert "a-token" not in f"{raised.value}{raised.value.__cause__!r}"
    assert "a-token" not in repr(connection)


def test_a_credential_plugin_is_run(
    connection: Connection, standin: Standin, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "its-own"}}
    (tmp_path / "credential.json").write_text(json.dumps(told), encoding="utf-8")
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "cat",
            "args": [str(tmp_path / "credential.json")],
            "interactiveMode": "Never",
        }
    }
    write_kubeconfig(tmp_path, standin.url, user)
    standin.answers = [(200, {})]
    connection.json("GET", "/version")
    assert standin.asked[0][2] == "Bearer its-own"
    assert capfd.readouterr() == ("", "")


def test_credentials_are_not_asked_for_again_and_again(connection: Connection, standin: Standin) -> None:
    standin.answers = [status(401, "Unauthorized", "Unauthorized")] * 2
    with pytest.raises(PlatformUnavailableError):
        connection.json("PATCH", "/x", body={}, patient=True)
    assert len(standin.asked) == 2


@pytest.mark.parametrize("code", [200, 302])
def test_something_else_that_answers(connection: Connection, standin: Standin, code: int) -> None:
    standin.answers = [(code, b"<html>Please log in</html>")]
    with pytest.raises(PlatformUnavailableError, match="is no Kubernetes API server"):
        Cluster(connection, "default").serves("v1", "Pod")


def test_a_server_that_is_back_soon(connection: Connection, standin: Standin) -> None:
    standin.answers = [(200, {}), (503, b"upstream connect error"), status(429, "TooManyRequests", "slow"), (200, {})]
    connection.json("GET", "/version")
    connection.json("PATCH", "/x", body={}, patient=True)
    assert len(standin.asked) == 4


@pytest.mark.parametrize(
    "answer",
    [
        status(500, "ServerTimeout", "The PATCH operation against services could not be completed at this time"),
        status(500, "", "rpc error: code = Unavailable desc = etcdserver: leader changed"),
    ],
    ids=["asks for patience", "its store has another leader"],
)
def test_a_server_whose_store_is_back_soon(connection: Connection, standin: Standin, answer: tuple[int, Any]) -> None:
    standin.answers = [(200, {}), answer, (200, {}), status(500, "InternalError", "failed calling webhook")]
    connection.json("GET", "/version")
    connection.json("PATCH", "/x", body={}, patient=True)
    with pytest.raises(DeploymentError, match="failed calling webhook"):
        connection.json("PATCH", "/x", body={}, patient=True)
    assert len(standin.asked) == 4


FORBIDDEN = status(403, "Forbidden", "pods is forbidden: User cannot list resource")
NO_ROLES_YET = status(403, "Forbidden", 'pods is forbidden: RBAC: [clusterrole "system:basic-user" not found]')


@pytest.mark.parametrize(
    "answers",
    [
        [FORBIDDEN, (500, b"[-]informer-sync failed"), (200, {})],
        [NO_ROLES_YET, NO_ROLES_YET, (200, b"ok"), (200, {})],
        [FORBIDDEN, FORBIDDEN, FORBIDDEN, (200, b"ok"), (200, {})],
        [FORBIDDEN, (200, b"ok"), (200, {})],
    ],
    ids=["not ready", "not even for that", "not for that, without a word", "ready by now"],
)
def test_a_server_that_has_not_read_the_roles_yet(
    connection: Connection, standin: Standin, answers: list[tuple[int, Any]]
) -> None:
    standin.answers = [(200, {}), *answers]
    connection.json("GET", "/version")
    connection.json("PATCH", "/x", body={}, patient=True)
    assert standin.asked[2][:2] == ("GET", "/readyz")


def test_a_server_that_never_answered_is_not_waited_for(connection: Connection, standin: Standin) -> None:
    standin.answers = [(503, b"upstream connect error")]
    with pytest.raises(PlatformUnavailableError, match="cannot answer now: upstream connect error"):
        connection.json("PATCH", "/x", body={}, patient=True)


def test_a_reader_is_not_patient(connection: Connection, standin: Standin) -> None:
    standin.answers = [(200, {}), (503, b"upstream connect error")]
    connection.json("GET", "/version")
    with pytest.raises(PlatformUnavailableError, match="cannot answer now: upstream connect error"):
        connection.json("GET", "/x")


@pytest.mark.parametrize(
    ("answer", "told", "hint"),
    [
        (status(403, "Forbidden", 'pods is forbidden: User "ann" cannot list resource'), "cannot list", "rbac.yaml"),
        (status(403, "Forbidden", 'pods "a" is forbidden: exceeded quota: q'), "exceeded quota: q", "resourcequota"),
        (status(404, "NotFound", 'namespaces "x" not found', kind="namespaces"), "not found", "create namespace"),
        (
            status(422, "Invalid", 'Deployment "a" is invalid:\n  spec.x:  no '),
            'Deployment "a" is invalid: spec.x: no.',
            "",
        ),
        ((400, b"<html>"), "<html>", ""),
        ((418, b""), "it answered 418", ""),
    ],
    ids=["rbac", "quota", "namespace", "invalid", "not ours", "nothing"],
)
def test_what_is_refused(
    connection: Connection, standin: Standin, answer: tuple[int, Any], told: str, hint: str
) -> None:
    standin.answers = [answer, (200, b"ok"), answer] if answer[0] == 403 else [answer]
    with pytest.raises(DeploymentError) as raised:
        connection.json("PATCH", "/x", body={}, patient=True)
    assert told in raised.value.message and "\n" not in raised.value.message
    assert hint in (raised.value.hint or "")


def test_a_list_that_has_grown_too_old_is_read_anew(connection: Connection, standin: Standin) -> None:
    pages = [
        {"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}]},
        {"metadata": {}, "items": [{"metadata": {"name": "b"}}]},
    ]
    standin.answers = [
        (200, KINDS),
        (200, pages[0]),
        status(410, "Expired", "too old"),
        *((200, each) for each in pages),
    ]
    found = Cluster(connection, "default").find("v1", "Pod", {})
    assert [each["metadata"]["name"] for each in found] == ["a", "b"]


KINDS = {
    "resources": [
        {"kind": "Pod", "name": "pods", "namespaced": True},
        {"kind": "Service", "name": "services", "namespaced": True},
    ]
}


def test_a_list_of_nothing_may_be_null(connection: Connection, standin: Standin) -> None:
    standin.answers = [(200, KINDS), (200, {"metadata": {}, "items": None})]
    assert Cluster(connection, "default").find("v1", "Pod", {}) == []


def test_endpoints_that_lag_behind_their_pods_are_waited_for(connection: Connection, standin: Standin) -> None:
    none_yet = status(503, "ServiceUnavailable", 'no endpoints available for service "server"')
    gone = status(503, "ServiceUnavailable", "error trying to reach service: dial tcp 172.17.0.6:8080: refused")
    standin.answers = [(200, KINDS), none_yet, gone, (200, b"answered")]
    cluster = Cluster(connection, "default")
    assert cluster.post_to_service("server", 80, "/invocations", b"{}", {}) == (200, b"answered")
    cut = status(500, "", "error trying to reach service: readfrom tcp 172.17.0.6:8080: closed")
    standin.answers = [cut, (503, b"the server's own words")]
    with pytest.raises(PlatformUnavailableError, match="cannot answer now: error trying to reach service"):
        cluster.post_to_service("server", 80, "/invocations", b"{}", {})  # it may have been answered
    assert cluster.post_to_service("server", 80, "/invocations", b"{}", {}) == (503, b"the server's own words")


def ours(epoch: int, version: str = "7") -> dict[str, Any]:
    metadata = {"uid": "u", "name": "s", "resourceVersion": version, "labels": service_labels("a")}
    return {"kind": "Service", "metadata": {**metadata, "annotations": {EPOCH: str(epoch)}}}


def test_what_another_process_has_written_since_is_not_removed(connection: Connection, standin: Standin) -> None:
    cluster = Cluster(connection, "default")
    standin.answers = [(200, KINDS), (200, ours(3))]
    with pytest.raises(LeaseLostError, match="epoch 3"):
        cluster.delete("v1", "Service", "s", epoch=2)
    # it is written between the look and the deletion, once by nobody that matters and once by who has taken over
    conflict = status(409, "Conflict", "Precondition failed: ResourceVersion in precondition")
    standin.answers = [(200, ours(2)), conflict, (200, ours(2, "8")), conflict, (200, ours(3, "9"))]
    with pytest.raises(LeaseLostError, match="epoch 3"):
        cluster.delete("v1", "Service", "s", epoch=2)
    standin.answers = [(200, ours(2)), conflict, (200, ours(2, "8")), (200, {})]
    cluster.delete("v1", "Service", "s", epoch=2)
    sent = [json.loads(body)["preconditions"] for method, body in standin.bodies if method == "DELETE"]
    assert sent[-1] == {"uid": "u", "resourceVersion": "8"}


# A real cluster


@real
def test_expired_credentials(namespace: kube.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "gone"}}
    kube.create(namespace, account)
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    token = namespace.raw("POST", "serviceaccounts/gone/token", asked)["status"]["token"]
    namespace.raw("DELETE", "serviceaccounts/gone")
    (tmp_path / "config").write_text(yaml.safe_dump(kube.kubeconfig(namespace.admin, token)), encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    cluster = Cluster.connect(namespace.config)
    with pytest.raises(PlatformUnavailableError, match="does not accept your credentials") as raised:
        cluster.find("v1", "Pod", {})
    assert token[:20] not in str(raised.value)
    cluster.close()


@real
def test_another_cluster_at_the_same_address(
    namespace: kube.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = kube.kubeconfig(namespace.admin, "a-token")
    text["clusters"][0]["cluster"] = {"server": namespace.admin.host}  # the system's authorities do not vouch for it
    (tmp_path / "config").write_text(yaml.safe_dump(text), encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    cluster = Cluster.connect(namespace.config)
    with pytest.raises(PlatformUnavailableError, match="certificate of the cluster"):
        cluster.find("v1", "Pod", {})
    with pytest.raises(PlatformUnavailableError, match="certificate of the cluster"), cluster.forward("a", 1, None):
        pass
    cluster.close()


@real
def test_a_service_account_that_may_do_nothing(
    namespace: kube.Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "stackkit"}}
    (tmp_path / "account.yaml").write_text(yaml.safe_dump(account), encoding="utf-8")
    with kube.namespace(tmp_path, roles=[tmp_path / "account.yaml"]) as place:
        monkeypatch.setenv("KUBECONFIG", str(place.kubeconfig))
        cluster = Cluster.connect(place.config)
        with pytest.raises(DeploymentError, match="cannot list resource") as raised:
            cluster.find("v1", "Pod", {})
        assert "FLAVOR-rbac.yaml" in str(raised.value.hint)
        with pytest.raises(DeploymentError, match="cannot get resource"):
            cluster.apply(kube.service(), epoch=1)
        cluster.close()


@real
def test_the_role_suffices_for_no_other_namespace(cluster: Cluster, namespace: kube.Namespace) -> None:
    elsewhere = Cluster(cluster._connection, "default")
    with pytest.raises(DeploymentError, match='in the namespace "default"'):
        elsewhere.find("v1", "Secret", {})


@real
def test_a_namespace_that_is_not_there(namespace: kube.Namespace) -> None:
    cluster = Cluster(namespace.admin._connection, "stackkit-test-nowhere")
    assert cluster.find("v1", "Pod", {}) == []
    with pytest.raises(DeploymentError, match='namespaces "stackkit-test-nowhere" not found') as raised:
        cluster.apply(kube.service(), epoch=1)
    assert "kubectl create namespace" in str(raised.value.hint)


@real
def test_a_conflict_on_every_first_write(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else changes each object between its being read and its being written."""
    send = Connection.exchange
    written: list[str] = []

    def refuse_the_first(self: Connection, method: str, path: str, **options: Any) -> Any:
        if method in ("PATCH", "DELETE") and written.count(path) % 2 == 0:
            written.append(path)
            other = copy.copy(options)
            patch = {"metadata": {"annotations": {"changed": str(len(written))}}}
            other["body"] = json.dumps(patch).encode()
            other["headers"] = {"Content-Type": "application/merge-patch+json"}
            other["query"] = None
            send(self, "PATCH", path, **other)
        elif method == "PATCH":
            written.append(path)
        return send(self, method, path, **options)

    manifest = kube.service("conflict")
    cluster.apply(manifest, epoch=1)
    monkeypatch.setattr(Connection, "exchange", refuse_the_first)
    manifest["spec"]["ports"][0]["port"] = 81
    assert cluster.apply(manifest, epoch=2)["spec"]["ports"][0]["port"] == 81
    patch = {"metadata": {"labels": {"a": "b"}}}
    assert cluster.merge("v1", "Service", "conflict", patch, epoch=3)["metadata"]["labels"]["a"] == "b"
    assert len(written) == 4, "each write was refused once, and then done"


@real
def test_a_conflict_that_never_ends_is_told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackkit_kubernetes.cluster.applying._MOST_REPEATS", 2)
    send = Connection.json

    def conflict(self: Connection, method: str, path: str, **options: Any) -> Any:
        if method == "PATCH":
            options["body"]["metadata"]["resourceVersion"] = "2"
        return send(self, method, path, **options)

    manifest = kube.service("busy")
    cluster.apply(manifest, epoch=1)
    monkeypatch.setattr(Connection, "json", conflict)
    with pytest.raises(StackkitError, match="the object has been modified"):
        cluster.apply(manifest, epoch=1)
