"""Every call to AWS that our code makes, remembered; and any of them made to fail.

Functions run in subprocesses, so the calls are seen where they are made: `watch` hooks into botocore there, and the
subprocess hands its list of calls back with its answer.
"""

from __future__ import annotations

import functools
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.exceptions import ClientError, ReadTimeoutError

url = ""  # of the running server, "" when there is none

# Operations whose permission has another name
PERMISSION = {
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
    "application-autoscaling:PutScalingPolicy": "application-autoscaling:PutScalingPolicy",
    "lambda:Invoke": "lambda:InvokeFunction",
    "sfn:DescribeExecution": "states:DescribeExecution",
    "monitoring:PutMetricAlarm": "cloudwatch:PutMetricAlarm",
    "runtime.sagemaker:InvokeEndpoint": "sagemaker:InvokeEndpoint",
}
KINDS = {
    "throttled": ("ThrottlingException", 400),
    "denied": ("AccessDeniedException", 403),
    "broken": ("InternalFailure", 500),
}


@dataclass
class Fault:
    "One call that will fail."

    caller: str  # a function's name, or "states" for the state machine itself
    operation: str  # e.g. "UpdateEndpoint"
    kind: str  # throttled, denied, broken, timeout (never arrived), lost (done, but the answer got lost) or slow
    times: int = 1  # how often
    nth: int = 1  # from which call of this operation on, over all invocations
    hits: int = 0
    seen: int = 0  # calls of this operation so far

    def wanted(self) -> dict:  # what `_fail` needs
        "The fault as it is now."
        return dict(operation=self.operation, kind=self.kind, skip=max(0, self.nth - 1 - self.seen))


@dataclass
class Record:
    "What happened since the last reset."

    calls: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # caller -> permissions
    counts: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))  # (caller, operation) -> calls
    faults: list[Fault] = field(default_factory=list)


record = Record()


def reset() -> None:
    "No faults; the calls are kept, for they are compared with the policies at the end."
    record.faults.clear()
    record.counts.clear()


def note(
    caller: str,  # a function's name, or "states"
    call: str,  # e.g. "s3:HeadObject"
) -> None:
    "Remember a call."
    operation = call.partition(":")[2]
    record.calls[caller].add(permission(call))
    record.counts[caller, operation] += 1
    for f in record.faults:
        f.seen += (f.caller, f.operation) == (caller, operation)


def client(
    service: str,
    caller: str,  # whose access key it is
) -> Any:
    "A client of the running server."
    return _client(service, caller, url)


@functools.lru_cache(maxsize=None)
def _client(
    service: str,
    caller: str,  # whose access key it is
    endpoint: str,
) -> Any:
    "One client each: making one takes longer than a call."
    return boto3.session.Session().client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=caller,
        aws_secret_access_key="standin",
    )


def pending(
    caller: str,  # a function's name
) -> list[Fault]:  # those that would hit it now
    "Faults that wait for this caller."
    return [f for f in record.faults if f.caller == caller and f.hits < f.times]


def permission(
    call: str,  # e.g. "s3:HeadObject"
) -> str:  # e.g. "s3:GetObject"
    "The IAM action of a call."
    return PERMISSION.get(call, call)


def watch(
    events: Any,  # event system of a botocore session or client
    calls: list[str],
    wanted: list[dict],  # [{operation, kind, skip}]
    hits: list[str],  # operations that were made to fail; grows
    from_states: bool = False,  # does Step Functions make the calls? It reports a time-out as a failed task
) -> None:
    "Note each call, and make the chosen ones fail."

    def before(model: Any, **_: Any) -> None:
        calls.append(f"{model.service_model.endpoint_prefix.replace('api.', '')}:{model.name}")
        _fail(model.name, [w for w in wanted if w["kind"] != "lost"], hits, from_states)

    def after(model: Any, **_: Any) -> None:
        _fail(model.name, [w for w in wanted if w["kind"] == "lost"], hits, from_states)

    events.register("before-call", before)
    events.register("after-call", after)


def _fail(
    operation: str,
    wanted: list[dict],  # [{operation, kind, skip}]
    hits: list[str],
    from_states: bool,
) -> None:
    "Raise what botocore raises once its own retries are used up."
    for w in wanted:
        if w["operation"] == operation:
            if w["skip"] > 0:
                w["skip"] -= 1
                continue
            hits.append(operation)
            if w["kind"] == "slow":
                time.sleep(3)
            if w["kind"] in ("timeout", "lost") and not from_states:
                raise ReadTimeoutError(endpoint_url=os.environ.get("AWS_ENDPOINT_URL", ""))
            code, status = KINDS.get(w["kind"], ("SdkClientException", 400))
            error = dict(Code=code, Message=f"made to fail by the stand-in ({w['kind']})")
            raise ClientError(dict(Error=error, ResponseMetadata=dict(HTTPStatusCode=status, RequestId="0")), operation)
