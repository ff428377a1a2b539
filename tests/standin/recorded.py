"""What Terraform calls when it makes, plans, changes and removes the platform, as IAM's actions.

`python -m tests.standin.recorded > tests/terraform_calls.json` asks the provider, which logs its calls; it takes about
eight minutes. `tests/test_bootstrap.py` holds the roles that GitHub assumes against it.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from tests.standin import server
from tests.standin.terraform import EXAMPLES, Refused, Root

SERVICES = {  # the SDK's name -> IAM's, where it is not the same in small letters
    "CloudWatch Logs": "logs",
    "Cognito Identity Provider": "cognito-idp",
    "Elastic Load Balancing v2": "elasticloadbalancing",
    "EventBridge": "events",
    "SFN": "states",
    "Secrets Manager": "secretsmanager",
    "ApiGatewayV2": "apigateway",
}
S3 = {  # operations whose permission has another name; to delete a setting one needs the permission to put it
    "HeadBucket": "ListBucket",
    "HeadObject": "GetObject",
    "ListObjectVersions": "ListBucketVersions",
    "GetBucketCors": "GetBucketCORS",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "DeleteObjects": "DeleteObjectVersion",
}
METHODS = dict(Get="GET", Create="POST", Update="PATCH", Delete="DELETE", Tag="PUT")  # API Gateway's actions
UNGUARDED = {"sts:GetCallerIdentity"}  # everybody may
# Change what can be changed without being made anew
CHANGES = (
    "log_level=DEBUG retraining_days=20 min_new_samples=50 image_tag=two log_retention_days=14 trail_days=400"
    ' logs_bucket_days=40 alarms={latency_ms=900,monthly_cost_usd=400} tags={Team="one"} alert_emails=["b@example.com"]'
).split()


def action(
    service: str,  # as the SDK calls it
    operation: str,
) -> str:
    "The permission that an operation needs."
    prefix = SERVICES.get(service, service.lower())
    verb, rest = re.fullmatch(r"([A-Z][a-z]+)(.*)", operation).groups()  # type: ignore[union-attr]
    if prefix == "apigateway":
        return f"apigateway:{METHODS[verb]}"
    if prefix == "budgets" and "Tag" not in operation:
        return f"budgets:{'ViewBudget' if verb == 'Describe' else 'ModifyBudget'}"
    if prefix == "s3" and operation in S3:
        return f"s3:{S3[operation]}"
    if prefix == "s3":
        verb = "Put" if verb == "Delete" and rest not in ("Bucket", "BucketPolicy") else verb
        short = rest.removeprefix("Bucket")
        if short in (
            "Encryption",
            "Lifecycle",
            "Replication",
            "IntelligentTieringConfiguration",
            "LifecycleConfiguration",
            "AccelerateConfiguration",
        ):
            rest = short.removesuffix("Configuration") + "Configuration"
        rest = "BucketPublicAccessBlock" if rest == "PublicAccessBlock" else rest
        return f"s3:{verb}{rest}"
    return f"{prefix}:{operation}"


def calls(
    log: str,  # what the provider wrote with TF_LOG_PROVIDER=DEBUG
) -> set[str]:
    "The permissions behind the calls of a log."
    found = set()
    for entry in re.split(r"\n(?=\d{4}-\d\d-\d\dT)", log):
        operation = re.search(r"rpc\.method=(\w+)", entry)
        service = re.search(r'rpc\.service=(?:"([^"]+)"|(\w+))', entry)
        if operation and service:
            found.add(action(service[1] or service[2], operation[1]))
    return found - UNGUARDED


def record(
    example: str,
    folder: Path,  # empty
) -> set[str]:
    "Make the example, plan it, change it, remove it."
    running = server.serve()
    try:
        root = Root(folder, running.url)
        root.given = [f"-var-file=examples/{e}.tfvars" for e in (example, "sandbox")]
        certificate = running.client("acm").request_certificate(DomainName="predict.example.org")["CertificateArn"]
        root.given += [f"-var=certificate_arn={certificate}"] if example == "hipaa" else []
        log = folder / "provider.log"
        root.env.update(TF_LOG_PROVIDER="DEBUG", TF_LOG_PATH=str(log))
        root.apply()
        try:
            root.apply(*(f"-var={c}" for c in CHANGES))
        except Refused as e:  # a call that the stand-in does not answer was made all the same
            assert "NotInTheStandIn" in str(e) or "TagResource" in str(e), e
        root.destroy()
        return calls(log.read_text(errors="replace"))
    finally:
        running.stop()


def main() -> None:
    "Print what both examples call."
    with tempfile.TemporaryDirectory(prefix="recorded-") as tmp:
        found = {e: record(e, Path(tmp, e)) for e in EXAMPLES}
    print(json.dumps({e: sorted(f) for e, f in found.items()}, indent=1))


if __name__ == "__main__":
    main()
