"""AWS on this machine: moto's server, extended where moto 5.2 knows less than SageMaker does. Run as a process.

It prints its URL and ends when its standard input does. What it has beyond moto:

- names are taken: moto silently replaces a model, configuration or endpoint of the same name, SageMaker refuses;
- endpoints take time to be created, updated and deleted. Time passes by being looked at: each DescribeEndpoint is a
  tick of the clock, and nothing ever sleeps;
- an endpoint cannot be deleted while it is being created or updated, and a configuration not while it is in use;
- UpdateEndpoint, which moto answers with 500: a container image whose name has "broken" in it fails its health check,
  and the endpoint goes back to what it served;
- all instance types that botocore knows;
- a role whose name has "untrusted" in it cannot be assumed;
- UpdateEndpointWeightsAndCapacities takes a weight alone, or a count alone, and takes time as an update does;
- a variant whose scaling is registered can be neither removed nor changed in its type; one that is registered no more
  takes its policies with it, and what is not registered is refused as what AWS calls it. The variants of an endpoint
  that is deleted are registered no more;
- an update with a deployment configuration keeps the names of the variants;
- transform jobs take time, can fail and be stopped, and their names are taken;
- EnableNetworkIsolation and AsyncInferenceConfig are remembered, and ListModels heeds NameContains;
- InvokeEndpoint gives the inputs back, and refuses an input that has "boom" in it as a model server would;
- endpoints write a log;
- PUT /extended tells how many ticks things take, and which calls fail how often with which code; one that "is_done"
  fails after all is done, as when an answer is lost.
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

from botocore.loaders import create_loader
from moto.applicationautoscaling.models import ApplicationAutoscalingBackend, applicationautoscaling_backends
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.logs.models import logs_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import FakeEndpoint, FakeEndpointConfig, SageMakerModelBackend, sagemaker_backends
from moto.sagemaker.responses import SageMakerResponse
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse
from werkzeug.serving import WSGIRequestHandler, make_server

settings: dict[str, Any] = {"ticks": 1, "faults": {}}
SHAPES = create_loader().load_service_model("sagemaker", "service-2")["shapes"]
INSTANCE_TYPES: list[str] = SHAPES["ProductionVariantInstanceType"]["enum"]
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
UNHEALTHY = "The primary container for production variant AllTraffic did not pass the ping health check."


def refuse_taken(method: str, held: str, what: str) -> None:
    """Have a method that creates something refuse a name that is taken."""
    create = getattr(SageMakerModelBackend, method)

    def checked(backend: Any, **given: Any) -> Any:
        name = given[f"{what.replace(' ', '_')}_name"]
        if name in getattr(backend, held):
            raise ValidationError(message=f'Cannot create already existing {what} "{name}".')
        if "untrusted" in (given.get("execution_role_arn") or ""):
            raise ValidationError(
                message=f"Could not assume role {given['execution_role_arn']}. Please ensure that the role exists and "
                "allows principal 'sagemaker.amazonaws.com' to assume the role."
            )
        return create(backend, **given)

    setattr(SageMakerModelBackend, method, checked)


def validate_instance_type(config: Any, instance_type: str) -> None:
    if instance_type not in INSTANCE_TYPES:
        raise ValidationError(
            message=f"1 validation error detected: Value '{instance_type}' at "
            "'productionVariants.1.member.instanceType' failed to satisfy constraint: Member must satisfy enum value "
            f"set: [{', '.join(INSTANCE_TYPES)}]"
        )


def touch(endpoint: Any) -> None:
    endpoint.last_modified_time += timedelta(seconds=1)


def begin(endpoint: Any, status: str, finish: Callable[[], None]) -> None:
    """Put the endpoint into a passing status, at the end of which ``finish`` is called."""
    endpoint.endpoint_status = status
    endpoint._finish, endpoint._ticks = finish, 0
    touch(endpoint)


def is_broken(backend: Any, config_name: str) -> bool:
    variants = backend.endpoint_configs[config_name].production_variants
    return any("broken" in backend._models[each["ModelName"]].primary_container["Image"] for each in variants)


def log(backend: Any, name: str, *lines: str) -> None:
    group, stream = f"/aws/sagemaker/Endpoints/{name}", "AllTraffic/i-0123456789"
    logs = logs_backends[backend.account_id][backend.region_name]
    if group not in logs.groups:
        logs.create_log_group(group, {})
        logs.create_log_stream(group, stream)
    now = int(utcnow().timestamp() * 1000)
    logs.put_log_events(group, stream, [{"timestamp": now, "message": line} for line in lines])


def create_endpoint(backend: Any, **given: Any) -> Any:
    endpoint = moto_create_endpoint(backend, **given)
    name, config = endpoint.endpoint_name, endpoint.endpoint_config_name

    def finish() -> None:
        broken = is_broken(backend, config)
        endpoint.endpoint_status = "Failed" if broken else "InService"
        endpoint.failure_reason = UNHEALTHY if broken else None
        log(backend, name, "loading the model", "the model cannot be loaded" if broken else "serving")

    begin(endpoint, "Creating", finish)
    return endpoint


def update_endpoint(
    backend: Any, endpoint_name: str, endpoint_config_name: str, deployment: Any, keep_count: bool
) -> Any:
    backend.describe_endpoint_config(endpoint_config_name)
    endpoint = existing(backend, endpoint_name)
    if endpoint.endpoint_status != "InService":
        raise ValidationError(message=f'Cannot update in-progress endpoint "{endpoint.arn}".')
    refuse_change_of_variants(backend, endpoint, endpoint_config_name, deployment)
    endpoint.last_deployment_config = deployment
    endpoint.failure_reason = None
    endpoint.pending_deployment_summary = {
        "EndpointConfigName": endpoint_config_name,
        "ProductionVariants": [
            {"VariantName": each["VariantName"], "VariantStatus": [{"Status": "Baking", "StatusMessage": "2 of 3"}]}
            for each in endpoint.production_variants
        ],
    }

    def finish() -> None:
        endpoint.endpoint_status, endpoint.pending_deployment_summary = "InService", None
        if is_broken(backend, endpoint_config_name):
            endpoint.failure_reason = UNHEALTHY
        else:
            endpoint.endpoint_config_name = endpoint_config_name
            before = {each["VariantName"]: each for each in endpoint.production_variants}
            variants = backend.endpoint_configs[endpoint_config_name].production_variants
            endpoint.production_variants = endpoint._process_production_variants(variants)
            for each in endpoint.production_variants if keep_count else ():
                for count in ("CurrentInstanceCount", "DesiredInstanceCount"):
                    each[count] = before.get(each["VariantName"], each)[count]

    begin(endpoint, "Updating", finish)
    return endpoint


def refuse_change_of_variants(backend: Any, endpoint: Any, config_name: str, deployment: Any) -> None:
    """Refuse what SageMaker refuses of an update to another configuration."""
    was, will = (
        {each["VariantName"]: each.get("InstanceType") for each in backend.endpoint_configs[name].production_variants}
        for name in (endpoint.endpoint_config_name, config_name)
    )
    if deployment and was.keys() != will.keys():
        raise ValidationError(message="The variant names of the new endpoint configuration are others.")
    scaled = {resource.rpartition("/")[2] for resource in scaled_variants(backend, endpoint.endpoint_name)}
    changed = sorted(name for name in was if name in scaled and will.get(name) != was[name])
    if changed:
        raise ValidationError(
            message=f"The variant(s) {changed} must be deregistered as scalable targets with AWS Auto Scaling before "
            "they can be removed or have their instance type updated."
        )


def autoscaling_of(backend: Any) -> Any:
    return applicationautoscaling_backends[backend.account_id][backend.region_name]


def scaled_variants(backend: Any, endpoint_name: str) -> list[str]:
    """The resource IDs of the endpoint's variants whose scaling is registered."""
    registered = autoscaling_of(backend).targets.get(DIMENSION, {})
    return [resource for resource in registered if resource.startswith(f"endpoint/{endpoint_name}/")]


