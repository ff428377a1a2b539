"""How far is the training pipeline? Answers `{status, step, reason, evaluation, model_package_arn, summary}`.

`status` is Running, Succeeded, GateNotPassed, Failed or Stopped. A model that misses the gate ends the pipeline in its
Fail step; that is an answer, not an accident, so it has a status of its own. Raises `PipelineOverdue`.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from common import client, entry


class PipelineOverdue(Exception):
    "The pipeline has been running for longer than is allowed."


@dataclass(frozen=True)
class Settings:
    "The function's environment."

    models_bucket: str
    max_hours: float


@functools.lru_cache(maxsize=None)
def settings() -> Settings:
    "Read the environment, once."
    return Settings(os.environ["MODELS_BUCKET"], float(os.environ.get("MAX_HOURS", "8")))


@entry
def handler(
    event: dict,  # {pipeline_execution_arn, started: when the retraining began, now}
) -> dict:  # see the module
    "Look at a pipeline execution."
    sm, arn = client("sagemaker"), event["pipeline_execution_arn"]
    execution = sm.describe_pipeline_execution(PipelineExecutionArn=arn)
    if execution["PipelineExecutionStatus"] in ("Executing", "Stopping"):
        refuse_overdue(event["started"], settings().max_hours)
        return dict(status="Running", summary="the pipeline is running")
    return conclude(execution, all_steps(sm, arn), settings().models_bucket)


def refuse_overdue(
    started: str,  # ISO 8601
    max_hours: float,
) -> None:  # raises `PipelineOverdue`
    "A pipeline may not run for ever."
    begun = datetime.fromisoformat(started.replace("Z", "+00:00"))
    hours = (datetime.now(timezone.utc) - begun).total_seconds() / 3600
    if hours > max_hours:
        raise PipelineOverdue(f"still running after {hours:.1f} hours; {max_hours:g} are allowed")


def all_steps(
    sm: Any,
    arn: str,
) -> dict[str, dict]:  # step name -> as ListPipelineExecutionSteps answers
    "The steps of a pipeline execution."
    pages = sm.get_paginator("list_pipeline_execution_steps").paginate(PipelineExecutionArn=arn)
    return {step["StepName"]: step for page in pages for step in page["PipelineExecutionSteps"]}


def conclude(
    execution: dict,  # as DescribePipelineExecution answers
    steps: dict[str, dict],  # from `all_steps`
    bucket: str,
) -> dict:  # see the module
    "What a finished execution means."
    status, failed = execution["PipelineExecutionStatus"], failed_step(steps)
    if outcome(steps.get("Gate", {})) == "false":
        status = "GateNotPassed"
    reason = failed.get("FailureReason") or execution.get("FailureReason", "")
    name = failed.get("StepName", "")
    where = f" in step {name}: {reason}" if name and status != "Succeeded" else ""
    return dict(
        status=status,
        step=name,
        reason=reason[:1000],
        evaluation=evaluation_of(execution["PipelineExecutionArn"], steps, bucket),
        model_package_arn=steps.get("Register", {}).get("Metadata", {}).get("RegisterModel", {}).get("Arn", ""),
        summary=f"the pipeline ended {status}{where}"[:1200],
    )


def failed_step(
    steps: dict[str, dict],  # from `all_steps`
) -> dict:  # empty when none failed
    "The step that failed; where several did, the first by time."
    failed = [s for s in steps.values() if s.get("StepStatus") == "Failed"]
    return min(failed, key=lambda s: str(s.get("StartTime", "")), default={})


def outcome(
    step: dict,  # a condition step
) -> str:  # "true", "false" or ""
    "What a condition step decided."
    return str(step.get("Metadata", {}).get("Condition", {}).get("Outcome", "")).lower()


def evaluation_of(
    arn: str,
    steps: dict[str, dict],  # from `all_steps`
    bucket: str,
) -> str:  # S3 URI
    "Where the evaluation is: in this run's folder, or in that of the run whose result the cache gave us."
    source = steps.get("Evaluate", {}).get("CacheHitResult", {}).get("SourcePipelineExecutionArn", arn)
    return f"s3://{bucket}/runs/{source.split('/')[-1]}/evaluation/evaluation.json"
