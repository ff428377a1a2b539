"""Approve a model, ask a person to, or look at what a person decided.

`action` is `decide` (after an evaluation) or `confirm` (after the registry reported an approval). Answers
`{status, model_package_arn, version, by, reason, record, summary}`; `status` is Approved, Pending or, of `confirm`,
also Elsewhere (the approval came from a retraining that deploys it itself) and Withdrawn (it is no longer approved).

In manual mode, the default, no code approves a model: the package keeps its PendingManualApproval.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from common import client, entry

AUTOMATIC = "retraining/"  # begins the name of an approver that is no person; such an approval is deployed by itself


class WrongMode(Exception):
    "APPROVAL_MODE is neither manual nor automatic."


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
    if event["action"] == "confirm":
        return confirm(package)
    if settings().mode == "manual" and package["ModelApprovalStatus"] != "Approved":
        return ask(sm, package, event)
    return approve(sm, package, event)


def approve(
    sm: Any,
    package: dict,  # as DescribeModelPackage answers
    event: dict,  # of the function
) -> dict:  # see the module
    "Approve in the words and the form of `skin-lesion models approve`, unless that has been done."
    by, reason = AUTOMATIC + event["execution"].split(":")[-1], "it met every threshold"
    metadata = package.get("CustomerMetadataProperties", {})
    if package["ModelApprovalStatus"] != "Approved":
        number = 1 + sum(k.startswith("approval-") for k in metadata)
        line = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ} Approved {by}: {reason}"
        sm.update_model_package(
            ModelPackageArn=package["ModelPackageArn"],
            ModelApprovalStatus="Approved",
            ApprovalDescription=f"{by}: {reason}",
            CustomerMetadataProperties={
                **metadata,
                "ChangeRecord": event["record"][:256],
                f"approval-{number:04}": line,
            },
        )
    return answer("Approved", package, by, reason, event.get("evaluation", ""))


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
    package: dict,  # as DescribeModelPackage answers
) -> dict:  # see the module
    "Read an approval: whose it is, and whether it still holds."
    by, colon, reason = package.get("ApprovalDescription", "").partition(": ")
    if not colon:  # approved in the console, not by `skin-lesion models approve`
        modified = package.get("LastModifiedBy", {})
        by, reason = modified.get("UserProfileName") or modified.get("IamIdentity", {}).get("Arn", "unknown"), by
    if package["ModelApprovalStatus"] != "Approved":
        return answer("Withdrawn", package, by, reason)
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
