from __future__ import annotations

import stackkit
from stackkit.store.schema import HEAD


def test_status_of_a_new_home(read, home):
    assert read("status") == {
        "version": stackkit.__version__,
        "home": str(home),
        "database": f"sqlite:///{home / 'stackkit.db'}",
        "schema_revision": HEAD,
        "active_stack": "default",
        "model_deployer": None,
        "servers": [],
    }


def test_servers_are_counted_by_platform(ok, read, deploy):
    ok("model-deployer", "register", "there", "--flavor=memory", "--platform=elsewhere")
    deploy("a")
    deploy("b", "--deployer", "there")
    ok("model-deployer", "models", "stop", deploy("c", "--deployer", "there"))
    servers = {row["platform"]: (row["running"], row["total"]) for row in read("status")["servers"]}
    assert servers.pop("elsewhere") == (1, 2)
    assert list(servers.values()) == [(1, 1)]
    assert "RUNNING_SERVERS  2 of 3" in ok("status").stdout.splitlines()
