"""A ZenML 0.98 model deployer whose servers need nothing beyond ``zenml[local]``.

ZenML's own local flavors each need an integration's packages to start a server. This one is written with the same
parts as they are (a ``LocalDaemonService`` with an HTTP health check), and its server answers ``/ping`` from the
standard library. It is imported by ZenML's environment alone: as a flavor, inside each daemon, and by ``cli.py`` with
``python -c`` to deploy and to delete.
"""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from zenml.client import Client
from zenml.config.global_config import GlobalConfiguration
from zenml.model_deployers import BaseModelDeployer, BaseModelDeployerFlavor
from zenml.model_deployers.base_model_deployer import BaseModelDeployerConfig
from zenml.models.v2.misc.service import ServiceType
from zenml.services import (
    HTTPEndpointHealthMonitor,
    HTTPEndpointHealthMonitorConfig,
    LocalDaemonService,
    LocalDaemonServiceConfig,
    LocalDaemonServiceEndpoint,
    LocalDaemonServiceEndpointConfig,
    ServiceEndpointProtocol,
)
from zenml.services.service import BaseDeploymentService, BaseService, ServiceConfig


class TinyServiceConfig(LocalDaemonServiceConfig):
    """What a tiny server is told: nothing beyond its names."""


class TinyService(LocalDaemonService, BaseDeploymentService):
    """A daemon that answers ``/ping``."""

    SERVICE_TYPE = ServiceType(name="tiny-deployment", type="model-serving", flavor="tiny", description="Answers /ping")
    config: TinyServiceConfig
    endpoint: LocalDaemonServiceEndpoint

    def __init__(self, config: TinyServiceConfig | dict[str, Any], **attributes: Any) -> None:
        attributes.setdefault(
            "endpoint",
            LocalDaemonServiceEndpoint(
                config=LocalDaemonServiceEndpointConfig(protocol=ServiceEndpointProtocol.HTTP),
                monitor=HTTPEndpointHealthMonitor(
                    config=HTTPEndpointHealthMonitorConfig(healthcheck_uri_path="ping", use_head_request=False)
                ),
            ),
        )
        super().__init__(config=config, **attributes)

    def run(self) -> None:
        self.endpoint.prepare_for_start()
        ThreadingHTTPServer(("127.0.0.1", self.endpoint.status.port), _Handler).serve_forever()

    @property
    def prediction_url(self) -> str | None:
        return f"{self.endpoint.status.uri}/invocations" if self.is_running else None

    def predict(self, request: Any) -> Any:
        raise NotImplementedError


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


class TinyModelDeployerFlavor(BaseModelDeployerFlavor):
    """The flavor that ``zenml model-deployer flavor register`` is given."""

    @property
    def name(self) -> str:
        return "tiny"

    @property
    def config_class(self) -> type[BaseModelDeployerConfig]:
        return BaseModelDeployerConfig

    @property
    def implementation_class(self) -> type[TinyModelDeployer]:
        return TinyModelDeployer


class TinyModelDeployer(BaseModelDeployer):
    """Starts, stops and deletes the daemons, as ZenML's own local deployers do."""

    NAME: ClassVar[str] = "Tiny"
    FLAVOR: ClassVar[type[BaseModelDeployerFlavor]] = TinyModelDeployerFlavor

    @staticmethod
    def get_model_server_info(service: BaseService) -> dict[str, str | None]:
        return {"PREDICTION_URL": service.prediction_url, "DAEMON_PID": str(service.status.pid)}

    def perform_deploy_model(self, id: UUID, config: ServiceConfig, timeout: int = 60) -> BaseService:  # noqa: A002
        config.root_runtime_path = str(Path(GlobalConfiguration().local_stores_path) / str(self.id))
        service = TinyService(uuid=id, config=config)
        service.start(timeout=timeout)
        return service

    def perform_start_model(self, service: BaseService, timeout: int = 60) -> BaseService:
        service.start(timeout=timeout)
        return service

    def perform_stop_model(self, service: BaseService, timeout: int = 60, force: bool = False) -> BaseService:
        service.stop(timeout=timeout, force=force)
        return service

    def perform_delete_model(self, service: BaseService, timeout: int = 60, force: bool = False) -> None:
        service.stop(timeout=timeout, force=force)


def deploy(count: int) -> None:
    """Start ``count`` servers through the active stack's model deployer, wait for each, and see that it lists them."""
    deployer = Client().active_stack.model_deployer
    for number in range(count):
        config = TinyServiceConfig(
            model_name=f"model-{number}", pipeline_name=f"pipeline-{number}", pipeline_step_name="deployer"
        )
        # the mode in which it tells services apart by their pipeline
        deployer.deploy_model(config, TinyService.SERVICE_TYPE, continuous_deployment_mode=True, timeout=60)
    running = sum(service.is_running for service in deployer.find_model_server())
    if running != count:
        raise SystemExit(f"{running} of {count} servers run")


def delete_all() -> None:
    """Stop and remove every server."""
    deployer = Client().active_stack.model_deployer
    while services := deployer.find_model_server():
        for service in services:
            deployer.delete_model_server(service.uuid, timeout=60, force=True)