def deregister(backend: Any, namespace: str, r_id: str, dimension: str) -> None:
    if not backend._scalable_target_exists(r_id, dimension):
        raise NotRegistered(f"No scalable target found for service namespace: {namespace}, resource ID: {r_id}")
    for policy in [policy for policy in backend.policies.values() if policy.resource_id == r_id]:
        backend.delete_scaling_policy(policy.policy_name, namespace, r_id, dimension)
    moto_deregister(backend, namespace, r_id, dimension)


class NotRegistered(JsonRESTError):
    def __init__(self, message: str) -> None:
        super().__init__("ObjectNotFoundException", message)


def weigh(backend: Any, endpoint_name: str, desired_weights_and_capacities: list[dict[str, Any]]) -> str:
    endpoint = existing(backend, endpoint_name)
    if endpoint.endpoint_status != "InService":
        raise ValidationError(message=f'Cannot update in-progress endpoint "{endpoint.arn}".')
    variants = {each["VariantName"]: each for each in endpoint.production_variants}
    changed = [
        (variants[wanted["VariantName"]], what, wanted[f"Desired{what}"])
        for wanted in desired_weights_and_capacities
        for what in ("Weight", "InstanceCount")
        if f"Desired{what}" in wanted
    ]
    for variant, what, value in changed:
        variant[f"Desired{what}"] = value

    def finish() -> None:
        endpoint.endpoint_status = "InService"
        for variant, what, value in changed:
            variant[f"Current{what}"] = value

    begin(endpoint, "Updating", finish)
    return str(endpoint.arn)


