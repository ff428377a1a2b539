"A load balancer's request in, the endpoint's answer out: the image goes through unread and unlogged."

from __future__ import annotations

import base64
import json
import logging
import os
from typing import Any

import boto3
from botocore.exceptions import ClientError

ENDPOINT_NAME = os.environ["ENDPOINT_NAME"]
# and image/*
CONTENT_TYPES = ("application/json", "application/octet-stream", "application/x-npy", "multipart/form-data")
MAX_BYTES = 1_000_000  # what a load balancer passes to a function

logger = logging.getLogger(__name__)
logger.setLevel(os.environ.get("LOG_LEVEL", "INFO"))
runtime = boto3.client("sagemaker-runtime")


def respond(
    status: int,
    body: str,  # JSON text
) -> dict[str, Any]:  # what a load balancer expects of a function
    "One HTTP response."
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return {"statusCode": status, "headers": headers, "isBase64Encoded": False, "body": body}


def refuse(
    status: int,
    problem: str,  # what is wrong, with the remedy
) -> dict[str, Any]:
    "An error the caller can act on."
    return respond(status, json.dumps({"error": problem}))


def read_body(
    event: dict[str, Any],  # load balancer event
) -> bytes:  # the request body
    "The body's bytes, whether or not the load balancer encoded them."
    body = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()


def predict(
    body: bytes,  # an image, or the endpoint's JSON form
    content_type: str,  # its media type
) -> dict[str, Any]:
    "Ask the endpoint; its own refusals pass through, its failures become 502 or 503."
    try:
        answer = runtime.invoke_endpoint(
            EndpointName=ENDPOINT_NAME, Body=body, ContentType=content_type, Accept="application/json"
        )
    except ClientError as e:
        code, original = e.response["Error"]["Code"], e.response.get("OriginalStatusCode")
        logger.warning(json.dumps({"event": "endpoint_error", "code": code, "status": original}))
        if code == "ModelError" and original and 400 <= int(original) < 500:
            return respond(int(original), e.response.get("OriginalMessage") or "{}")
        if code in ("ThrottlingException", "ServiceUnavailable"):
            return refuse(503, "the endpoint is busy: try again in a few seconds")
        return refuse(502, "the endpoint could not answer: its alarm and its log have the reason")
    return respond(200, answer["Body"].read().decode())


def handler(
    event: dict[str, Any],  # application load balancer target event
    context: Any,  # Lambda context, unused
) -> dict[str, Any]:  # load balancer response
    "GET /ping for health, POST /predict for an image."
    method, path = event.get("httpMethod"), event.get("path")
    if (method, path) == ("GET", "/ping"):
        return respond(200, "{}")
    if path != "/predict":
        return refuse(404, "no such path: POST an image to /predict")
    if method != "POST":
        return refuse(405, "POST an image to /predict")
    headers = {k.lower(): v for k, v in (event.get("headers") or {}).items()}
    content_type = headers.get("content-type", "").split(";")[0].strip().lower()
    if content_type not in CONTENT_TYPES and not content_type.startswith("image/"):
        return refuse(415, f"content type {content_type or '(none)'}: send an image, or {', '.join(CONTENT_TYPES)}")
    body = read_body(event)
    if not 0 < len(body) <= MAX_BYTES:
        return refuse(413 if body else 400, f"{len(body)} bytes: send an image of 1 to {MAX_BYTES:,} bytes")
    return predict(body, content_type)
