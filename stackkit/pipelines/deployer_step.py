"""The standard step that deploys a model with the active stack's model deployer, whatever its flavor."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Annotated, Any

from ..errors import InvalidConfigError
from ..model_deployers import BaseModelDeployer, Service, ServiceConfig
from ..stack.configs import parse
from .artifacts import Artifact
from .contexts import current_step_context
from .steps import step

logger = logging.getLogger(__name__)


@step
def model_deployer_step(
    model: Artifact | str | os.PathLike[str],
    model_name: str,
    deploy_decision: bool = True,
    config: ServiceConfig | None = None,
    service_fields: dict[str, Any] | None = None,
    timeout: float | None = None,
) -> Annotated[Service | None, "service"]:
    """Have a model served, in place of the one that an earlier run of this pipeline deployed.

    ``model`` is the output of an earlier step (a model, or a path or URI), or such a path or URI.
    Pipeline, step and ``model_name`` name the service: each run gives it a new revision under the same UUID and URL.
    What else the flavor is to be told comes as a ``config`` of its type or as the dictionary ``service_fields``.
    With a negative ``deploy_decision`` the model is not deployed: the server that is there stays, and is started if
    it does not run. ``timeout`` is in seconds, by default the flavor's.

    Logs ``deployed_model_url`` and ``service_uuid`` as metadata. Its output is kept as the service's configuration,
    which ``deploy_model`` takes. Called outside of a pipeline it returns the service, or None when nothing was to be
    deployed and there was none. Raises as ``deploy_model`` does.
    """
    deployer = BaseModelDeployer.get_active_model_deployer()
    filled = {**_labels(), "model_name": model_name, "model_uri": _uri(model)}
    wanted = _configured(deployer, config, service_fields, filled)
    if deploy_decision:
        service = deployer.deploy_model(wanted, replace=True, timeout=timeout)
    else:
        found = deployer.find_model_server(service_name=wanted.display_name)
        if not found:
            logger.info("%s was not to be deployed, and there is no server of that name.", wanted.display_name)
            return None
        service = found[0]
        if not service.is_running:
            service = deployer.start_model_server(service, timeout=timeout)
    if (context := current_step_context()) is not None:
        context.log_metadata("deployed_model_url", service.prediction_url)
        context.log_metadata("service_uuid", service.id)
    return service


def _labels() -> dict[str, str]:
    context = current_step_context()
    if context is None:
        return {}
    return {
        "pipeline_name": context.pipeline_name,
        "pipeline_step_name": context.step_name,
        "run_name": context.run_name,
    }


def _uri(model: Artifact | str | os.PathLike[str]) -> str:
    if not isinstance(model, Artifact):
        return os.fspath(model)
    if model.materializer == "model":
        return model.uri
    value = model.load()
    return os.fspath(value) if isinstance(value, str | os.PathLike) else model.uri


def _configured(
    deployer: BaseModelDeployer,
    config: ServiceConfig | None,
    service_fields: Mapping[str, Any] | None,
    filled: Mapping[str, Any],
) -> ServiceConfig:
    if config is not None and service_fields is not None:
        raise InvalidConfigError(
            "model_deployer_step was given a config and service_fields beside it.", "Put all fields into the config."
        )
    expected = deployer.service_config_class
    given = dict(service_fields or {}) if config is None else {name: config[name] for name in config.model_fields_set}
    return parse(expected, {**given, **filled}, f"a {deployer.record.flavor} service")
