"""Orchestrators: what runs the steps of a pipeline, and where.

A flavor derives a ``BaseOrchestrator`` and offers its ``Flavor`` by an entry point in ``stackkit.orchestrators``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from ..stack import ComponentType, Flavor, StackComponent

if TYPE_CHECKING:
    from .execution import Execution


class BaseOrchestrator(StackComponent):
    """Runs pipelines."""

    TYPE = ComponentType.ORCHESTRATOR

    @abstractmethod
    def run(self, execution: Execution) -> None:
        """Have each step of ``execution.plan`` run, none before those that its ``upstream`` names, and wait for all.

        Raises what a failing ``execution.run_step`` raised; steps that were not run by then are recorded as skipped.
        """


class LocalOrchestratorFlavor(Flavor):
    """Runs pipelines where they are called."""

    TYPE = ComponentType.ORCHESTRATOR
    NAME = "local"
    SUMMARY = "Steps run in this process, one after the other."
    implementation = "stackkit.pipelines.orchestrators:LocalOrchestrator"


class LocalOrchestrator(BaseOrchestrator):
    """Runs the steps in this process, one after the other, and stops at the first that fails."""

    def run(self, execution: Execution) -> None:
        for invocation in execution.plan.invocations:
            execution.run_step(invocation)
