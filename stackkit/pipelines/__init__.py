"""Pipelines: steps, runs, artifacts, and the standard step that deploys a model."""

from __future__ import annotations

from .artifact_stores import BaseArtifactStore
from .artifacts import Artifact
from .contexts import StepContext, get_step_context
from .definitions import Pipeline, pipeline
from .deployer_step import model_deployer_step
from .execution import Execution
from .orchestrators import BaseOrchestrator
from .runs import MetadataValue, PipelineRun, RunStatus, RunStore, StepRun
from .steps import Step, step
from .wiring import Invocation, Plan, StepOutput

__all__ = [
    "Artifact",
    "BaseArtifactStore",
    "BaseOrchestrator",
    "Execution",
    "Invocation",
    "MetadataValue",
    "Pipeline",
    "PipelineRun",
    "Plan",
    "RunStatus",
    "RunStore",
    "Step",
    "StepContext",
    "StepOutput",
    "StepRun",
    "get_step_context",
    "model_deployer_step",
    "pipeline",
    "step",
]
