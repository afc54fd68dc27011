"""Every protocol that the server speaks."""

from __future__ import annotations

from . import scoring
from .routing import RouteTable
from .service import Service


def tables(service: Service) -> list[RouteTable]:
    """The protocols' routes, answered by ``service``."""
    return [scoring.routes(service)]
