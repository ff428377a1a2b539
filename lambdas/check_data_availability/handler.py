"""Is there a reason to train again? Counts new samples, checks that the stored images are intact, takes the turn.

Answers `{sufficient, new, total, reason, parameters, trigger, champion, manifest, summary}`. Raises `AlreadyRunning`,
`InvalidRequest`, `DataDamaged`.

**New** means: uploaded after the last trained dataset was read. An upload appends *parts* to the manifest (`skin-lesion
data upload`), each with the time at which it was complete; preprocessing leaves a receipt with the time at which it
started. Comparing the two needs neither a listing of the bucket nor a list of a million images.

**Intact** is sampled: up to `SAMPLE_SIZE` objects of up to 20 new parts, another draw for each execution. 200 objects
find damage to 1.5 % of them with 95 % probability (1 - 0.985 ** 200). A part's own checksum is always verified.

**One at a time** is a lock object in S3, written only if absent. It names the execution that holds it and is never
released: it counts only while that execution runs, so a crash cannot leave it behind. Listing executions would be
simpler, but the listing is eventually consistent, and two triggers of the same second would both start.
"""

from __future__ import annotations

import base64
import csv
import functools
import hashlib
import heapq
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Iterable

from botocore.exceptions import ClientError

from common import AwsBusy, client, code_of, entry, evaluation_uri, newest_package, read_s3_json
from skin_lesion_mlops.core import hash_text

LOCK = "retraining/lock.json"
MANIFEST = "manifests/{prefix}/manifest.json"
PARTS = 20  # at most so many parts are sampled
# What a request may change. Buckets, roles, images and thresholds are not in the list: who may start a training may
# not thereby read other data, run other code, or lower the bar.
REQUESTABLE = {
    **dict.fromkeys(("Arch", "Weights", "Optimizer", "ClassWeights", "Freeze"), str),
    **dict.fromkeys(("Seed", "Epochs", "BatchSize", "Patience", "ImageSize", "MinNewSamples"), int),
    **dict.fromkeys(("LearningRate", "WeightDecay", "LabelSmoothing"), float),
}


class AlreadyRunning(Exception):
    "Another retraining has the turn."


class InvalidRequest(Exception):
    "The body of POST /retrain is not `{reason, requested_by, parameters}`."


class DataDamaged(Exception):
    "Stored images differ from the manifest."


@dataclass(frozen=True)
class Settings:
    "The function's environment."

    raw_bucket: str
    raw_prefix: str
    processed_bucket: str
    group: str
    min_new: int  # images
    sample: int  # objects verified
    parameters: dict[str, str]  # pipeline parameters of every run, e.g. buckets and images


@functools.lru_cache(maxsize=None)
def settings() -> Settings:
    "Read the environment, once."
    env = os.environ
    return Settings(
        env["RAW_BUCKET"],
        env.get("RAW_PREFIX", "ham10000"),
        env["PROCESSED_BUCKET"],
        env.get("MODEL_PACKAGE_GROUP", "skin-lesion-models"),
        int(env.get("MIN_NEW_SAMPLES", "100")),
        int(env.get("SAMPLE_SIZE", "200")),
        json.loads(env.get("PIPELINE_PARAMETERS", "{}")),
    )


@entry
def handler(
    event: dict,  # {trigger: {kind, event}, execution, started}
) -> dict:  # see the module
    "Decide whether to train."
    s = settings()
    asked = understand(event["trigger"])
    take_turn(client("s3"), client("stepfunctions"), s.processed_bucket, event["execution"])
    minimum = int(asked["parameters"].pop("MinNewSamples", s.min_new))
    parts = read_manifest(client("s3"), s)
    trained = last_trained(client("s3"), client("sagemaker"), s.group)
    fresh = [p for p in parts if p["completed"] > trained]
    new, total = (sum(p["labelled"] for p in x) for x in (fresh, parts))
    verified = verify(client("s3"), s, fresh, event["execution"]) if new >= minimum else 0
    champion = champion_parameters(client("s3"), client("sagemaker"), s.group)
    reason = f"{new} new labelled images of {total}; {minimum} are needed" + (
        "" if parts else "; no upload is complete"
    )
    return dict(
        sufficient=new >= minimum and total > 0,
        new=new,
        total=total,
        verified=verified,
        reason=reason,
        trigger={k: asked[k] for k in ("kind", "reason", "requested_by", "at")},
        manifest=[p["sha256"] for p in fresh][-PARTS:],
        champion=champion.get("ChampionVersion", ""),
        parameters=as_list({**s.parameters, **champion, **about(parts, asked["kind"]), **asked["parameters"]}),
        summary=reason,
    )


