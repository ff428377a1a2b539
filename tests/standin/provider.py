"What Terraform's AWS provider sets and reads back, and moto forgets or does not answer: a plan would see a change."

from __future__ import annotations

import json
import sys
import time
from typing import Any, Callable

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.awslambda.models import LambdaFunction
from moto.budgets.responses import BudgetsResponse
from moto.core import responses as core_responses
from moto.core.exceptions import JsonRESTError
from moto.core.responses import EmptyResult
from moto.ec2.models.security_groups import SecurityGroupBackend
from moto.kms.responses import KmsResponse
from moto.s3.responses import S3Response
from moto.sagemaker.exceptions import AWSValidationException
from moto.sagemaker.responses import SageMakerResponse
from moto.stepfunctions.responses import StepFunctionResponse

_tags: dict[str, Any] = {}  # of things whose tags moto drops
_schedules: dict[str, dict] = {}  # monitoring schedules
_subscribers: dict[str, list[dict]] = {}  # of budgets
_rotation: dict[str, int] = {}  # key -> days
_tiering: dict[tuple[str, str], str] = {}  # (bucket, name) -> intelligent tiering configuration, as sent
_installed = False


def install() -> None:
    "Put the answers into moto, once."
    global _installed
    if _installed:
        return
    _installed = True
    _scaling_tags()
    _budgets()
    _state_machines()
    _monitoring_schedules()
    _model_package_groups()
    _security_groups()
    _dead_letters()
    _key_rotation()
    _intelligent_tiering()
    _replication_of_encrypted_objects()
    _gaps_fail_at_once()


def reset() -> None:
    "Forget what was set."
    for kept in (_tags, _schedules, _subscribers, _rotation, _tiering):
        kept.clear()


def _body(response: Any) -> dict:
    "A JSON request."
    return json.loads(response.body)


def _scaling_tags() -> None:
    "Tags of scalable targets."
    register = ApplicationAutoScalingResponse.register_scalable_target

    def register_scalable_target(self: Any) -> Any:
        tags = _body(self).get("Tags")
        if tags:
            _tags[_body(self)["ResourceId"]] = tags
        return register(self)

    def list_tags_for_resource(self: Any) -> str:
        return json.dumps(dict(Tags=next((v for k, v in _tags.items() if k.startswith("endpoint/")), {})))

    ApplicationAutoScalingResponse.register_scalable_target = register_scalable_target
    ApplicationAutoScalingResponse.list_tags_for_resource = list_tags_for_resource


def _budgets() -> None:
    "Tags and subscribers of budgets, and changing a limit."
    create, notify = BudgetsResponse.create_budget, BudgetsResponse.create_notification

    def create_budget(self: Any) -> Any:
        body = _body(self)
        _tags["budget:" + body["Budget"]["BudgetName"]] = body.get("ResourceTags", [])
        for n in body.get("NotificationsWithSubscribers", []):
            _subscribers[_key(n["Notification"])] = n["Subscribers"]
        return create(self)

    def create_notification(self: Any) -> Any:
        _subscribers[_key(_body(self)["Notification"])] = _body(self)["Subscribers"]
        return notify(self)

    def describe_subscribers_for_notification(self: Any) -> str:
        return json.dumps(dict(Subscribers=_subscribers.get(_key(_body(self)["Notification"]), [])))

    def list_tags_for_resource(self: Any) -> str:
        return json.dumps(dict(ResourceTags=_tags.get("budget:" + _body(self)["ResourceARN"].split("/")[-1], [])))

    def update_budget(self: Any) -> str:
        new = self._get_param("NewBudget")
        self.backend.budgets[self._get_param("AccountId")][new["BudgetName"]].budget.update(new)
        return "{}"

    BudgetsResponse.create_budget = create_budget
    BudgetsResponse.create_notification = create_notification
    BudgetsResponse.describe_subscribers_for_notification = describe_subscribers_for_notification
    BudgetsResponse.list_tags_for_resource = list_tags_for_resource
    BudgetsResponse.update_budget = update_budget


def _key(notification: dict) -> str:
    "What tells one notification of a budget from another."
    return f"{notification['NotificationType']} {float(notification['Threshold'])} {notification['ThresholdType']}"


def _state_machines() -> None:
    "Validation of a definition before it is created, and versions, of which there are none."

    def validate_state_machine_definition(self: Any) -> str:
        definition = json.loads(self._get_param("definition"))
        problem = dict(severity="ERROR", code="MISSING_TRANSITION_TARGET", message="StartAt")
        found = [] if definition.get("StartAt") in definition.get("States", {}) else [problem]
        return json.dumps(dict(result="FAIL" if found else "OK", diagnostics=found, truncated=False))

    def list_state_machine_versions(self: Any) -> str:
        return json.dumps(dict(stateMachineVersions=[]))

    StepFunctionResponse.validate_state_machine_definition = validate_state_machine_definition
    StepFunctionResponse.list_state_machine_versions = list_state_machine_versions


