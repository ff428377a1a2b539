"""What a SageMaker pipeline does when it is started here.

`pretend` is a training in no time: it leaves the files and the registration that the real definition leaves, with the
scores a test asks for. `execute` is the real thing: the definition, run by this project's own runner on this machine.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from skin_lesion_mlops.evaluation.card import without_nan
from skin_lesion_mlops.evaluation.gate import Champion, decide, gate
from skin_lesion_mlops.pipeline.definition import PARAMETERS
from tests.standin import faults, refusals, sagemaker

scores = dict(accuracy=0.9, balanced_accuracy=0.8, malignant_sensitivity=0.95, ece=0.03)
half = 0.02  # of each interval
ending = "Ended"  # with a model or without, as the evaluation decides; or Failed, Running
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/skin-lesion-inference:latest"


def reset() -> None:
    "A good training."
    global ending
    ending = "Ended"
    scores.update(accuracy=0.9, balanced_accuracy=0.8, malignant_sensitivity=0.95, ece=0.03)


THRESHOLDS = dict(  # guard -> the parameter it follows
    accuracy="AccuracyThreshold",
    balanced_accuracy="MinBalancedAccuracy",
    malignant_sensitivity="MinMalignantSensitivity",
    ece="MaxEce",
    champion_difference="MinChampionDifference",
)


def evaluation(
    values: dict[str, Any] | None = None,  # parameters of the pipeline
) -> dict[str, Any]:
    "An evaluation.json with what is read of it, decided as the evaluate step decides."
    known = {n: p[0] for n, p in PARAMETERS.items()} | (values or {})
    spread = {n: dict(value=v, low=v - half, high=v + half, standard_error=half / 1.96) for n, v in scores.items()}
    best = Champion(
        known["ChampionVersion"], *(float(known[f"Champion{n}"]) for n in ("BalancedAccuracy", "StandardError"))
    )
    guards = gate(pd.DataFrame(spread).T, {n: float(known[p]) for n, p in THRESHOLDS.items()}, best)
    metrics = {n: dict(value=v, standard_deviation=half / 1.96) for n, v in scores.items()}
    lineage = dict(data_hash="d4ta", model_hash="m0del", code_version="c0de")
    found = dict(version=0.0, multiclass_classification_metrics=metrics, gate=guards, decision=decide(guards))
    return without_nan(dict(found, lineage=lineage))


def pretend(
    definition: dict,  # of the pipeline
    parameters: dict[str, Any],  # given at the start
    run: str,
) -> dict:  # {status, reason, steps}
    "A training in no time."
    if refused := refusals.first_refusal(definition, parameters, run):
        return refused
    values = {p["Name"]: p.get("DefaultValue") for p in definition["Parameters"]} | parameters
    s3, base = faults.client("s3", "pipeline"), f"s3://{values['ModelsBucket']}/runs"
    if ending == "Failed":
        reason = "ClientError: CUDA out of memory"
        return dict(
            status="Failed", reason="a step failed", steps=_steps(Train=dict(StepStatus="Failed", FailureReason=reason))
        )
    if ending == "Running":
        return dict(status="Executing", steps={})
    put, read = dict(Bucket=values["ModelsBucket"]), refusals.ran_before(definition, parameters, run, "Preprocess")
    if read == run:
        receipt = dict(step="preprocess", started=_now())
        s3.put_object(**put, Key=f"runs/{run}/report/receipt.json", Body=json.dumps(receipt))
    found = evaluation(values)
    s3.put_object(**put, Key=f"runs/{run}/evaluation/evaluation.json", Body=json.dumps(found))
    decision = found["decision"]
    outcome = dict(Metadata=dict(Condition=dict(Outcome=str(decision["passed"]))))
    if not decision["passed"]:
        why = dict(StepStatus="Failed", FailureReason=f"Not registered. {'; '.join(decision['reasons'])}")
        return dict(status="Failed", reason=why["FailureReason"], steps=_steps(Gate=outcome, NotRegistered=why))
    places = f"{base}/{run}/evaluation/evaluation.json", f"{base}/{read}/baseline/statistics.json"
    arn = _register(values["ModelPackageGroupName"], *places)
    return dict(
        status="Succeeded", steps=_steps(Gate=outcome, Register=dict(Metadata=dict(RegisterModel=dict(Arn=arn))))
    )


def _register(
    group: str,
    uri: str,  # of the evaluation
    baseline: str = "",  # of the data; beside the evaluation when empty
) -> str:  # ARN
    "Register a model."
    baseline = baseline or uri.replace("evaluation/evaluation", "baseline/statistics")
    inference = dict(
        Containers=[dict(Image=IMAGE, ModelDataUrl="s3://models/model.tar.gz")],
        SupportedContentTypes=["image/jpeg"],
        SupportedResponseMIMETypes=["application/json"],
    )
    return faults.client("sagemaker", "pipeline").create_model_package(
        ModelPackageGroupName=group,
        ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification=inference,
        ModelMetrics=dict(
            ModelQuality=dict(Statistics=dict(ContentType="application/json", S3Uri=uri)),
            ModelDataQuality=dict(Statistics=dict(ContentType="application/json", S3Uri=baseline)),
        ),
    )["ModelPackageArn"]


def _steps(
    **more: dict,  # step name -> what is special about it
) -> dict[str, dict]:
    "Steps as ListPipelineExecutionSteps lists them."
    return {name: {"StepName": name, "StepStatus": "Succeeded", **special} for name, special in more.items()}


def _now() -> str:
    "The time, in UTC, as ISO 8601."
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def execute(
    definition: dict,  # of the pipeline
    parameters: dict[str, Any],  # given at the start
    run: str,
) -> dict:  # {status, reason, steps}
    "Bring S3 here, run the definition, bring the results back under the execution's id, register the model."
    from skin_lesion_mlops.pipeline.local import run_pipeline

    if refused := refusals.first_refusal(definition, parameters, run):
        return refused
    values = {p["Name"]: p.get("DefaultValue") for p in definition["Parameters"]} | parameters
    buckets = [values[n] for n in ("RawBucket", "ProcessedBucket", "ModelsBucket")]
    with tempfile.TemporaryDirectory(prefix="pipeline-") as home:
        for bucket, prefix in ((buckets[0], values["RawPrefix"]), (buckets[2], values["WeightsPrefix"])):
            _download(bucket, f"{prefix}/", Path(home, "s3"))
        ran = run_pipeline(
            definition, parameters, home, on_event=lambda _, so_far: sagemaker.show(run, _listed(so_far))
        )
        for bucket in buckets[1:]:
            _upload(bucket, Path(home, "s3", bucket), (ran.id, run))
        steps = _listed(ran)
        if "Gate" in steps:
            steps["Gate"]["Metadata"] = dict(Condition=dict(Outcome=str(ran.status == "Succeeded")))
        if ran.model:
            request = {k: v for k, v in ran.model.items() if k in REQUEST and v}
            text = json.dumps(request, default=str).replace(ran.id, run)
            arn = faults.client("sagemaker", "pipeline").create_model_package(**json.loads(text))["ModelPackageArn"]
            steps["Register"]["Metadata"] = dict(RegisterModel=dict(Arn=arn))
    status = "Failed" if ran.status == "NotRegistered" else ran.status
    return dict(status=status, reason=ran.reason, steps=steps)


REQUEST = (  # what of a registered model CreateModelPackage takes
    *("ModelPackageGroupName", "ModelPackageDescription", "InferenceSpecification", "ModelApprovalStatus"),
    *("ModelMetrics", "CustomerMetadataProperties", "DriftCheckBaselines"),
)


def _listed(
    run: Any,  # the local runner's
) -> dict[str, dict]:
    "The steps of a local run as SageMaker lists them."
    found = {}
    for s in run.steps:
        if s.started:
            times = dict(StartTime=s.started, **(dict(EndTime=s.ended) if s.ended else {}))
            why = dict(FailureReason=s.reason) if s.reason else {}
            found[s.name] = dict(StepName=s.name, StepStatus=s.status, **times, **why)
    return found


def _download(
    bucket: str,
    prefix: str,  # ends with a slash
    root: Path,  # the local runtime's S3
) -> None:
    "Copy a folder of a bucket into the local runtime."
    s3 = faults.client("s3", "pipeline")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", []):
            path = root / bucket / found["Key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, found["Key"], str(path))


def _upload(
    bucket: str,
    root: Path,  # the bucket in the local runtime
    rename: tuple[str, str],  # the runner's id, the execution's
) -> None:
    "Copy a bucket of the local runtime back."
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        key = path.relative_to(root).as_posix().replace(*rename)
        faults.client("s3", "pipeline").upload_file(str(path), bucket, key)
