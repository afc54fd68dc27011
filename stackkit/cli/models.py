"""``stackkit model-deployer models``: the model servers."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import PredictionError, StackkitError
from .attributes import key_values, typed
from .groups import Group
from .interaction import confirm_deletion, note, timeout_option, waiting, yes_option
from .output import Column, Section, as_text, columns_of, output_option, print_details, print_list

if TYPE_CHECKING:
    from ..model_deployers import Service

FIELDS = (
    "uuid",
    "service_name",
    "state",
    "target",
    "message",
    "since",
    "prediction_url",
    "model_name",
    "model_version",
    "model_uri",
    "model_digest",
    "pipeline_name",
    "pipeline_step_name",
    "run_name",
    "deployer",
    "flavor",
    "platform",
    "revision",
    "canary",
    "created",
    "updated",
    "config",
    "details",
)
"""What ``Service.as_dict`` gives, known without a service."""

_LISTED = ("state", "uuid", "pipeline_name", "pipeline_step_name", "model_name", "prediction_url")
HISTORY: tuple[str, ...] = ("at", "action", "outcome", "state", "actor", "message")
HISTORY_COLUMNS = [
    *columns_of(*HISTORY[:-1]),
    Column("message", text=lambda message: as_text(message and message.splitlines()[0])),  # without a log's end
]

_MARKS = {
    "active": "✅",
    "error": "❌",
    "inactive": "⏸",
    "scaled_to_zero": "⏸",
    "pending_startup": "⏳",
    "pending_shutdown": "⏳",
    "unknown": "❔",
}


_LAZY = {
    "update": ("stackkit.cli.revisions:update", "Give a server a new revision: what is not named stays as it is."),
    "promote": (
        "stackkit.cli.revisions:promote",
        "Have a server's canary serve alone, in the place of the revision beside it.",
    ),
    "abort": (
        "stackkit.cli.revisions:abort",
        "Remove a server's canary, so that the revision beside it serves alone again.",
    ),
    "rollback": (
        "stackkit.cli.revisions:rollback",
        "Have an earlier revision serve again, configuration and bytes, as a new one.",
    ),
    "history": (
        "stackkit.cli.revisions:history",
        "Show what happened to a server, by its whole UUID also when it is gone.",
    ),
    "manifest": (
        "stackkit.cli.manifests:manifest",
        "Print what a server is made of, in YAML, as the platform's own tool takes it.",
    ),
    "port-forward": ("stackkit.cli.forwarding:port_forward", "Open a local port that leads to a server, until Ctrl-C."),
    "transform": (
        "stackkit.cli.transforms:transform",
        "Run a model over data in the platform's storage, and print the job's name.",
    ),
    "transforms": ("stackkit.cli.transforms:transforms", "See, await and stop batch transforms."),
    "adopt": (
        "stackkit.cli.upkeep:adopt",
        "Give a server that runs and lost its row that row back; without UUID, list such servers.",
    ),
    "prune": ("stackkit.cli.upkeep:prune", "Delete the servers that have been in error or stopped for long."),
}


@click.group("models", cls=Group, lazy=_LAZY)
def models() -> None:
    """Deploy models and manage their servers.

    A UUID may be shortened as far as it stays the only one, or be the service's name.
    """


@models.command("list")
@click.option("--running", is_flag=True, help="Only those that answer.")
@click.option("--model-name", help="Only servers of this model.")
@click.option("--model-version", help="Only servers of this version of their model.")
@click.option("--pipeline-name", help="Only those that this pipeline deployed.")
@click.option("--step-name", help="Only those that a step of this name deployed.")
@click.option("--run-name", help="Only those that this pipeline run deployed.")
@click.option("--deployer", help="Only those of this model deployer.")
@click.option("--flavor", help="Only those of this flavor.")
@click.option("--refresh/--no-refresh", default=True, help="Ask the platforms, or show what is recorded.")
@click.option("--columns", metavar="FIELD,…|all", help="The fields to print.")
@output_option
def list_models(
    running: bool,
    step_name: str | None,
    deployer: str | None,
    refresh: bool,
    columns: str | None,
    output: str,
    **filters: Any,
) -> None:
    """List the model servers of every deployer, as their platforms see them now."""
    from ..client import Client
    from ..stack import ComponentType

    fields = _fields(columns)
    client = Client()
    found = client.servers.find(
        running=True if running else None,
        refresh=refresh,
        pipeline_step_name=step_name,
        deployer_id=client.components.get(ComponentType.MODEL_DEPLOYER, deployer).id if deployer else None,
        **filters,
    )
    filtered = running or step_name or deployer or any(filters.values())
    print_list(
        (service.as_dict() for service in found),
        output,
        columns=[_column(field) for field in fields or _LISTED],
        fields=fields or FIELDS,
        empty="No model server fits."
        if filtered
        else "There is no model server yet. "
        "Deploy a model: stackkit model-deployer models deploy --model-uri URI --model-name NAME",
    )


@models.command("deploy")
@click.option("--model-uri", help="The model: a path, models:/name/version, s3://…, module:attribute.")
@click.option("--model-name", required=True, help="The model's name.")
@click.option("--model-version", help="The model's version.")
@click.option("--deployer", help="The model deployer.  [default: the active stack's]")
@click.option("--service-name", help="Names the service, in place of pipeline, step and model.")
@click.option("--pipeline-name", help="The pipeline that deploys it.")
@click.option("--step-name", "pipeline_step_name", help="The step that deploys it.")
@click.option(
    "-c",
    "--config",
    metavar="KEY=VALUE",
    multiple=True,
    callback=key_values,
    help="A field of the flavor's services, which 'stackkit model-deployer flavor describe FLAVOR' lists;"
    " env.NAME=VALUE for one key of a nested one.",
)
@click.option("--replace", is_flag=True, help="Replace what is served under the same name with another configuration.")
@click.option("--dry-run", is_flag=True, help="Make nothing, and print the manifest of what would be made.")
@timeout_option
@output_option
def deploy(
    deployer: str | None,
    config: Mapping[str, str],
    replace: bool,
    dry_run: bool,
    timeout: float | None,
    output: str,
    **named: str | None,
) -> None:
    """Deploy a model, and wait until its server answers.

    Deploying the same again is a no-op. A server with another configuration is left alone unless --replace is given;
    it then keeps its UUID and its URL.
    """
    from ..client import Client
    from ..stack.configs import parse

    given = {name: value for name, value in named.items() if value is not None}
    if twice := sorted(given.keys() & config.keys()):
        raise click.UsageError(f"{twice[0]} is given twice: as an option of its own and with --config.")
    target = Client().model_deployer(deployer)
    fields = {**given, **typed(target.service_config_class, config)}
    if "model_uri" not in fields and target.service_config_class.model_fields["model_uri"].is_required():
        raise click.UsageError("Missing option '--model-uri'.")
    checked = parse(target.service_config_class, fields, f"a {target.record.flavor} service")
    if dry_run:
        with waiting(f"looking at {checked.display_name}") as progress:
            manifest = target.dry_run(checked, progress=progress)
        click.echo(manifest, nl=not manifest.endswith("\n"))
        return
    with waiting(f"deploying {checked.display_name}") as progress:
        service = target.deploy_model(checked, replace=replace, timeout=timeout, progress=progress)
    note(f"Deployed {service.name!r}: {service.prediction_url or service.status.state.value}")
    describe_service(service, output)


@models.command("describe")
@click.argument("uuid")
@output_option
def describe(uuid: str, output: str) -> None:
    """Show all that is known of a server, and what happened to it."""
    from ..client import Client

    client = Client()
    service = client.servers.get(uuid)
    history = [{field: event[field] for field in HISTORY} for event in client.servers.history(service.id)]
    print_details(
        {**service.as_dict(), "history": history},
        output,
        properties=_properties(service),
        sections=[Section("History", HISTORY_COLUMNS, history)],
    )


@models.command("get-url")
@click.argument("uuid")
def get_url(uuid: str) -> None:
    """Print where a server is asked for predictions."""
    from ..client import Client

    service = Client().servers.get(uuid)
    if service.prediction_url is None:
        raise PredictionError(
            f"The service {service.name!r} has no prediction URL: its state is {service.status.state.value}.",
            f"Start it: stackkit model-deployer models start {service.id[:8]}.",
        )
    click.echo(service.prediction_url)


@models.command("start")
@click.argument("uuid")
@timeout_option
@output_option
def start(uuid: str, timeout: float | None, output: str) -> None:
    """Start a server, and wait until it answers."""
    service = find(uuid)
    with waiting(f"starting {service.name}") as progress:
        service = service.deployer.start_model_server(service, timeout=timeout, progress=progress)
    note(f"Started {service.name!r}: {service.prediction_url or service.status.state.value}")
    describe_service(service, output)


@models.command("stop")
@click.argument("uuid")
@timeout_option
def stop(uuid: str, timeout: float | None) -> None:
    """Stop a server; it can be started again under the same URL."""
    service = find(uuid)
    with waiting(f"stopping {service.name}") as progress:
        service.deployer.stop_model_server(service, timeout=timeout, progress=progress)
    note(f"Stopped {service.name!r}.")


@models.command("delete")
@click.argument("uuid")
@yes_option
@click.option("--forget", is_flag=True, help="Drop it from the table alone: for a platform that no longer exists.")
@timeout_option
def delete(uuid: str, yes: bool, forget: bool, timeout: float | None) -> None:
    """Delete a server and all that was made for it."""
    from ..client import Client

    client = Client()
    service = client.servers.get(uuid, refresh=False)
    confirm_deletion(f"the model server {service.name!r} ({service.id})", yes)
    if forget:
        client.servers.forget(service.id, timeout=60 if timeout is None else timeout)
        note(f"Forgot {service.name!r}.")
        return
    with waiting(f"deleting {service.name}") as progress:
        service.deployer.delete_model_server(service, timeout=timeout, progress=progress)
    note(f"Deleted {service.name!r}.")


@models.command("logs")
@click.argument("uuid")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is still to come, until Ctrl-C.")
@click.option("--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
def logs(uuid: str, follow: bool, tail: int | None) -> None:
    """Print a server's log."""
    for line in find(uuid).logs(follow=follow, tail=tail):
        click.echo(line)


