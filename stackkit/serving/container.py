"""``serve``, the way a container starts: what to serve and how is said by the environment, for want of a command line.

SageMaker runs ``IMAGE serve`` with the model in ``/opt/ml/model``, and asks ``/ping`` and ``/invocations`` on port 8080
(docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html). Nothing in that is SageMaker's alone: the
same image starts under Docker, Kubernetes, Knative and whatever else names the port in ``PORT``. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping

COMMAND = "serve"
FETCH = "fetch"
HAND_OVER = "hand-over"
HANDOVER_FOLDER = "/var/lib/stackkit"
"""Where a volume can be mounted through which the container takes over other models; see ``handover``."""
MODEL_FOLDER = "/opt/ml/model"
PORT = "8080"
PREFIX = "STACKKIT_SERVING_"

_OPTIONS = frozenset(
    {
        "model",
        "host",
        "port",
        "workers",
        "request_timeout",
        "max_body",
        "batching",
        "max_batch_size",
        "casting",
        "log_format",
        "token_file",
        "certfile",
        "keyfile",
        "model_name",
        "model_digest",
        "format",
        "gpus",
        "handover",
    }
)

_PLATFORMS = {
    "PORT": "port",
    "SAGEMAKER_BIND_TO_PORT": "port",
    "SAGEMAKER_MODEL_SERVER_WORKERS": "workers",
    "SAGEMAKER_MODEL_SERVER_TIMEOUT": "request_timeout",
}
"""What platforms call some of the options; of two names for one, the later is the nearer to us and wins."""


class UnknownOptionError(ValueError):
    """A variable bears our prefix and names no option."""


def defaults(environment: Mapping[str, str]) -> dict[str, str]:
    """The options by the name of their argument, as text. A variable that is empty counts as not set.

    Raises UnknownOptionError: a setting that is misspelled and left out would be found by its absence alone.
    """
    # every address: what may reach the container is for its network to say
    options = {"model": MODEL_FOLDER, "host": "0.0.0.0", "port": PORT}  # noqa: S104
    options |= {option: environment[name] for name, option in _PLATFORMS.items() if environment.get(name)}
    for name in sorted(environment):
        if name.startswith(PREFIX) and environment[name]:
            option = name.removeprefix(PREFIX).lower()
            if option not in _OPTIONS:
                known = ", ".join(sorted(PREFIX + each.upper() for each in _OPTIONS))
                raise UnknownOptionError(f"{name} is no option of the server's: expected one of {known}")
            options[option] = environment[name]
    return options
