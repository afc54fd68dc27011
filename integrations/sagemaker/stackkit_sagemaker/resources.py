"""The models, endpoint configurations and the endpoint of a service in SageMaker.

All of them are found by their names, and only what bears the service's tag is ever removed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from stackkit.errors import DeploymentError

from .clients import Clients
from .errors import gone_before, is_missing, is_refusal, there_before
from .names import ENDPOINTS, SERVICE_TAG, endpoint_name

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

IN_TRANSITION = ("Creating", "Updating", "SystemUpdating", "RollingBack")
"""In these statuses SageMaker neither deletes an endpoint nor changes it otherwise."""


@dataclass(frozen=True)
class Resource:
    """A model or an endpoint configuration."""

    name: str
    arn: str


class Resources:
    """Every method raises PlatformUnavailableError and DeploymentError."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    # The endpoint

    def describe_endpoint(self, service_id: str) -> dict[str, Any] | None:
        """SageMaker's description of the service's endpoint; None when there is none."""
        with self._clients.calling("The endpoint cannot be looked at"):
            try:
                return dict(self._sagemaker.describe_endpoint(EndpointName=endpoint_name(service_id)))
            except ClientError as error:
                if is_missing(error):
                    return None
                raise

    def endpoint_names(self) -> set[str]:
        """The names of all our endpoints, whosever services they are."""
        with self._clients.calling("The endpoints cannot be listed"):
            pages = self._sagemaker.get_paginator("list_endpoints").paginate(NameContains=ENDPOINTS)
            return {found["EndpointName"] for page in pages for found in page["Endpoints"]}

    def create_endpoint(self, service_id: str, config_name: str, tags: list[Any]) -> bool:
        """Ask for the endpoint; False when there is one, which may be of this call: botocore asks again for an answer
        that was lost.
        """
        with self._clients.calling("The endpoint was not created"), there_before():
            self._sagemaker.create_endpoint(
                EndpointName=endpoint_name(service_id), EndpointConfigName=config_name, Tags=tags
            )
            return True
        return False

    def update_endpoint(
        self, service_id: str, config_name: str, deployment: dict[str, Any], *, keep_count: bool = False
    ) -> None:
        """Have the endpoint go over to another configuration, with as many instances as it has with ``keep_count``."""
        options: dict[str, Any] = {"DeploymentConfig": deployment} if deployment else {}
        if keep_count:
            others = ("DesiredWeight", "DataCaptureConfig")
            options["RetainAllVariantProperties"] = True
            options["ExcludeRetainedVariantProperties"] = [{"VariantPropertyType": other} for other in others]
        with self._clients.calling("The endpoint was not updated"):
            self._sagemaker.update_endpoint(
                EndpointName=endpoint_name(service_id), EndpointConfigName=config_name, **options
            )

    def weigh(self, service_id: str, weights: Mapping[str, float]) -> None:
        """Give the endpoint's variants other shares of the requests, by their names."""
        with self._clients.calling("The endpoint's weights were not changed"):
            self._sagemaker.update_endpoint_weights_and_capacities(
                EndpointName=endpoint_name(service_id),
                DesiredWeightsAndCapacities=[
                    {"VariantName": name, "DesiredWeight": weight} for name, weight in weights.items()
                ],
            )

    def delete_endpoint(self, service_id: str, found: Mapping[str, Any]) -> None:
        """Ask for the end of the endpoint that ``found`` describes.

        A no-op when it is gone, and while SageMaker deletes no endpoint that is being created or changed: it can be
        asked again later.
        """
        if found["EndpointStatus"] == "Deleting":
            return
        self._refuse_foreign("endpoint", Resource(found["EndpointName"], found["EndpointArn"]), service_id)
        with self._clients.calling("The endpoint was not deleted"):
            try:
                self._sagemaker.delete_endpoint(EndpointName=found["EndpointName"])
            except ClientError as error:
                if not is_missing(error) and not (found["EndpointStatus"] in IN_TRANSITION and is_refusal(error)):
                    raise

    # The models and endpoint configurations of the revisions

    def create_model(self, body: dict[str, Any], secrets: Collection[str]) -> None:
        """Create a model; a no-op when there is one of that name, which holds just this.

        ``secrets`` are the texts in it that no error may show.
        """
        with self._clients.calling("The model was not created in SageMaker", secrets), there_before():
            self._sagemaker.create_model(**body)

    def create_endpoint_config(self, body: dict[str, Any]) -> None:
        """Create an endpoint configuration; a no-op when there is one of that name, which holds just this."""
        with self._clients.calling("The endpoint configuration was not created"), there_before():
            self._sagemaker.create_endpoint_config(**body)

    def describe_config(self, name: str) -> dict[str, Any]:
        """SageMaker's description of an endpoint configuration."""
        with self._clients.calling("The endpoint configuration cannot be looked at"):
            return dict(self._sagemaker.describe_endpoint_config(EndpointConfigName=name))

    def tag_config(self, name: str, tags: Mapping[str, str]) -> None:
        """Add tags to an endpoint configuration; those that it has already get the new value."""
        with self._clients.calling("The endpoint configuration was not tagged"):
            self._sagemaker.add_tags(
                ResourceArn=self._config_arn(name), Tags=[{"Key": key, "Value": tags[key]} for key in tags]
            )

    def config_tags(self, name: str) -> dict[str, str]:
        """The tags of an endpoint configuration by their keys; empty when there is none of that name."""
        return self._tags("endpoint configuration", self._config_arn(name)) or {}

    def container_of(self, model_name: str) -> Mapping[str, Any]:
        """The container of a model, as it was given; empty when there is no such model."""
        with self._clients.calling("The model in SageMaker cannot be looked at"):
            try:
                return self._sagemaker.describe_model(ModelName=model_name).get("PrimaryContainer", {})
            except ClientError as error:
                if is_missing(error):
                    return {}
                raise

    def remove_revisions(self, service_id: str, keep: Collection[str] = ()) -> None:
        """Remove the service's endpoint configurations, and then its models, but for the names in ``keep``.

        Raises DeploymentError for one that bears our name and not our tag, before it would remove it.
        """
        for config in self._configs(service_id):
            if config.name not in keep:
                self._remove_config(config, service_id)
        for model in self._models(service_id):
            if model.name not in keep:
                self._refuse_foreign("model", model, service_id)
                with self._clients.calling("The model was not deleted from SageMaker"), gone_before():
                    self._sagemaker.delete_model(ModelName=model.name)

    def remove_revision(self, service_id: str, name: str) -> None:
        """Remove the endpoint configuration and then the model of that name; a no-op for what is not there.

        Raises as ``remove_revisions`` does.
        """
        with self._clients.calling("The endpoint configuration was not deleted"), gone_before():
            found = self._sagemaker.describe_endpoint_config(EndpointConfigName=name)
            self._remove_config(Resource(name, found["EndpointConfigArn"]), service_id)
        self.remove_model(name, service_id)

    def remove_model(self, name: str, owner: str) -> None:
        """Remove one model, which must bear the tag of ``owner``; a no-op when there is none of that name."""
        with self._clients.calling("The model was not deleted from SageMaker"), gone_before():
            found = self._sagemaker.describe_model(ModelName=name)
            self._refuse_foreign("model", Resource(name, found["ModelArn"]), owner)
            self._sagemaker.delete_model(ModelName=name)

    @property
    def _sagemaker(self) -> SageMakerClient:
        return self._clients.sagemaker

    def _remove_config(self, config: Resource, service_id: str) -> None:
        self._refuse_foreign("endpoint configuration", config, service_id)
        with self._clients.calling("The endpoint configuration was not deleted"), gone_before():
            self._sagemaker.delete_endpoint_config(EndpointConfigName=config.name)

    def _configs(self, service_id: str) -> list[Resource]:
        with self._clients.calling("The endpoint configurations cannot be listed"):
            pages = self._sagemaker.get_paginator("list_endpoint_configs").paginate(
                NameContains=endpoint_name(service_id)
            )
            found = [each for page in pages for each in page["EndpointConfigs"]]
        return list(_ours(service_id, ((each["EndpointConfigName"], each["EndpointConfigArn"]) for each in found)))

    def _models(self, service_id: str) -> list[Resource]:
        with self._clients.calling("The models in SageMaker cannot be listed"):
            pages = self._sagemaker.get_paginator("list_models").paginate(NameContains=endpoint_name(service_id))
            found = [each for page in pages for each in page["Models"]]
        return list(_ours(service_id, ((each["ModelName"], each["ModelArn"]) for each in found)))

    def _refuse_foreign(self, what: str, resource: Resource, service_id: str) -> None:
        tags = self._tags(what, resource.arn)
        if tags is not None and tags.get(SERVICE_TAG) != service_id:
            raise DeploymentError(
                f"The {what} {resource.name} was not made by stackkit: it lacks the tag {SERVICE_TAG}={service_id}.",
                "Remove it yourself, or give it that tag if it is this service's.",
            )

    def _tags(self, what: str, arn: str) -> dict[str, str] | None:
        """The tags of a resource by their keys; None when there is no such resource."""
        with self._clients.calling(f"The tags of the {what} cannot be read"):
            try:
                pages = self._sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn)
                return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
            except ClientError as error:
                if is_missing(error):
                    return None
                raise

    def _config_arn(self, name: str) -> str:
        caller, region = self._clients.caller(), self._sagemaker.meta.region_name
        return f"arn:{caller.partition}:sagemaker:{region}:{caller.account}:endpoint-config/{name}"


def _ours(service_id: str, found: Iterator[tuple[str, str]]) -> Iterator[Resource]:
    for name, arn in found:
        if name.startswith(f"{endpoint_name(service_id)}-"):  # SageMaker looks for it anywhere in a name
            yield Resource(name, arn)