def about(
    parts: list[dict],  # of the manifest
    kind: str,  # of the trigger
) -> dict[str, str]:
    "What a run is told about itself. Without another DataVersion SageMaker would reuse the last preprocessing."
    return dict(TriggeredBy=kind, DataVersion=hash_text(*(p["sha256"] for p in parts)))


# ---- the trigger ----------------------------------------------------------------------------------------------------


def understand(
    trigger: dict,  # {kind: schedule | drift | request, event: as it came}
) -> dict:  # {kind, reason, requested_by, at, parameters}
    "Who asks for a retraining, and why."
    kind, event = trigger["kind"], trigger["event"]
    at = event.get("time", "") if isinstance(event, dict) else ""
    if kind == "drift":
        name = event.get("detail", {}).get("alarmName", "unknown")
        why = event.get("detail", {}).get("state", {}).get("reason", "")
        return dict(kind=kind, reason=f"alarm {name}: {why}"[:500], requested_by=name, at=at, parameters={})
    if kind == "schedule":
        return dict(kind=kind, reason="scheduled", requested_by="schedule", at=at, parameters={})
    return dict(kind=kind, at=at, **check_request(event))


def check_request(
    body: Any,  # the body of POST /retrain
) -> dict:  # {reason, requested_by, parameters}
    "Accept a request, or say what is wrong with it."
    if not isinstance(body, dict) or set(body) - {"reason", "requested_by", "parameters"}:
        raise InvalidRequest("send a JSON object with reason, requested_by and, optionally, parameters")
    for name in ("reason", "requested_by"):
        if not isinstance(body.get(name), str) or not 0 < len(body[name].strip()) <= 500:
            raise InvalidRequest(f"{name} must be a text of 1 to 500 characters")
    given = body.get("parameters", {})
    if not isinstance(given, dict):
        raise InvalidRequest("parameters must be an object, e.g. {'Epochs': 20}")
    for name, value in given.items():
        _check_parameter(name, value)
    return dict(reason=body["reason"].strip(), requested_by=body["requested_by"].strip(), parameters=dict(given))


def _check_parameter(
    name: str,  # of a pipeline parameter
    value: Any,
) -> None:  # raises `InvalidRequest`
    "Refuse what a request may not change, and what is of another type."
    if name not in REQUESTABLE:
        raise InvalidRequest(
            f"parameter {name!r} cannot be set by a request; these can: {', '.join(sorted(REQUESTABLE))}"
        )
    try:
        if isinstance(value, (dict, list, bool)) or len(str(value)) > 100 or value is None:
            raise ValueError
        REQUESTABLE[name](value)
    except ValueError:
        raise InvalidRequest(f"{name}={value!r} is not of type {REQUESTABLE[name].__name__}") from None


def as_list(values: dict[str, Any]) -> list[dict[str, str]]:
    "Parameters as StartPipelineExecution takes them."
    return [dict(Name=k, Value=str(v)) for k, v in sorted(values.items())]


# ---- one retraining at a time ---------------------------------------------------------------------------------------


def take_turn(
    s3: Any,  # S3 client
    sfn: Any,  # Step Functions client
    bucket: str,  # where the lock is
    execution: str,  # ARN of the execution that asks
) -> None:  # raises `AlreadyRunning`
    "Take the turn for this execution; asking again is harmless."
    mine = dict(Bucket=bucket, Key=LOCK, Body=json.dumps(dict(execution=execution)).encode())
    for _ in range(3):
        if _put_if(s3, mine, IfNoneMatch="*"):
            return
        try:
            held = s3.get_object(Bucket=bucket, Key=LOCK)
        except s3.exceptions.NoSuchKey:
            continue
        holder = json.load(held["Body"])["execution"]
        if holder == execution:
            return
        if is_running(sfn, holder):
            raise AlreadyRunning(f"{holder.split(':')[-1]} is still running")
        if _put_if(s3, mine, IfMatch=held["ETag"]):
            return
    raise AwsBusy("the lock changed hands three times while it was read")


def _put_if(
    s3: Any,  # S3 client
    put: dict,  # arguments of PutObject
    **condition: str,  # IfNoneMatch or IfMatch
) -> bool:  # False when the condition does not hold
    "Write an object on a condition."
    try:
        s3.put_object(**put, **condition)
        return True
    except ClientError as e:
        if code_of(e) in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409", "NoSuchKey"):
            return False
        raise