def describe_endpoint(backend: Any, endpoint_name: str) -> Any:
    endpoint = backend.endpoints.get(endpoint_name)
    if endpoint is not None and endpoint._finish is not None:
        if endpoint._ticks >= settings["ticks"]:
            finish, endpoint._finish = endpoint._finish, None
            finish()
            touch(endpoint)
        else:
            endpoint._ticks += 1
    return moto_describe_endpoint(backend, endpoint_name)


def delete_endpoint(backend: Any, endpoint_name: str) -> None:
    endpoint = existing(backend, endpoint_name)
    if endpoint.endpoint_status in ("Creating", "Updating"):
        raise ValidationError(message=f'Cannot delete endpoint "{endpoint.arn}": {endpoint.endpoint_status}.')
    for resource in scaled_variants(backend, endpoint_name):
        deregister(autoscaling_of(backend), "sagemaker", resource, DIMENSION)
    begin(endpoint, "Deleting", lambda: backend.endpoints.pop(endpoint_name))


def delete_endpoint_config(backend: Any, endpoint_config_name: str) -> None:
    for endpoint in backend.endpoints.values():
        pending = (endpoint.pending_deployment_summary or {}).get("EndpointConfigName")
        if endpoint_config_name in (endpoint.endpoint_config_name, pending):
            raise ValidationError(message=f"The endpoint {endpoint.endpoint_name} is using {endpoint_config_name}.")
    moto_delete_endpoint_config(backend, endpoint_config_name)


def delete_model(backend: Any, model_name: str) -> None:
    for config in backend.endpoint_configs.values():
        if any(each["ModelName"] == model_name for each in config.production_variants):
            raise ValidationError(message=f"The configuration {config.endpoint_config_name} is using {model_name}.")
    moto_delete_model(backend, model_name)


def existing(backend: Any, endpoint_name: str) -> Any:
    if endpoint_name not in backend.endpoints:
        raise ValidationError(message=f'Could not find endpoint "{endpoint_name}".')
    return backend.endpoints[endpoint_name]


def respond_create_model(response: Any) -> Any:
    result = moto_respond_create_model(response)
    model = response.sagemaker_backend._models[response._get_param("ModelName")]
    model.enable_network_isolation = bool(response._get_param("EnableNetworkIsolation"))
    return result


def respond_list_models(response: Any) -> Any:
    part = response._get_param("NameContains") or ""
    found = [model for model in response.sagemaker_backend.list_models() if part in model.model_name]
    return ActionResult({"Models": [model.response_object for model in found]})


def respond_update_endpoint(response: Any) -> Any:
    names = ("EndpointName", "EndpointConfigName", "DeploymentConfig", "RetainAllVariantProperties")
    endpoint = update_endpoint(response.sagemaker_backend, *map(response._get_param, names))
    return ActionResult({"EndpointArn": endpoint.arn})


def create_transform_job(backend: Any, **given: Any) -> Any:
    name, model = given["transform_job_name"], given["model_name"]
    if name in backend.transform_jobs:
        raise ValidationError(message=f"Job name must be unique within an AWS account and region: {name}")
    if model not in backend._models:
        raise ValidationError(message=f'Could not find model "{model}".')
    job = moto_create_transform_job(backend, **given)
    job.transform_job_status, job.transform_end_time = "InProgress", None
    job._ticks, job._image = 0, backend._models[model].primary_container["Image"]
    return job


def describe_transform_job(backend: Any, transform_job_name: str) -> Any:
    job = backend.transform_jobs.get(transform_job_name)
    if job is None:
        raise ValidationError(message=f'Could not find requested job with name: "{transform_job_name}"')
    if job.transform_job_status in ("InProgress", "Stopping"):
        if job._ticks >= settings["ticks"]:
            end_transform_job(job)
        job._ticks += 1
    return job.response_object


def end_transform_job(job: Any) -> None:
    job.transform_end_time = utcnow()
    if job.transform_job_status == "Stopping":
        job.transform_job_status = "Stopped"
    elif "broken" in job._image:
        job.transform_job_status, job.failure_reason = "Failed", UNHEALTHY
    else:
        job.transform_job_status = "Completed"


def respond_stop_transform_job(response: Any) -> Any:
    job = response.sagemaker_backend.transform_jobs[response._get_param("TransformJobName")]
    if job.transform_job_status != "InProgress":
        raise ValidationError(message=f"The request was rejected: the job is {job.transform_job_status}.")
    job.transform_job_status, job._ticks = "Stopping", 0
    return EmptyResult()


