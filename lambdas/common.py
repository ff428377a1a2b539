"""What the functions share: clients that give up in time, one log line a call, errors the state machine can match.

Step Functions sees a Python exception as an error named after its class. Botocore has one class for almost
everything (`ClientError`), so a failed AWS call leaves here under one of three names, and the state machine knows
from the name alone whether trying again can help.
"""

from __future__ import annotations

import functools
import json
import time
from typing import Any, Callable
from urllib.parse import urlparse

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError


class AwsBusy(Exception):
    "Throttled, timed out or broken on AWS's side: the same call may succeed later. The state machine retries it."


class AwsDenied(Exception):
    "The function's role lacks a permission: no retry will help."


class AwsRefused(Exception):
    "AWS understood the call and said no: no retry will help."


BUSY = {
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "UnauthorizedOperation",
    "UnrecognizedClientException",
}


@functools.lru_cache(maxsize=None)
def client(
    service: str,  # boto3's name, e.g. "sagemaker"
) -> Any:  # one per service and process
    "A client that answers or gives up well within a function's timeout."
    return boto3.client(
        service, config=Config(connect_timeout=3, read_timeout=10, retries=dict(mode="standard", total_max_attempts=2))
    )


def code_of(
    error: ClientError,  # as botocore raises it
) -> str:  # e.g. "AccessDenied"; "404" for a HEAD request
    "AWS's own name of an error."
    return error.response.get("Error", {}).get("Code", "")


def translated(
    error: Exception,
    where: str = "",
) -> Exception:  # `AwsBusy`, `AwsDenied` or `AwsRefused`, saying which call failed
    "A failed AWS call under a name the state machine matches."
    if not isinstance(error, ClientError):
        final = isinstance(error, (NoCredentialsError, ParamValidationError))
        return (AwsRefused if final else AwsBusy)(f"{where}: {type(error).__name__}: {error}")
    http = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    text = error.response.get("Error", {}).get("Message", "") or "no message"
    kind = AwsDenied if code_of(error) in DENIED or http in (401, 403) else AwsRefused
    if code_of(error) in BUSY or http == 429 or http >= 500:
        kind = AwsBusy
    return kind(f"{where}: {error.operation_name}: {code_of(error)}: {text}")


def log(
    event: str,  # what happened, e.g. "checked"
    **fields: Any,  # counts, names, ARNs; never an image, a label of one image, or anything of a patient
) -> None:
    "One line of JSON in CloudWatch Logs."
    print(json.dumps(dict(event=event, **fields), default=str), flush=True)


def entry(
    work: Callable[[dict], dict],  # does the work: event -> result
) -> Callable[[dict, Any], dict]:  # what Lambda calls
    "Make an entry point: a log line for each call, and errors with names."

    @functools.wraps(work)
    def handler(event: dict, context: Any) -> dict:
        start = time.monotonic()
        about = dict(function=context.function_name, request=context.aws_request_id)
        try:
            result = work(event)
        except Exception as e:
            error = translated(e, context.function_name) if isinstance(e, (ClientError, BotoCoreError)) else e
            log("failed", **about, error=type(error).__name__, message=str(error), ms=_ms(start))
            raise error from e
        log("done", **about, summary=result.get("summary", ""), ms=_ms(start))
        return result

    return handler


def _ms(
    start: float,  # `time.monotonic()` then
) -> int:
    "Milliseconds since."
    return round((time.monotonic() - start) * 1000)


def read_s3_json(
    s3: Any,  # S3 client
    uri: str,  # s3://bucket/key
) -> Any:  # raises `FileNotFoundError` when there is no such object
    "Read a JSON object."
    u = urlparse(uri)
    try:
        return json.load(s3.get_object(Bucket=u.netloc, Key=u.path.lstrip("/"))["Body"])
    except ClientError as e:
        if code_of(e) in ("NoSuchKey", "404"):
            raise FileNotFoundError(f"{uri} does not exist") from None
        raise


def newest_package(
    sm: Any,
    group: str,  # model package group
    **only: str,  # e.g. ModelApprovalStatus="Approved"
) -> dict | None:  # as DescribeModelPackage answers; None when there is none
    "The newest registered model of a group."
    found = sm.list_model_packages(
        ModelPackageGroupName=group, SortBy="CreationTime", SortOrder="Descending", MaxResults=1, **only
    )["ModelPackageSummaryList"]
    return sm.describe_model_package(ModelPackageName=found[0]["ModelPackageArn"]) if found else None


def evaluation_uri(
    package: dict,  # as DescribeModelPackage answers
) -> str:  # "" when the model was registered without one
    "Where a registered model's `evaluation.json` is."
    metrics = package.get("ModelMetrics", {}).get("ModelQuality", {})
    return metrics.get("Statistics", {}).get("S3Uri", "")