def is_running(
    sfn: Any,  # Step Functions client
    execution: str,  # ARN
) -> bool:
    "Is this execution still at work?"
    try:
        return sfn.describe_execution(executionArn=execution)["status"] == "RUNNING"
    except sfn.exceptions.ExecutionDoesNotExist:
        return False


# ---- the data -------------------------------------------------------------------------------------------------------


def read_manifest(
    s3: Any,  # S3 client
    s: Settings,
) -> list[dict]:  # its parts: {key, sha256, objects, labelled, completed}; empty when no upload was ever completed
    "What has been uploaded."
    try:
        return read_s3_json(s3, f"s3://{s.raw_bucket}/{MANIFEST.format(prefix=s.raw_prefix)}")["parts"]
    except FileNotFoundError:
        return []


def last_trained(
    s3: Any,  # S3 client
    sm: Any,
    group: str,  # model package group
) -> str:  # ISO 8601 in UTC, "" before the first training
    "When the dataset of the newest registered model was read."
    package = newest_package(sm, group)
    baseline = (
        ((package or {}).get("ModelMetrics", {}).get("ModelDataQuality") or {}).get("Statistics", {}).get("S3Uri", "")
    )
    run = baseline.rpartition("/baseline/")[0]  # the preprocessing job's folder, also when its result came from a cache
    try:
        return read_s3_json(s3, f"{run}/report/receipt.json")["started"] if run else ""
    except FileNotFoundError:
        return ""


def verify(
    s3: Any,  # S3 client
    s: Settings,
    parts: list[dict],  # of the manifest
    draw: str,  # decides which objects are looked at
) -> int:  # objects looked at; raises `DataDamaged`
    "Compare a sample of the stored objects with the manifest."
    chosen = heapq.nsmallest(PARTS, parts, key=lambda p: _rank(draw, p["key"]))
    rows: list[dict] = []
    for part in chosen:
        rows += heapq.nsmallest(
            -(-s.sample // len(chosen)), read_part(s3, s, part), key=lambda r: _rank(draw, r["key"])
        )
    with ThreadPoolExecutor(16) as pool:
        wrong = [w for w in pool.map(functools.partial(compare, s3, s.raw_bucket), rows) if w]
    if wrong:
        raise DataDamaged(f"{len(wrong)} of {len(rows)} objects differ from the manifest, first: {wrong[0]}")
    return len(rows)


def _rank(
    draw: str,
    key: str,  # what is drawn
) -> bytes:
    "A place in a random order that the draw decides."
    return hashlib.sha256(f"{draw} {key}".encode()).digest()


def read_part(
    s3: Any,  # S3 client
    s: Settings,
    part: dict,  # of the manifest; at most 10,000 rows
) -> Iterable[dict]:  # {key, size, sha256, label}
    "The rows of a part, its own checksum verified."
    body = s3.get_object(Bucket=s.raw_bucket, Key=part["key"])["Body"].read()
    if hashlib.sha256(body).hexdigest() != part["sha256"]:
        raise DataDamaged(f"{part['key']} is not the file the manifest was written for")
    return csv.DictReader(io.StringIO(body.decode()))


def compare(
    s3: Any,  # S3 client
    bucket: str,
    row: dict,  # of a part
) -> str:  # what is wrong, "" when nothing is
    "Compare one object with its row: size, and the checksum that S3 computed itself."
    try:
        head = s3.head_object(Bucket=bucket, Key=row["key"], ChecksumMode="ENABLED")
    except ClientError as e:
        if code_of(e) == "404":
            return f"{row['key']} is missing"
        raise
    if head["ContentLength"] != int(row["size"]):
        return f"{row['key']} has {head['ContentLength']} bytes, not {row['size']}"
    stored = head.get("ChecksumSHA256", "")
    if stored and base64.b64decode(stored).hex() != row["sha256"]:
        return f"{row['key']} has another content"
    return ""


# ---- the model to beat ----------------------------------------------------------------------------------------------


def champion_parameters(
    s3: Any,  # S3 client
    sm: Any,
    group: str,  # model package group
) -> dict[str, Any]:  # empty when no model is approved
    "The approved model's measured quality, as pipeline parameters."
    package = newest_package(sm, group, ModelApprovalStatus="Approved")
    if package is None or not evaluation_uri(package):
        return {}
    metrics = read_s3_json(s3, evaluation_uri(package))["multiclass_classification_metrics"]["balanced_accuracy"]
    return dict(
        ChampionVersion=str(package["ModelPackageVersion"]),
        ChampionBalancedAccuracy=metrics["value"],
        ChampionStandardError=metrics["standard_deviation"],
    )
