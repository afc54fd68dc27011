"""What the API server refuses, in its own words."""

from __future__ import annotations

import json

from stackkit.errors import DeploymentError, PlatformUnavailableError, StackkitError

_RBAC = "Have the role granted that stackkit needs: the smallest is in docs/, as FLAVOR-rbac.yaml."
_BUSY = (429, 502, 503, 504)
_PASSING = ("etcdserver: ", "error trying to reach service: ")
"""How a 500 says that the API server's store is busy or has another leader, or that a proxied request got nowhere."""


class RefusedError(DeploymentError):
    """The API server refuses: ``status`` is its HTTP status, ``reason`` its machine-readable word for why."""

    def __init__(self, message: str, hint: str | None = None, *, status: int, reason: str) -> None:
        super().__init__(message, hint)
        self.status = status
        self.reason = reason


class NotNowError(PlatformUnavailableError):
    """The API server does not answer, or cannot now: it may in a moment."""


def refusal(method: str, status: int, body: bytes, *, host: str) -> StackkitError:
    """The error that an answer of 400 and above is.

    A PlatformUnavailableError for credentials that are not accepted, a NotNowError for a server that is busy or
    failing; else a RefusedError.
    """
    reason, said, kind = _read(status, body)
    if status == 401:
        return PlatformUnavailableError(
            f"The cluster at {host} does not accept your credentials: {said}",
            "They may have expired: log in again, and see that kubectl get pods works with the same context.",
        )
    passes = method == "GET" or reason == "ServerTimeout" or any(words in said for words in _PASSING)
    if status in _BUSY or (status >= 500 and passes):
        return NotNowError(
            f"The cluster at {host} cannot answer now: {said}", "Try again; kubectl get --raw /readyz says how it is."
        )
    hint = None
    if status == 404 and kind == "namespaces":
        hint = "Make it (kubectl create namespace NAME), or name another: --kubernetes_namespace=…"
    elif status == 403 and "exceeded quota" in said:
        hint = "See what is used: kubectl describe resourcequota."
    elif status == 403 and " cannot " in said:
        hint = _RBAC
    return RefusedError(f"The cluster refuses: {said}", hint, status=status, reason=reason)


def _read(status: int, body: bytes) -> tuple[str, str, str]:
    """The reason, the message in one line and the kind of thing that an answer is about.

    The API server answers with a Status object, and what stands before it with anything.
    """
    try:
        told = json.loads(body)
        reason, said = str(told.get("reason") or ""), str(told.get("message") or "")
        kind = str((told.get("details") or {}).get("kind") or "")
    except (ValueError, AttributeError):
        reason, said, kind = "", body[:500].decode("utf-8", "replace"), ""
    return reason, " ".join(said.split()).rstrip(".") + "." if said.strip() else f"it answered {status}.", kind
