"""Finding what AWS would refuse before anything is made there."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

import botocore
from botocore.exceptions import ClientError

from stackkit.errors import DeploymentError, InvalidConfigError

from .clients import Clients
from .errors import is_denied, is_missing

_SAGEMAKER, _TAKING_ON = "sagemaker.amazonaws.com", "sts:assumerole"


def check_instance_types(clients: Clients, types: Collection[str], *, shape: str) -> None:
    """Refuse a type that botocore's description of SageMaker does not name in ``shape``. Asks nobody.

    Raises InvalidConfigError that names those like it.
    """
    known: list[str] = clients.sagemaker.meta.service_model.shape_for(shape).enum  # type: ignore[attr-defined]
    for each in sorted(set(types) - set(known)):
        near = difflib.get_close_matches(each, known, n=3)
        meant = f"Did you mean {' or '.join(near)}? " if near else ""
        raise InvalidConfigError(
            f"SageMaker knows no instance type {each!r}.",
            f"{meant}If it is newer than botocore {botocore.__version__}: pip install --upgrade boto3.",
        )


def check_role(clients: Clients, arn: str) -> None:
    """Refuse an execution role that is not there, is another account's, or that SageMaker may not take on.

    A no-op where one may not look at roles: then SageMaker itself will tell. Raises DeploymentError.
    """
    account, name = arn.split(":")[4], arn.rpartition("/")[2]
    if account != (own := clients.caller().account):
        raise DeploymentError(
            f"The execution role {arn} is of the account {account}: SageMaker takes one of its own, {own}.",
            "Name a role of this account: execution_role_arn=….",
        )
    with clients.calling("The execution role cannot be looked at"):
        try:
            role: Mapping[str, Any] = clients.iam.get_role(RoleName=name)["Role"]
        except ClientError as error:
            if is_denied(error):
                return
            if not is_missing(error):
                raise
            raise DeploymentError(
                f"There is no role {name} in the account {own}.", "See which there are: aws iam list-roles."
            ) from error
    statements = role["AssumeRolePolicyDocument"]["Statement"]
    if not any(_lets_sagemaker(each) for each in ([statements] if isinstance(statements, dict) else statements)):
        raise DeploymentError(
            f"SageMaker may not take on the role {name}: it does not trust {_SAGEMAKER}.",
            f"Add that service to the role's trust policy, with the action sts:AssumeRole: "
            f"aws iam update-assume-role-policy --role-name {name}.",
        )


def check_alarms(clients: Clients, names: Collection[str]) -> None:
    """Refuse alarms that CloudWatch does not have: a rollout that they were to guard would have nothing to heed.

    A no-op where one may not look at alarms: then SageMaker itself will tell. Raises DeploymentError.
    """
    if not names:
        return
    with clients.calling("The rollout's alarms cannot be looked at"):
        try:
            found = clients.cloudwatch.describe_alarms(
                AlarmNames=list(names), AlarmTypes=["MetricAlarm", "CompositeAlarm"]
            )
        except ClientError as error:
            if is_denied(error):
                return
            raise
    known = {alarm["AlarmName"] for alarm in (*found["MetricAlarms"], *found["CompositeAlarms"])}
    if missing := sorted(set(names) - known):
        raise DeploymentError(
            f"CloudWatch has no alarm {' and no alarm '.join(missing)} to guard the rollout.",
            "Create it, or name others: -c rollout.alarms=…. See which there are: aws cloudwatch describe-alarms.",
        )


def _lets_sagemaker(statement: Mapping[str, Any]) -> bool:
    principal = statement.get("Principal", {})
    services = _listed("*" if principal == "*" else principal.get("Service", ()))
    actions = _listed(statement.get("Action", ()))
    return (
        statement.get("Effect") == "Allow"
        and not {_SAGEMAKER, "*"}.isdisjoint(services)
        and any(fnmatchcase(_TAKING_ON, action.lower()) for action in actions)  # IAM heeds no case in actions
    )


def _listed(value: Any) -> Collection[str]:
    return [value] if isinstance(value, str) else value
