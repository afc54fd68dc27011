"""What goes into a model's image: its requirements, the serving runtime, and the model's own files."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ... import __version__
from ...errors import ImageError
from ...serving.container import PREFIX
from .. import requirements, runtime
from ..files import ModelFile, list_files
from ..mlflow_models import is_mlflow_uri
from ..models import ResolvedModel
from ..python_references import PythonReference
from ..remote import PACKAGES
from ..requirements import ModelRequirements
from .context import BuildContext, ContextFile
from .dockerfile import CA_BUNDLE, MODEL_FOLDER, ImageSettings, render
from .requirements_files import requirements_files

LABEL_URI = "stackkit.model.uri"
LABEL_DIGEST = "stackkit.model.digest"

_IMAGE_NAME = re.compile(r"[A-Za-z0-9][\w.:/@-]*")
_FETCHED_BY_LIBRARY = frozenset({"http", "https"})  # the standard one


def default_base_image(asked: ModelRequirements) -> str:
    """The slim Python image of the version that a model asks for; without one, of the version that runs this."""
    version = asked.python_minor or ".".join(map(str, sys.version_info[:2]))
    return f"python:{version}-slim"


def make_context(
    model: ResolvedModel,
    *,
    base_image: str | None = None,
    fetch_at_start: bool = False,
    ca_bundle: bytes | None = None,
) -> BuildContext:
    """The build context of the model's image, a Dockerfile among its files; reads no more of the model than its names.

    ``base_image`` needs Python with venv and pip (None: ``default_base_image``). With ``fetch_at_start`` the model is
    not in the image, but fetched from its URI when a container starts. ``ca_bundle`` is for the build alone.

    Raises ImageError when there can be no such image, ModelError when a file cannot be read.
    """
    asked = requirements.read(model.reference, model.format)
    _refuse_impossible(model, asked)
    if base_image is not None and not _IMAGE_NAME.fullmatch(base_image):
        raise ImageError(f"{base_image!a} is no name of an image.", "Write it as NAME:TAG, such as python:3.11-slim.")
    base = base_image or default_base_image(asked)
    extra = _fetching_packages(model.uri) if fetch_at_start else []
    files = [] if fetch_at_start else _model_files(model)
    installed, requirements_of_it = requirements_files(asked, extra)
    settings = ImageSettings(
        base_image=base,
        python=asked.python_minor,
        requirements=installed,
        has_model=bool(files),
        serving=_fetched(model) if fetch_at_start else _baked_in(model, files),
        labels=_labels(model, base),
    )
    certificates = [ContextFile(f"requirements/{CA_BUNDLE}", len(ca_bundle), ca_bundle)] if ca_bundle else []
    return BuildContext(
        base,
        (
            ContextFile.of_text("Dockerfile", render(settings)),
            *requirements_of_it,
            *certificates,
            *(ContextFile.of_path(f"runtime/{name}", path) for name, path in sorted(runtime.files().items())),
            *(ContextFile(_in_context(file), file.size, file.path) for file in files),
        ),
    )


def shown_uri(model: ResolvedModel) -> str:
    """The model's URI without what follows a question mark, which may be a signature."""
    return model.uri.partition("?")[0] if "://" in model.uri else model.uri


def _refuse_impossible(model: ResolvedModel, asked: ModelRequirements) -> None:
    if not _source(model).exists():
        raise ImageError(
            f"{model.uri} is a module of this environment, which an image does not have.",
            "Put the model into a file of its own: ./model.py:attribute",
        )
    if asked.source is None and model.format != "python":
        raise ImageError(
            "The model says nothing of what it needs, so there can be no image of it.",
            "Put a requirements.txt beside it, or into its folder; pip freeze says what is installed here.",
        )
    if asked.conda_packages:
        raise ImageError(
            f"The model asks for packages that only conda can install: {', '.join(asked.conda_packages)}.",
            "Save it with requirements that pip can install: python_env.yaml or requirements.txt beside the model.",
        )
    if asked.python_minor is not None and _version(asked.python_minor) < runtime.REQUIRES_PYTHON:
        oldest = ".".join(map(str, runtime.REQUIRES_PYTHON))
        raise ImageError(
            f"The model asks for Python {asked.python}, and the model server needs {oldest} or newer.",
            f"Save the model with Python {oldest} or newer.",
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


# the model


def _source(model: ResolvedModel) -> Path:
    """The model's file or folder; of Python code the file."""
    path = Path(model.reference)
    named = None if path.exists() else PythonReference.parse(model.reference)
    return path if named is None else Path(named.target)


def _model_files(model: ResolvedModel) -> list[ModelFile]:
    return list_files(_source(model))


def _in_context(file: ModelFile) -> str:
    return f"model{MODEL_FOLDER}/{file.name}"


def _baked_in(model: ResolvedModel, files: list[ModelFile]) -> dict[str, str]:
    top = files[0].name.partition("/")[0]
    attribute = model.reference.removeprefix(str(_source(model)))  # with its colon; of most models there is none
    return {f"{PREFIX}MODEL": f"{MODEL_FOLDER}/{top}{attribute}"}


def _fetched(model: ResolvedModel) -> dict[str, str]:
    if "?" in model.uri:
        raise ImageError(
            f"{shown_uri(model)} is asked for with a query, which may be a signature, and would stand in the image.",
            f"Leave the query out, or set {PREFIX}MODEL to the whole address when you start the container.",
        )
    return {f"{PREFIX}MODEL": model.uri, f"{PREFIX}MODEL_DIGEST": model.digest}


def _fetching_packages(uri: str) -> list[str]:
    """What fetches a model from where it lies. Raises ImageError when nothing can, from inside a container."""
    protocol, separator, _ = uri.partition("://")
    if not separator or protocol == "file":
        raise ImageError(
            f"{uri} cannot be fetched when a container starts: it is {_whereabouts(uri)}.",
            "Name the model where it is stored (s3://…, gs://…, https://…), or have it baked in.",
        )
    if protocol in _FETCHED_BY_LIBRARY:
        return []
    return ["fsspec", *PACKAGES.get(protocol, "").split()]


def _whereabouts(uri: str) -> str:
    return "in MLflow's store, and the image has no MLflow" if is_mlflow_uri(uri) else "on this machine"


def _labels(model: ResolvedModel, base: str) -> dict[str, str]:
    return {
        "org.opencontainers.image.description": f"Model server for {shown_uri(model)}",
        "org.opencontainers.image.base.name": base,
        LABEL_URI: shown_uri(model),
        LABEL_DIGEST: model.digest,
        "stackkit.version": __version__,
        # the port may be chosen by SageMaker: several containers of one endpoint share their network
        "com.amazonaws.sagemaker.capabilities.accept-bind-to-port": "true",
    }
