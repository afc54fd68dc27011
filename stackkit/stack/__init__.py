"""Stacks, their components, the flavors that implement them, and secrets."""

from __future__ import annotations

from .components import ComponentConfig, ComponentRecord, ComponentStore, ComponentType, StackComponent
from .flavors import Flavor, FlavorEntry, FlavorRegistry
from .secrets import Secret, SecretStore
from .stacks import Stack, StackStore

__all__ = [
    "ComponentConfig",
    "ComponentRecord",
    "ComponentStore",
    "ComponentType",
    "Flavor",
    "FlavorEntry",
    "FlavorRegistry",
    "Secret",
    "SecretStore",
    "Stack",
    "StackComponent",
    "StackStore",
]
