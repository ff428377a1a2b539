"""What did the evaluation decide about the new model? Reads the decision, and sums it up beside the approved champion.

Answers `{passed, reasons, model_package_arn, version, champion, before, after, difference, data_hash, code, summary}`.
Metrics come with their intervals. Raises `EvaluationMissing`, `EvaluationUnreadable`.

Nothing is compared here: the thresholds, the champion and the standard error of the difference to it were the
evaluation's business, and `evaluation.json` records what came of it under `decision` and `gate`.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any

from common import client, entry, evaluation_uri, newest_package, read_s3_json
from skin_lesion_mlops.core import CHAMPION_DIFFERENCE, GUARDS

NAMES = [name for name in GUARDS if name != CHAMPION_DIFFERENCE.name]  # the metrics that are reported
SPAN = ("value", "low", "high")


class EvaluationMissing(Exception):
    "The pipeline left no evaluation."


class EvaluationUnreadable(Exception):
    "The evaluation lacks its decision, or a metric to report."


@dataclass(frozen=True)
class Settings:
    "The function's environment."

    group: str


@functools.lru_cache(maxsize=None)
def settings() -> Settings:
    "Read the environment, once."
    return Settings(os.environ.get("MODEL_PACKAGE_GROUP", "skin-lesion-models"))


@entry
def handler(
    event: dict,  # the answer of check_pipeline_status
) -> dict:  # see the module
    "Report the decision about a trained model."
    s3, sm, s = client("s3"), client("sagemaker"), settings()
    evaluation = load(s3, event["evaluation"])
    reasons, after = objections(evaluation), measured(evaluation)
    compared = evaluation["gate"].get("champion_difference", {})
    champion, difference = compared.get("against", ""), {}
    if champion:
        difference = {k: round(float(compared[k]), 4) for k in SPAN}
    if not reasons and not event["model_package_arn"]:
        reasons = ["the pipeline did not register it"]
    before = champion_metrics(s3, newest_package(sm, s.group, ModelApprovalStatus="Approved"), champion)
    version = event["model_package_arn"].rpartition("/")[2]
    lineage = evaluation.get("lineage", {})
    return dict(
        passed=not reasons,
        reasons=reasons,
        model_package_arn=event["model_package_arn"],
        version=version,
        champion=champion,
        before=before,
        after=after,
        difference=difference,
        data_hash=str(lineage.get("data_hash", "")),
        code=str(lineage.get("code_version", "")),
        summary=describe(version, before, after, difference, reasons),
    )


def load(
    s3: Any,  # S3 client
    uri: str,
) -> dict:  # raises `EvaluationMissing`
    "Read an evaluation."
    try:
        return read_s3_json(s3, uri)
    except FileNotFoundError as e:
        raise EvaluationMissing(str(e)) from None
    except ValueError as e:
        raise EvaluationUnreadable(f"{uri} is not JSON: {e}") from None


def objections(
    evaluation: dict,
) -> list[str]:  # empty when the model passed its gate; raises `EvaluationUnreadable`
    "Each reason not to take this model, as the evaluation recorded it."
    decision = evaluation.get("decision")
    if not isinstance(decision, dict) or not isinstance(decision.get("passed"), bool):
        raise EvaluationUnreadable(
            "evaluation.json records no decision: an older version of the images wrote it; push the present images, "
            "`skin-lesion pipeline upsert`, and retrain"
        )
    return [] if decision["passed"] else list(decision.get("reasons") or ["the gate was not passed"])


def measured(
    evaluation: dict,
) -> dict[str, dict[str, float]]:  # metric -> {value, low, high}
    "The metrics that are reported, with their intervals."
    gate = evaluation.get("gate", {})
    names = [
        n for n in NAMES if n in gate or n != "malignant_sensitivity"
    ]  # where nothing is malignant there is no such guard
    missing = [n for n in names if not set(SPAN) <= set(gate.get(n, {}))]
    if missing:
        raise EvaluationUnreadable(f"evaluation.json has no value and interval for {', '.join(missing)}")
    return {n: {k: round(float(gate[n][k]), 4) for k in SPAN} for n in names}


def champion_metrics(
    s3: Any,  # S3 client
    approved: dict | None,  # as DescribeModelPackage answers
    compared: str,  # version that the evaluation compared with, "" for none
) -> dict[str, dict[str, float]]:  # empty when that version is not the approved one any more
    "The metrics of the model that the new one was compared with."
    if not compared or not approved or str(approved["ModelPackageVersion"]) != compared:
        return {}
    return measured(load(s3, evaluation_uri(approved))) if evaluation_uri(approved) else {}


def _signed(
    d: dict,  # {value, low, high}
) -> str:
    "A difference with its interval, as text."
    return f"{d['value']:+.3f} ({d['low']:+.3f} to {d['high']:+.3f}) balanced accuracy"


def describe(
    version: str,  # "" when it was not registered
    before: dict,  # from `champion_metrics`
    after: dict,  # from `measured`
    difference: dict,  # {value, low, high}; empty when there was nothing to compare with
    reasons: list[str],  # not to take it
) -> str:
    "The decision in one paragraph."
    lines = [
        f"{n.replace('_', ' ')} {after[n]['value']:.3f} ({after[n]['low']:.3f} to {after[n]['high']:.3f})"
        + (f", was {before[n]['value']:.3f}" if n in before else "")
        for n in after
    ]
    against = (
        f" Against the approved model: {_signed(difference)}."
        if difference
        else " There was no approved model to compare with."
    )
    verdict = f" Not good enough: {'; '.join(reasons)}." if reasons else ""
    return f"Model {version or '(not registered)'}: {'; '.join(lines)}.{against}{verdict}"