@models.command("predict")
@click.argument("uuid")
@click.option("-d", "--data", metavar="JSON", help='The data, or a whole request such as {"inputs": [[1, 2]]}.')
@click.option(
    "-i",
    "--input",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read the data from a .json or .csv file.",
)
def predict(uuid: str, data: str | None, file: Path | None) -> None:
    """Ask a server for predictions, and print them as JSON.

    The data is given by --data or --input, or else read as JSON from standard input.
    """
    from ..client import Client
    from .prediction_data import print_predictions, read_data

    given = read_data(data, file)
    print_predictions(Client().servers.get(uuid).predict(given))


def describe_service(service: Service, output: str) -> None:
    """Print a service as a verb leaves it."""
    print_details(service.as_dict(), output, properties=_properties(service))


def find(uuid: str) -> Service:
    """The service as it is recorded: a verb looks for itself."""
    from ..client import Client

    return Client().servers.get(uuid, refresh=False)


def _fields(columns: str | None) -> tuple[str, ...] | None:
    if columns is None:
        return None
    chosen = FIELDS if columns.strip() == "all" else tuple(name.strip() for name in columns.split(","))
    for name in chosen:
        if name not in FIELDS:
            nearest = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"there is: {', '.join(FIELDS)}."
            raise click.BadParameter(f"there is no column {name!r}; {hint}", param_hint="'--columns'")
    return chosen