def respond_invoke(response: Any) -> Any:
    backend = sagemaker_backends[response.current_account][response.region]
    name = response.path.split("/")[2]
    endpoint = backend.endpoints.get(name)
    body = response.body if isinstance(response.body, bytes) else str(response.body).encode()
    if endpoint is None or endpoint.endpoint_status not in ("InService", "Updating"):
        return (
            400,
            {"status": 400, "x-amzn-ErrorType": "ValidationError"},
            json.dumps({"message": f"Endpoint {name} not found."}),
        )
    if b"boom" in body:
        told = json.dumps({"error_code": "BAD_REQUEST", "message": "boom is no number"})
        answer = {"Message": "Received client error", "OriginalStatusCode": 400, "OriginalMessage": told}
        return 424, {"status": 424, "x-amzn-ErrorType": "ModelError"}, json.dumps(answer)
    headers = {key.lower(): value for key, value in response.headers.items()}
    if headers.get("content-type") == "text/csv":
        return 200, {"Content-Type": "text/csv"}, body
    asked = json.loads(body)
    given = next(asked[key] for key in ("inputs", "instances", "dataframe_split") if key in asked)
    return 200, {"Content-Type": "application/json"}, json.dumps({"predictions": given})


class Faults:
    """Lets calls fail as they were told to, and hands the others on."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/extended":
            settings.update(json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
            start("200 OK", [("Content-Length", "0")])
            return []
        operation, is_json = operation_of(environ)
        fault = settings["faults"].get(operation)
        if fault is None or fault["times"] <= 0:
            return self._inner(environ, start)
        fault["times"] -= 1
        if fault.get("is_done"):
            list(self._inner(environ, lambda status, headers, *error: None))
        code, words = fault["code"], fault.get("message", fault["code"])
        told = json.dumps({"__type": code, "message": words}) if is_json else XML_ERROR.format(code=code, words=words)
        body = told.encode()
        kind = "application/x-amz-json-1.1" if is_json else "text/xml"
        start("400 Bad Request", [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]


XML_ERROR = "<ErrorResponse><Error><Code>{code}</Code><Message>{words}</Message></Error></ErrorResponse>"


def operation_of(environ: dict[str, Any]) -> tuple[str, bool]:
    """Which call this is, and whether it speaks JSON; the older services speak forms and XML."""
    if "HTTP_X_AMZ_TARGET" in environ:
        return environ["HTTP_X_AMZ_TARGET"].partition(".")[2], True
    if not environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        return "", True
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return dict(parse_qsl(body.decode())).get("Action", ""), False


class Quiet(WSGIRequestHandler):
    def log(self, *args: Any) -> None:
        pass


moto_create_transform_job = SageMakerModelBackend.create_transform_job
moto_deregister = ApplicationAutoscalingBackend.deregister_scalable_target
moto_create_endpoint = SageMakerModelBackend.create_endpoint
moto_describe_endpoint = SageMakerModelBackend.describe_endpoint
moto_delete_endpoint_config = SageMakerModelBackend.delete_endpoint_config
moto_delete_model = SageMakerModelBackend.delete_model
moto_respond_create_model = SageMakerResponse.create_model


def extend() -> None:
    FakeEndpoint._finish = None
    FakeEndpoint._ticks = 0
    FakeEndpoint.pending_deployment_summary = None
    FakeEndpoint.last_deployment_config = None
    FakeEndpointConfig.validate_instance_type = validate_instance_type
    ApplicationAutoscalingBackend.deregister_scalable_target = deregister
    SageMakerModelBackend.update_endpoint_weights_and_capacities = weigh
    SageMakerModelBackend.create_transform_job = create_transform_job
    SageMakerModelBackend.describe_transform_job = describe_transform_job
    SageMakerModelBackend.create_endpoint = create_endpoint
    SageMakerModelBackend.describe_endpoint = describe_endpoint
    SageMakerModelBackend.delete_endpoint = delete_endpoint
    SageMakerModelBackend.delete_endpoint_config = delete_endpoint_config
    SageMakerModelBackend.delete_model = delete_model
    refuse_taken("create_model", "_models", "model")
    refuse_taken("create_endpoint_config", "endpoint_configs", "endpoint config")
    refuse_taken("create_endpoint", "endpoints", "endpoint")
    SageMakerResponse.create_model = respond_create_model
    SageMakerResponse.list_models = respond_list_models
    SageMakerResponse.update_endpoint = respond_update_endpoint
    SageMakerResponse.stop_transform_job = respond_stop_transform_job
    SageMakerRuntimeResponse.invoke_endpoint = respond_invoke


def main() -> None:
    extend()
    server = make_server(
        "127.0.0.1", 0, Faults(DomainDispatcherApplication(create_backend_app)), threaded=True, request_handler=Quiet
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.port}", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
