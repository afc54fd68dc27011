"""Everything that the server answers."""

from __future__ import annotations

from . import metrics, openapi, scoring, v2
from .routing import RouteTable
from .service import Service


def tables(service: Service) -> list[RouteTable]:
    """The routes of every protocol, answered by ``service``."""
    return [
        scoring.routes(service),
        v2.routes(service),
        openapi.routes(service),
        metrics.routes(service.metrics, scoring.write_error),
    ]