def _column(field: str) -> Column:
    return Column(field, "STATUS", _marked) if field == "state" else Column(field)


def _marked(state: str) -> str:
    return f"{_MARKS[state]} {state}"


def _properties(service: Service) -> dict[str, Any]:
    """The rows of a description: what every service has, the rest of its configuration, and its flavor's own."""
    values, canary = service.as_dict(), service.canary
    head = {
        "MODEL_NAME": values["model_name"],
        "MODEL_URI": values["model_uri"],
        "PIPELINE_NAME": values["pipeline_name"],
        "RUN_NAME": values["run_name"],
        "PIPELINE_STEP_NAME": values["pipeline_step_name"],
        "PREDICTION_URL": values["prediction_url"],
        "STATUS": _marked(values["state"]),
        "STATUS_MESSAGE": values["message"],
        "UUID": values["uuid"],
        "SERVICE_NAME": values["service_name"],
        "MODEL_VERSION": values["model_version"],
        "DEPLOYER": values["deployer"],
        "FLAVOR": values["flavor"],
        "PLATFORM": values["platform"],
        "REVISION": values["revision"],
        "CANARY": canary and f"revision {canary.revision} answers about {canary.percent} % of the requests",
        "MODEL_DIGEST": values["model_digest"],
        "CREATED": values["created"],
    }
    config = {name.upper(): value for name, value in values["config"].items() if name.upper() not in head}
    info: Mapping[str, str] = {}
    with contextlib.suppress(StackkitError):  # a platform or a flavor that is out of reach: the rest is still told
        info = service.deployer.do_info(service)
    return {**head, **config, **info}
