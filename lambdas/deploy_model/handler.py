"""Put an approved model behind the endpoint, without waiting for it: `skin-lesion deploy` in single steps.

`action` is `start`, `follow` or `abandon`. Answers `{status, endpoint, config, serving, reason, summary}`; `status` is
InProgress, Deployed, RolledBack or Failed (of `abandon`: Abandoned). Raises `NotApproved`,
`EndpointBusy`, `EndpointStuck`.

Names follow from the model and the settings, so a call repeated after a lost answer finds its own work and goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import os

from botocore.exceptions import BotoCoreError, ClientError

from common import AwsBusy, client, entry, translated
from skin_lesion_mlops import deploy


@functools.lru_cache(maxsize=None)
def settings() -> deploy.Settings:
    "Read the environment, once."
    env = os.environ
    return deploy.Settings(
        role_arn=env["ROLE_ARN"],
        capture_uri=env["CAPTURE_URI"],
        kms_key=env.get("KMS_KEY_ID", ""),
        endpoint=env.get("ENDPOINT_NAME", "skin-lesion-endpoint"),
        instance_type=env.get("INSTANCE_TYPE", "ml.m5.xlarge"),
        alarms=tuple(a for a in env.get("ALARM_NAMES", "").split(",") if a),
        subnets=tuple(a for a in env.get("SUBNET_IDS", "").split(",") if a),
        security_groups=tuple(a for a in env.get("SECURITY_GROUP_IDS", "").split(",") if a),
    )


@entry
def handler(
    event: dict,  # {action, model_package_arn}
) -> dict:  # see the module
    "One step of a deployment."
    sm, s = client("sagemaker"), settings()
    plan = deploy.plan(sm, event["model_package_arn"], s, check=event["action"] == "start")
    if event["action"] == "abandon":
        deploy.abandon(sm, plan)
        return answer(plan, deploy.Rollout("Abandoned", ""))
    rollout = deploy.start(sm, plan) if event["action"] == "start" else deploy.follow(sm, plan)
    if rollout.status == "Deployed":
        rollout = scaled(rollout, s)
    if rollout.status in ("RolledBack", "Failed"):
        deploy.abandon(sm, plan)
    return answer(plan, rollout)


def scaled(
    rollout: deploy.Rollout,  # the endpoint serves
    s: deploy.Settings,
) -> deploy.Rollout:  # with the reason, where it cannot scale; raises `AwsBusy`
    "Let the fleet grow and shrink. A model that serves is deployed, also when that is refused."
    try:
        deploy.autoscale(client("application-autoscaling"), client("cloudwatch"), s)
        return rollout
    except (BotoCoreError, ClientError) as e:
        error = translated(e, "autoscaling")
        if isinstance(error, AwsBusy):
            raise error from e
        return dataclasses.replace(rollout, reason=f"it serves, but does not scale: {error}")


def answer(
    plan: deploy.Plan,
    rollout: deploy.Rollout,
) -> dict:  # see the module
    "The function's answer."
    name = plan.config["EndpointConfigName"]
    return dict(
        status=rollout.status,
        endpoint=plan.endpoint,
        config=name,
        reason=rollout.reason,
        serving=rollout.serving,
        summary=f"{plan.endpoint}: {rollout.status}" + (f" ({rollout.reason})" if rollout.reason else ""),
    )
