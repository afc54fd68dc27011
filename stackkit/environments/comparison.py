"""How what a model asks for differs from the environment that this process runs in."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from .requirements import ModelRequirements
from .runtime import normalized


def differences(requirements: ModelRequirements, reference: str, format: str) -> list[str]:  # noqa: A002
    """One text for each thing that the model asks for and that is not so here; none when it can be served here.

    Of a Python the patch level does not count. MLflow itself is not asked for by a model that is loaded without it.
    ``reference`` and ``format`` are the model's, as in ResolvedModel.
    """
    return list(_differences(requirements, reference, format))


def _differences(requirements: ModelRequirements, reference: str, format_name: str) -> Iterator[str]:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if requirements.python_minor not in (None, here):
        yield f"Python {requirements.python_minor} (here {here})"
    needless = {"mlflow"} if format_name == "mlflow" and _is_loaded_without_mlflow(Path(reference)) else set()
    for line in requirements.packages:
        if normalized(line) not in needless and (found := _difference(line, needed=True)):
            yield found
    for line in requirements.constraints:
        if found := _difference(line, needed=False):
            yield found
    yield from (f"{package} (from conda)" for package in requirements.conda_packages)


def _difference(line: str, *, needed: bool) -> str | None:
    from packaging.requirements import InvalidRequirement, Requirement  # half a tenth of a second, and often needless

    text = line.partition(" --")[0].strip()  # what follows are pip's own options for this one package
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        return f"{text} (a file of the model's)"
    if wanted.marker is not None and not wanted.marker.evaluate():
        return None
    shown = f"{wanted.name} {wanted.url or wanted.specifier}".rstrip()
    try:
        installed = distribution(wanted.name)
    except PackageNotFoundError:
        return f"{shown} (not here)" if needed else None
    if wanted.url is not None:
        return None if _origin(installed) == wanted.url else f"{shown} (here {installed.version})"
    fits = wanted.specifier.contains(installed.version, prereleases=True)
    return None if fits else f"{shown} (here {installed.version})"


def _origin(installed: Distribution) -> str | None:
    """The URL that a distribution was installed from, None for one that came from an index."""
    try:
        return str(json.loads(installed.read_text("direct_url.json") or "")["url"])
    except (ValueError, KeyError, TypeError):
        return None


def _is_loaded_without_mlflow(folder: Path) -> bool:
    from ..serving.loaders import mlflow_direct

    return mlflow_direct.is_direct(folder)
