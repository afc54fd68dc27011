"""How a cluster is reached and by what right: read from the user's kubeconfig, or a pod's service account."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackkit.errors import PlatformUnavailableError

from .config import ClusterConfig

if TYPE_CHECKING:
    from kubernetes.client import Configuration

_USUAL_KUBECONFIG = "~/.kube/config"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def load(config: ClusterConfig) -> Configuration:
    """The address, certificates and credentials of a cluster. Runs the credential plugin that a kubeconfig names.

    Raises PlatformUnavailableError, with the contexts that there are when the one asked for is none of them.
    """
    import yaml
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

    configuration = Configuration()
    said = _Said()
    logging.getLogger().addHandler(said)
    try:
        if config.incluster:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            load_kube_config(  # type: ignore[no-untyped-call]
                config_file=_kubeconfig(), context=config.kubernetes_context, client_configuration=configuration
            )
    except (ConfigException, OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise _unusable(config, error) from error
    finally:
        logging.getLogger().removeHandler(said)
    if said.lines and not configuration.api_key and not configuration.cert_file:
        raise _unusable(config, ValueError(said.lines[-1]))
    return configuration


def authorization(configuration: Configuration) -> str | None:
    """The header's value that proves who asks, renewed where it had expired; None when a certificate does."""
    value = configuration.auth_settings().get("BearerToken", {}).get("value")
    return None if value is None else str(value)


def fingerprint(configuration: Configuration) -> str | None:
    """The SHA-256 of the certificates that the cluster's own is checked against; None when the system's are."""
    if not configuration.ssl_ca_cert:
        return None
    blocks = _CERTIFICATE.findall(Path(configuration.ssl_ca_cert).read_text(encoding="ascii", errors="ignore"))
    if not blocks:
        return None
    return hashlib.sha256(b"".join(sorted(ssl.PEM_cert_to_DER_cert(block) for block in blocks))).hexdigest()


class _Said(logging.Handler):
    """Hears what the client library has to say: that a credential plugin failed is logged, and not raised."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _kubeconfig() -> str:
    return os.environ.get("KUBECONFIG") or _USUAL_KUBECONFIG


def _unusable(config: ClusterConfig, error: Exception) -> PlatformUnavailableError:
    said = " ".join(str(error).split()).rstrip(".")
    if config.incluster:
        return PlatformUnavailableError(
            f"No cluster can be reached from within: {said}.",
            "incluster is for pods; elsewhere name a context of the kubeconfig: --kubernetes_context=…",
        )
    files = _kubeconfig()
    if not any(Path(file).expanduser().exists() for file in files.split(os.pathsep) if file):
        return PlatformUnavailableError(
            f"There is no kubeconfig at {files}.", "Write one, as your cluster's maker tells, or set KUBECONFIG."
        )
    names = _contexts(files)
    wanted = config.kubernetes_context
    if wanted is not None and names and wanted not in names:
        return PlatformUnavailableError(
            f"The kubeconfig {files} has no context {wanted!r}: it has {', '.join(names)}.",
            "Name one of these: stackkit model-deployer update NAME --kubernetes_context=…",
        )
    return PlatformUnavailableError(
        f"The kubeconfig {files} cannot be used: {said}.", "See what kubectl says: kubectl config view."
    )


def _contexts(files: str) -> list[str]:
    import yaml

    names: list[str] = []
    for file in filter(None, files.split(os.pathsep)):
        try:
            read: Any = yaml.safe_load(Path(file).expanduser().read_text(encoding="utf-8"))
            names += [str(context["name"]) for context in read["contexts"]]
        except (OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
            continue
    return names
