"""Put an approved model behind the endpoint, without waiting for it: `skin-lesion deploy` in single steps.

`action` is `start`, `follow` or `abandon`. Answers `{status, endpoint, config, serving, before, reason, summary}`;
`status` is InProgress, Deployed, RolledBack or Failed (of `abandon`: Abandoned), `before` is the endpoint config that
served before it all. Raises `NotApproved`, `EndpointBusy`, `EndpointStuck`.

A new model is asked something before it counts as deployed; where its answer is wrong, what served before serves again.
Names follow from the model and the settings, so a call repeated after a lost answer finds its own work and goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from common import AwsBusy, client, entry, translated
from skin_lesion_mlops.aws import deploy


@functools.lru_cache(maxsize=None)
def settings() -> deploy.EndpointSettings:
    "Read the environment, once."
    env = os.environ
    least = int(env.get("MIN_INSTANCES", "1"))
    return deploy.EndpointSettings(
        role_arn=env["ROLE_ARN"],
        capture_uri=env["CAPTURE_URI"],
        kms_key=env.get("KMS_KEY_ID", ""),
        endpoint=env.get("ENDPOINT_NAME", "skin-lesion-endpoint"),
        instance_type=env.get("INSTANCE_TYPE", "ml.m5.xlarge"),
        instances=max(2, least),
        min_instances=least,
        max_instances=int(env.get("MAX_INSTANCES", "5")),
        scale_out_above=int(env.get("SCALE_OUT_ABOVE", "1000")),
        scale_in_below=int(env.get("SCALE_IN_BELOW", "500")),
        alarms=tuple(a for a in env.get("ALARM_NAMES", "").split(",") if a),
        subnets=tuple(a for a in env.get("SUBNET_IDS", "").split(",") if a),
        security_groups=tuple(a for a in env.get("SECURITY_GROUP_IDS", "").split(",") if a),
        project=env.get("PROJECT", "skin-lesion"),
    )


@entry
def handler(
    event: dict,  # {action, model_package_arn} and, of `follow`, {before, reason} from the last answer
) -> dict:  # see the module
    "One step of a deployment."
    sm, s, action = client("sagemaker"), settings(), event["action"]
    plan = deploy.plan(sm, event["model_package_arn"], s, check=action == "start")
    before, reason = event.get("before", ""), event.get("reason", "")
    if action == "abandon":
        deploy.abandon(sm, plan)
        return answer(plan, deploy.Rollout("Abandoned", ""), before)
    if action == "start":
        rollout = deploy.start(sm, plan)
        before = rollout.serving
    else:
        rollout = deploy.follow(sm, plan)
        rollout = dataclasses.replace(rollout, reason=reason or rollout.reason)
        if rollout.status == "Deployed":
            rollout = tested(sm, plan, before)
    if rollout.status == "Deployed":
        rollout = scaled(rollout, s)
    if rollout.status in ("RolledBack", "Failed"):
        deploy.abandon(sm, plan)
    return answer(plan, rollout, before)


def tested(
    sm: Any,
    plan: deploy.Deployment,  # of a model that serves
    before: str,  # the endpoint config that served before, "" when none did
) -> deploy.Rollout:  # Deployed; or InProgress, on the way back
    "Ask the new model something, and begin to take it back when its answer is wrong."
    config = plan.config["EndpointConfigName"]
    wrong = deploy.create_smoke_test(client("sagemaker-runtime"))(plan.endpoint)
    if not wrong:
        return deploy.Rollout("Deployed", config)
    reason = f"the smoke test failed: {wrong}; {deploy.withdraw(sm, plan, before)}"
    return deploy.Rollout("Failed" if before == config else "InProgress", config, reason)


def scaled(
    rollout: deploy.Rollout,  # the endpoint serves
    s: deploy.EndpointSettings,
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
    plan: deploy.Deployment,
    rollout: deploy.Rollout,
    before: str,  # the endpoint config that served before, "" when none did
) -> dict:  # see the module
    "The function's answer."
    name = plan.config["EndpointConfigName"]
    return dict(
        status=rollout.status,
        endpoint=plan.endpoint,
        config=name,
        reason=rollout.reason,
        serving=rollout.serving,
        before=before,
        summary=f"{plan.endpoint}: {rollout.status}" + (f" ({rollout.reason})" if rollout.reason else ""),
    )