def _monitoring_schedules() -> None:
    "SageMaker's monitoring schedules, with the tags they were given."

    def arn(name: str) -> str:
        return f"arn:aws:sagemaker:us-east-1:123456789012:monitoring-schedule/{name}"

    def create(self: Any) -> str:
        b = _body(self)
        name = b["MonitoringScheduleName"]
        _schedules[name] = dict(
            MonitoringScheduleArn=arn(name),
            MonitoringScheduleName=name,
            MonitoringScheduleStatus="Scheduled",
            MonitoringScheduleConfig=b["MonitoringScheduleConfig"],
            CreationTime=time.time(),
            LastModifiedTime=time.time(),
        )
        _tags[arn(name)] = b.get("Tags", [])
        return json.dumps(dict(MonitoringScheduleArn=arn(name)))

    def describe(self: Any) -> str:
        name = _body(self)["MonitoringScheduleName"]
        if name not in _schedules:
            raise JsonRESTError("ResourceNotFound", f"no schedule {name}")
        return json.dumps(_schedules[name])

    def delete(self: Any) -> str:
        _schedules.pop(_body(self)["MonitoringScheduleName"], None)
        return "{}"

    list_tags: Callable[[Any], Any] = SageMakerResponse.list_tags

    def list_tags_too(self: Any) -> Any:
        wanted = _body(self)["ResourceArn"]
        return json.dumps(dict(Tags=_tags[wanted])) if wanted in _tags else list_tags(self)

    SageMakerResponse.create_monitoring_schedule = create
    SageMakerResponse.describe_monitoring_schedule = describe
    SageMakerResponse.delete_monitoring_schedule = delete
    SageMakerResponse.list_monitoring_executions = lambda self: json.dumps(dict(MonitoringExecutionSummaries=[]))
    SageMakerResponse.list_tags = list_tags_too


def _model_package_groups() -> None:
    "Deleting a version, and a group that has none left."

    def delete_model_package(self: Any) -> EmptyResult:
        arn = self.sagemaker_backend.describe_model_package(self._get_param("ModelPackageName")).arn
        del self.sagemaker_backend.model_packages[arn]
        return EmptyResult()

    def delete_model_package_group(self: Any) -> EmptyResult:
        backend, name = self.sagemaker_backend, self._get_param("ModelPackageGroupName")
        if any(p.model_package_group_name == name for p in backend.model_packages.values()):
            raise AWSValidationException(f"Model Package Group {name} cannot be deleted: it is not empty.")
        backend.model_package_groups.pop(name, None)
        return EmptyResult()

    SageMakerResponse.delete_model_package = delete_model_package
    SageMakerResponse.delete_model_package_group = delete_model_package_group


def _security_groups() -> None:
    "A rule for every protocol has no ports; moto compares the ports that the provider sends nevertheless."

    def without_ports(change: Callable) -> Callable:
        def changed(self: Any, **named: Any) -> Any:
            if named["ip_protocol"] == "-1":
                named.update(from_port=None, to_port=None)
            return change(self, **named)

        return changed

    for name in ("revoke_security_group_egress", "authorize_security_group_egress"):
        setattr(SecurityGroupBackend, name, without_ports(getattr(SecurityGroupBackend, name)))


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


def _stripped(o: Any) -> Any:
    "Without the empty fields that SageMaker leaves out."
    if isinstance(o, dict):
        o = {k: _stripped(v) for k, v in o.items()}
        return {
            k: v for k, v in o.items() if v not in (None, {}, []) and not (k == "VpcConfig" and not any(v.values()))
        }
    return [_stripped(x) for x in o] if isinstance(o, list) else o


def _gaps_fail_at_once() -> None:
    "What moto does not have is refused (400) rather than broken (500), or the provider would try again for minutes."
    call = core_responses.BaseResponse.call_action

    def call_action(self: Any) -> Any:
        try:
            status, headers, body = call(self)
        except (NotImplementedError, KeyError, AttributeError, TypeError) as e:
            print(f"stand-in: {self.service_name} {self._get_action()}: {type(e).__name__}: {e}", file=sys.stderr)
            return 400, {}, json.dumps(dict(__type="NotInTheStandIn", message=f"{type(e).__name__}: {e}"))
        if self.service_name == "sagemaker" and self._get_action().startswith("Describe") and status == 200:
            body = json.dumps(_stripped(json.loads(body)))
        return status, headers, body

    core_responses.BaseResponse.call_action = call_action
