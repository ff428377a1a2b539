"""Is the new model good enough? Compares its evaluation with the thresholds and with the approved champion.

Answers `{passed, reasons, model_package_arn, version, champion, before, after, difference, data_hash, code, summary}`.
Metrics come with their intervals. Raises `EvaluationMissing`, `EvaluationUnreadable`.

The champion's and the challenger's test sets may differ (data is added between trainings), so their intervals are
treated as independent. The challenger is refused when even the upper end of the difference is below the minimum:
it is worse beyond reasonable doubt. Anything closer is left to a person, who sees the numbers.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any

from common import client, entry, evaluation_uri, newest_package, read_s3_json

NAMES = ("accuracy", "balanced_accuracy", "malignant_sensitivity", "ece")


class EvaluationMissing(Exception):
    "The pipeline left no evaluation."


class EvaluationUnreadable(Exception):
    "The evaluation lacks what must be judged."


@dataclass(frozen=True)
class Settings:
    "The function's environment."

    group: str
    minimum: dict[str, float]  # metric -> the least that is accepted
    max_ece: float  # expected calibration error
    min_difference: float  # balanced accuracy, challenger - champion, in [-1, 1]


@functools.lru_cache(maxsize=None)
def settings() -> Settings:
    "Read the environment, once."
    env = os.environ
    minimum = dict(
        accuracy=float(env.get("ACCURACY_THRESHOLD", "0.85")),
        balanced_accuracy=float(env.get("MIN_BALANCED_ACCURACY", "0")),
        malignant_sensitivity=float(env.get("MIN_MALIGNANT_SENSITIVITY", "0")),
    )
    group = env.get("MODEL_PACKAGE_GROUP", "skin-lesion-models")
    return Settings(group, minimum, float(env.get("MAX_ECE", "1")), float(env.get("MIN_CHAMPION_DIFFERENCE", "0")))


@entry
def handler(
    event: dict,  # the answer of check_pipeline_status
) -> dict:  # see the module
    "Judge a trained model."
    s3, sm, s = client("s3"), client("sagemaker"), settings()
    evaluation = load(s3, event["evaluation"])
    after = measured(evaluation)
    champion = newest_package(sm, s.group, ModelApprovalStatus="Approved")
    before = champion_metrics(s3, champion)
    difference = compare(before, after)
    reasons = shortcomings(after, difference, s)
    if not event["model_package_arn"]:
        reasons.append("the pipeline's own gate did not register it")
    version = event["model_package_arn"].rpartition("/")[2]
    lineage = evaluation.get("lineage", {})
    return dict(
        passed=not reasons,
        reasons=reasons,
        model_package_arn=event["model_package_arn"],
        version=version,
        champion=str(champion["ModelPackageVersion"]) if champion else "",
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


def measured(
    evaluation: dict,
) -> dict[str, dict[str, float]]:  # metric -> {value, low, high}
    "The metrics that are judged, with their intervals."
    gate = evaluation.get("gate", {})
    missing = [n for n in NAMES if not {"value", "low", "high"} <= set(gate.get(n, {}))]
    if missing:
        raise EvaluationUnreadable(f"evaluation.json has no value and interval for {', '.join(missing)}")
    return {n: {k: round(float(gate[n][k]), 4) for k in ("value", "low", "high")} for n in NAMES}


def champion_metrics(
    s3: Any,  # S3 client
    champion: dict | None,  # as DescribeModelPackage answers
) -> dict[str, dict[str, float]]:  # empty when there is none, or it was registered without an evaluation
    "The metrics of the model that is approved now."
    return measured(load(s3, evaluation_uri(champion))) if champion and evaluation_uri(champion) else {}


def compare(
    before: dict,  # champion, from `measured`
    after: dict,  # challenger, from `measured`
) -> dict[str, float]:  # {value, low, high}; empty without a champion
    "Balanced accuracy, challenger minus champion, with a 95 % interval from the two independent ones."
    if not before:
        return {}
    a, b = after["balanced_accuracy"], before["balanced_accuracy"]
    half = (((a["high"] - a["low"]) / 2) ** 2 + ((b["high"] - b["low"]) / 2) ** 2) ** 0.5
    value = a["value"] - b["value"]
    return dict(value=round(value, 4), low=round(value - half, 4), high=round(value + half, 4))


def shortcomings(
    after: dict,  # from `measured`
    difference: dict,  # from `compare`
    s: Settings,
) -> list[str]:  # empty when the model is good enough
    "Each reason not to take this model."
    found = [
        f"{name.replace('_', ' ')} {after[name]['value']:.3f} is below {least:.3f}"
        for name, least in s.minimum.items()
        if after[name]["value"] < least
    ]
    if after["ece"]["value"] > s.max_ece:
        found.append(f"calibration error {after['ece']['value']:.3f} is above {s.max_ece:.3f}")
    if difference and difference["high"] < s.min_difference:
        found.append(f"it is worse than the approved model: {_signed(difference)}")
    return found


def _signed(
    d: dict,  # {value, low, high}
) -> str:
    "A difference with its interval, as text."
    return f"{d['value']:+.3f} ({d['low']:+.3f} to {d['high']:+.3f}) balanced accuracy"


def describe(
    version: str,  # "" when it was not registered
    before: dict,  # from `measured`
    after: dict,  # from `measured`
    difference: dict,  # from `compare`
    reasons: list[str],  # from `shortcomings`
) -> str:
    "The judgement in one paragraph."
    lines = [
        f"{n.replace('_', ' ')} {after[n]['value']:.3f} ({after[n]['low']:.3f} to {after[n]['high']:.3f})"
        + (f", was {before[n]['value']:.3f}" if before else "")
        for n in NAMES
    ]
    against = f" Against the approved model: {_signed(difference)}." if difference else " No model was approved before."
    verdict = f" Not good enough: {'; '.join(reasons)}." if reasons else ""
    return f"Model {version or '(not registered)'}: {'; '.join(lines)}.{against}{verdict}"
