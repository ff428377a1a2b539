"""Approve a model, ask a person to, or look at what a person decided.

`action` is `decide` (after an evaluation) or `confirm` (after the registry reported an approval). Answers
`{status, model_package_arn, version, by, reason, record, summary}`; `status` is Approved, Pending or, of `confirm`,
also Elsewhere (the approval came from a retraining that deploys it itself), Withdrawn (it is no longer approved) and
Refused (its evaluation decided against it, or records no decision). Raises `GateNotPassed`.

In manual mode, the default, no code approves a model: the package keeps its PendingManualApproval.

What the evaluation decided holds here as well, for the console asks nobody: an approval against it is taken back (the
version is rejected, and the history says so), unless `skin-lesion models approve --override` recorded why it is right.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from common import client, entry, evaluation_uri, read_s3_json
from skin_lesion_mlops.core import decision_of

GATE = "the gate"  # who rejects what was approved against the evaluation
AUTOMATIC = "retraining/"  # begins the name of an approver that is no person; such an approval is deployed by itself


class WrongMode(Exception):
    "APPROVAL_MODE is neither manual nor automatic."


class GateNotPassed(Exception):
    "A model would be approved against its evaluation."


@dataclass(frozen=True)
class Settings:
    "The function's environment."

    mode: str  # "manual" or "automatic"


@functools.lru_cache(maxsize=None)
def settings() -> Settings:
    "Read the environment, once."
    mode = os.environ.get("APPROVAL_MODE", "manual")
    if mode not in ("manual", "automatic"):
        raise WrongMode(f"APPROVAL_MODE={mode!r}; use manual or automatic")
    return Settings(mode)


@entry
def handler(
    event: dict,  # {action, model_package_arn, execution, record, evaluation: summary} or {action, model_package_arn}
) -> dict:  # see the module
    "Decide about a model, or read a decision."
    sm, arn = client("sagemaker"), event["model_package_arn"]
    package = sm.describe_model_package(ModelPackageName=arn)
    against = objections(client("s3"), package)
    if event["action"] == "confirm":
        return confirm(sm, package, against)
    if settings().mode == "manual" and package["ModelApprovalStatus"] != "Approved":
        return ask(sm, package, event)
    if against:
        raise GateNotPassed(f"model {package['ModelPackageVersion']}: {'; '.join(against)}")
    return approve(sm, package, event)


def objections(
    s3: Any,  # S3 client
    package: dict,  # as DescribeModelPackage answers
) -> list[str]:  # empty when the model passed its gate, or the last approval says why that does not count
    "What stands against an approval, as the evaluation recorded it."
    metadata = package.get("CustomerMetadataProperties", {})
    last = max((k for k in metadata if k.startswith("approval-")), default="approval-")
    if metadata.get(last, "").split(" ")[1:2] == ["Approved"] and metadata.get(last.replace("approval-", "override-")):
        return []
    try:
        evaluation = read_s3_json(s3, evaluation_uri(package)) if evaluation_uri(package) else {}
    except (FileNotFoundError, ValueError):
        evaluation = {}
    decision = decision_of(evaluation)
    return [] if decision["passed"] else decision["reasons"] or ["its gate was not passed"]


def approve(
    sm: Any,
    package: dict,  # as DescribeModelPackage answers
    event: dict,  # of the function
) -> dict:  # see the module
    "Approve in the words and the form of `skin-lesion models approve`, unless that has been done."
    by, reason = AUTOMATIC + event["execution"].split(":")[-1], "it met every threshold"
    metadata = package.get("CustomerMetadataProperties", {})
    if package["ModelApprovalStatus"] != "Approved":
        record(sm, package, "Approved", by, reason, {**metadata, "ChangeRecord": event["record"][:256]})
    return answer("Approved", package, by, reason, event.get("evaluation", ""))


def record(
    sm: Any,
    package: dict,  # as DescribeModelPackage answers
    status: str,  # Approved or Rejected
    by: str,
    reason: str,
    metadata: dict[str, str],  # of the package, as it shall be
) -> None:
    "Write a decision where and as `skin-lesion models` writes it."
    number = 1 + sum(k.startswith("approval-") for k in metadata)
    line = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ} {status} {by}: {reason}"
    line = "".join(c if c.isalnum() or c in " _.:/=+-@" else " " for c in line)[:256].strip()  # what SageMaker takes
    sm.update_model_package(
        ModelPackageArn=package["ModelPackageArn"],
        ModelApprovalStatus=status,
        ApprovalDescription=f"{by}: {reason}"[:1024],
        CustomerMetadataProperties={**metadata, f"approval-{number:04}": line},
    )


def ask(
    sm: Any,
    package: dict,  # as DescribeModelPackage answers
    event: dict,  # of the function
) -> dict:  # see the module
    "Leave the decision to a person, with the change record at hand."
    sm.update_model_package(
        ModelPackageArn=package["ModelPackageArn"],
        CustomerMetadataProperties={
            **package.get("CustomerMetadataProperties", {}),
            "ChangeRecord": event["record"][:256],
        },
    )
    return answer("Pending", package, "", "a person has to approve it")


def confirm(
    sm: Any,
    package: dict,  # as DescribeModelPackage answers
    against: list[str],  # from `objections`
) -> dict:  # see the module
    "Read an approval: whose it is, whether it still holds, and whether the evaluation is for it."
    by, colon, reason = package.get("ApprovalDescription", "").partition(": ")
    if not colon:  # approved in the console, not by `skin-lesion models approve`
        modified = package.get("LastModifiedBy", {})
        by, reason = modified.get("UserProfileName") or modified.get("IamIdentity", {}).get("Arn", "unknown"), by
    if package["ModelApprovalStatus"] != "Approved":
        refused = by == GATE  # by this function, whose answer got lost
        return answer("Refused" if refused else "Withdrawn", package, by, reason)
    if against:
        reason = f"{'; '.join(against)}; approved by {by} without an override"
        record(sm, package, "Rejected", GATE, reason, package.get("CustomerMetadataProperties", {}))
        return answer("Refused", package, GATE, reason)
    return answer("Elsewhere" if by.startswith(AUTOMATIC) else "Approved", package, by, reason)


def answer(
    status: str,  # see the module
    package: dict,  # as DescribeModelPackage answers
    by: str,  # who decided, "" when nobody has
    reason: str,  # in their words
    evaluation: str = "",  # what was measured, in a paragraph
) -> dict:
    "The function's answer."
    version = str(package.get("ModelPackageVersion", ""))
    said = f"Model {version}: {status}{f' by {by}' if by else ''}{f' ({reason})' if reason else ''}."
    return dict(
        status=status,
        model_package_arn=package["ModelPackageArn"],
        version=version,
        by=by,
        reason=reason,
        record=package.get("CustomerMetadataProperties", {}).get("ChangeRecord", ""),
        summary=f"{said} {evaluation}".strip(),
    )
