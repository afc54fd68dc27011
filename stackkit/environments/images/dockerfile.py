"""The Dockerfile of a model's image: requirements first, then the serving runtime, then the model.

It keeps to what every builder understands: it needs no BuildKit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...serving import container
from .context import SOURCE_DATE

MODEL_FOLDER = "/opt/stackkit/model"
BUILD_FOLDER = "/build"
CA_BUNDLE = "ca-bundle.pem"

BUILD_ARGUMENTS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT", "PIP_RETRIES")
"""pip's settings that mean the same inside a build; proxies are build arguments of every Dockerfile."""

USER = "1000:1000"
"""Numeric, so that Kubernetes can tell that it is not root; it owns nothing, and any other user will do."""

_ENVIRONMENT = "/opt/stackkit/environment"
_PYTHON = f"{_ENVIRONMENT}/bin/python"

# What the image gets of a stage lies there as in its root folder, and is copied as that: so every folder in a layer has
# the time that is set here, and two builds give the same layers.
_LAYER = "/layer"

_VERSION = "$(python -c 'import sys; print(*sys.version_info[:2], sep=\".\")')"
_PACKAGES = f"{_ENVIRONMENT}/lib/python{_VERSION}/site-packages"


@dataclass(frozen=True)
class ImageSettings:
    """What one model's Dockerfile says. ``python`` is the version that the base image must have, such as ``3.11``, None
    for any; ``requirements`` are the files in ``requirements/`` to install from, one after the other; ``serving`` are
    variables that the server reads at its start.
    """

    base_image: str
    python: str | None
    requirements: Sequence[str]
    has_model: bool
    serving: Mapping[str, str]
    labels: Mapping[str, str]


def render(settings: ImageSettings) -> str:
    """The text of the Dockerfile, for a context with ``requirements/``, ``runtime/`` and, if it has one, ``model/``,
    which holds the model as it lies in the image: in ``model/opt/stackkit/model/``.
    """
    base = settings.base_image
    parts = [
        f"FROM {base} AS environment",
        *([_check_python(settings.python)] if settings.python else []),
        "# For this stage alone: nothing of them is in the image.",
        *(f"ARG {name}" for name in (*BUILD_ARGUMENTS, "PIP_CERT")),
        f"COPY requirements {BUILD_FOLDER}/",
        _run(
            f"python -m venv --without-pip {_ENVIRONMENT}",
            *(
                f"python -m pip --python {_PYTHON} install --no-cache-dir --no-compile --disable-pip-version-check"
                f" --requirement {BUILD_FOLDER}/{name}"
                for name in settings.requirements
            ),
            f"{{ {_compile(_ENVIRONMENT)} || true; }}",  # some packages bring files along that are no Python
            *_make_layer(_ENVIRONMENT, _ENVIRONMENT),
        ),
        "",
        f"FROM {base} AS runtime",
        f"COPY runtime {BUILD_FOLDER}/",
        # what is compiled names the place that it will have, for tracebacks
        _run(
            _compile(f"-s {BUILD_FOLDER} -p {_PACKAGES} {BUILD_FOLDER}"),
            # a volume that is mounted there may be written by whatever user the container runs as
            f"mkdir -p {_LAYER}{container.HANDOVER_FOLDER}",
            f"chmod 1777 {_LAYER}{container.HANDOVER_FOLDER}",
            *_make_layer(BUILD_FOLDER, _PACKAGES),
        ),
        "",
        f"FROM {base}",
        f"COPY --from=environment {_LAYER} /",
        f"COPY --from=runtime {_LAYER} /",
        # the root file system may be read-only, and the user may have no home
        _variables("ENV", {"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}),  # noqa: S108 - a container's own
        f"USER {USER}",
        f"EXPOSE {container.PORT}",
        "# Until ten minutes have passed, a model that still loads is no failure.",
        f"HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \\\n  CMD {_command('health_check')}",
        f"ENTRYPOINT {_command('')}",
        f"CMD {json.dumps([container.COMMAND])}",
        *(["COPY model /"] if settings.has_model else []),
        *([_variables("ENV", settings.serving)] if settings.serving else []),
        _variables("LABEL", settings.labels),
    ]
    return "\n".join(parts) + "\n"


def _check_python(version: str) -> str:
    major, minor = version.split(".")
    program = (
        f"import sys; found = sys.version_info[:2]; found == ({major}, {minor}) or sys.exit("
        f"'ERROR: the model asks for Python {version}, and the base image has %d.%d' % found)"
    )
    return f"RUN {json.dumps(['python', '-c', program])}"


def _compile(arguments: str) -> str:
    # hashed, not dated: files in an image do not change, and two builds then compile to the same bytes
    return f"PYTHONHASHSEED=0 python -m compileall -q --invalidation-mode unchecked-hash {arguments}"


def _make_layer(folder: str, place: str) -> list[str]:
    """Commands that make a layer in which what is in ``folder`` now has its ``place``."""
    return [
        f"mkdir -p {_LAYER}{place}",
        f"mv -T {folder} {_LAYER}{place}",
        f"find {_LAYER} -exec touch -h -d @{SOURCE_DATE} {{}} +",
    ]


def _run(*commands: str) -> str:
    return "RUN " + " \\\n && ".join(commands)


def _command(module: str) -> str:
    name = f"stackkit.serving.{module}" if module else "stackkit.serving"
    return json.dumps([_PYTHON, "-P", "-m", name])


def _variables(instruction: str, values: Mapping[str, str]) -> str:
    return f"{instruction} " + " \\\n  ".join(f"{name}={_quoted(value)}" for name, value in values.items())


def _quoted(value: str) -> str:
    for special in ("\\", '"', "$"):
        value = value.replace(special, f"\\{special}")
    return f'"{value}"'
