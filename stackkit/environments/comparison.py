"""How what a model asks for differs from the environment that this process runs in."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from .pip_lines import without_credentials
from .requirements import ModelRequirements
from .runtime import normalized

if TYPE_CHECKING:
    from packaging.requirements import Requirement


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
        if normalized(line) not in needless:
            yield from _of_line(line, needed=True)
    for line in requirements.constraints:
        yield from _of_line(line, needed=False)
    yield from (f"{package} (from conda)" for package in requirements.conda_packages)


def _of_line(line: str, *, needed: bool) -> Iterator[str]:
    from packaging.requirements import InvalidRequirement, Requirement  # half a tenth of a second, and often needless

    text = line.partition(" --")[0].strip()  # what follows are pip's own options for this one package
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        what = "a file of the model's" if text.startswith("/") else "which cannot be compared"
        yield f"{without_credentials(text)} ({what})"
    else:
        if wanted.marker is None or wanted.marker.evaluate():
            yield from _of_requirement(wanted, needed=needed)


def _of_requirement(wanted: Requirement, *, needed: bool) -> Iterator[str]:
    shown = without_credentials(f"{wanted.name} {wanted.url or wanted.specifier}".rstrip())
    try:
        installed = distribution(wanted.name)
    except PackageNotFoundError:
        if needed:
            yield f"{shown} (not here)"
        return
    if wanted.url is not None:
        fits = _origin(installed) == wanted.url
    else:
        fits = wanted.specifier.contains(installed.version, prereleases=True)
    if fits:
        yield from _of_extras(installed, wanted)
    else:
        yield f"{shown} (here {installed.version})"


def _of_extras(installed: Distribution, wanted: Requirement) -> Iterator[str]:
    """What the extras that are asked of a package, which is here, need beside it."""
    from packaging.requirements import Requirement

    for extra in sorted(wanted.extras):
        for line in installed.requires or ():
            needs = Requirement(line)
            marker = needs.marker
            if marker and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
                if normalized(needs.name) == normalized(wanted.name):  # it speaks of other extras of its own
                    needs.extras -= {extra}
                for found in _of_requirement(needs, needed=True):
                    yield f"{found}, for {wanted.name}[{extra}]"


def _origin(installed: Distribution) -> str | None:
    """The URL that a distribution was installed from, None for one that came from an index."""
    try:
        return str(json.loads(installed.read_text("direct_url.json") or "")["url"])
    except (ValueError, KeyError, TypeError):
        return None


def _is_loaded_without_mlflow(folder: Path) -> bool:
    from ..serving.loaders import mlflow_direct

    return mlflow_direct.is_direct(folder)
