"What Terraform's AWS provider sets and moto forgets: read back, it would look like a change that somebody made."

from __future__ import annotations

import json
from typing import Any

from moto.awslambda.models import LambdaFunction
from moto.budgets.responses import BudgetsResponse
from moto.kms.responses import KmsResponse
from moto.s3.responses import S3Response

_rotation: dict[str, int] = {}  # key -> days
_tiering: dict[tuple[str, str], str] = {}  # (bucket, name) -> intelligent tiering configuration, as sent
_installed = False


def install() -> None:
    "Put the changes into moto, once."
    global _installed
    if _installed:
        return
    _installed = True
    _dead_letters()
    _key_rotation()
    _intelligent_tiering()
    _budget_updates()
    _replication_of_encrypted_objects()


def _dead_letters() -> None:
    "A function's dead-letter queue."
    start, configuration = LambdaFunction.__init__, LambdaFunction.get_configuration

    def __init__(self: Any, account_id: str, spec: dict[str, Any], *given: Any, **named: Any) -> None:
        start(self, account_id, spec, *given, **named)
        self.dead_letters = spec.get("DeadLetterConfig")

    def get_configuration(self: Any, on_create: bool = False) -> dict[str, Any]:
        found = configuration(self, on_create)
        return {**found, "DeadLetterConfig": self.dead_letters} if self.dead_letters else found

    LambdaFunction.__init__ = __init__
    LambdaFunction.get_configuration = get_configuration


def _key_rotation() -> None:
    "How often a key is rotated."
    enable, status = KmsResponse.enable_key_rotation, KmsResponse.get_key_rotation_status

    def enable_key_rotation(self: Any) -> str:
        _rotation[self._get_param("KeyId")] = int(self._get_param("RotationPeriodInDays") or 365)
        return enable(self)

    def get_key_rotation_status(self: Any) -> str:
        answer = json.loads(status(self))
        if answer["KeyRotationEnabled"]:
            answer["RotationPeriodInDays"] = _rotation.get(self._get_param("KeyId"), 365)
        return json.dumps(answer)

    KmsResponse.enable_key_rotation = enable_key_rotation
    KmsResponse.get_key_rotation_status = get_key_rotation_status


def _intelligent_tiering() -> None:
    "A bucket's archive tiers; moto takes the call for one that makes the bucket anew, and empties it."
    respond = S3Response._bucket_response

    def _bucket_response(self: Any, request: Any, full_url: str) -> Any:
        query = self._get_querystring(request, full_url)
        if "intelligent-tiering" not in query:
            return respond(self, request, full_url)
        key = (self.parse_bucket_name_from_url(request, full_url), query.get("id", [""])[0])
        if request.method == "PUT":
            _tiering[key] = request.get_data(as_text=True)
            return 200, {}, ""
        if request.method == "DELETE":
            _tiering.pop(key, None)
            return 204, {}, ""
        if key not in _tiering:
            return 404, {}, "<Error><Code>NoSuchConfiguration</Code><Message>No such configuration</Message></Error>"
        return 200, {}, _tiering[key]

    S3Response._bucket_response = _bucket_response


def _budget_updates() -> None:
    "Changing a budget's limit."

    def update_budget(self: Any) -> str:
        new = self._get_param("NewBudget")
        self.backend.budgets[self._get_param("AccountId")][new["BudgetName"]].budget.update(new)
        return "{}"

    BudgetsResponse.update_budget = update_budget


def _replication_of_encrypted_objects() -> None:
    "Whether a bucket's encrypted objects are copied too."
    read = S3Response.get_bucket_replication
    chosen = (
        "<SourceSelectionCriteria><SseKmsEncryptedObjects><Status>Enabled</Status></SseKmsEncryptedObjects>"
        "</SourceSelectionCriteria></Rule>"
    )

    def get_bucket_replication(self: Any) -> Any:
        status, headers, body = read(self)
        rules = self.backend.get_bucket_replication(self.bucket_name)["Rule"]
        if any("SourceSelectionCriteria" in r for r in rules):
            body = (body.decode() if isinstance(body, bytes) else body).replace("</Rule>", chosen)
        return status, headers, body

    S3Response.get_bucket_replication = get_bucket_replication
