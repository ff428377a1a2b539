"What Terraform's AWS provider reads back after it has created something, and moto does not answer."

from __future__ import annotations

import json
import sys
import time
from typing import Any, Callable

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.budgets.responses import BudgetsResponse
from moto.core import responses as core_responses
from moto.core.exceptions import JsonRESTError
from moto.core.responses import EmptyResult
from moto.ec2.models.security_groups import SecurityGroupBackend
from moto.sagemaker.responses import SageMakerResponse
from moto.stepfunctions.responses import StepFunctionResponse

_tags: dict[str, Any] = {}  # of things whose tags moto drops
_schedules: dict[str, dict] = {}  # monitoring schedules
_subscribers: dict[str, list[dict]] = {}  # of budgets
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
    _gaps_fail_at_once()


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
    "Tags and subscribers of budgets."
    create = BudgetsResponse.create_budget

    def create_budget(self: Any) -> Any:
        body = _body(self)
        _tags["budget:" + body["Budget"]["BudgetName"]] = body.get("ResourceTags", [])
        for n in body.get("NotificationsWithSubscribers", []):
            _subscribers[json.dumps(n["Notification"], sort_keys=True)] = n["Subscribers"]
        return create(self)

    def describe_subscribers_for_notification(self: Any) -> str:
        wanted = _body(self)["Notification"]
        found = next((s for k, s in _subscribers.items() if json.loads(k).items() <= wanted.items()), None)
        return json.dumps(dict(Subscribers=found or next(iter(_subscribers.values()), [])))

    def list_tags_for_resource(self: Any) -> str:
        return json.dumps(dict(ResourceTags=_tags.get("budget:" + _body(self)["ResourceARN"].split("/")[-1], [])))

    BudgetsResponse.create_budget = create_budget
    BudgetsResponse.describe_subscribers_for_notification = describe_subscribers_for_notification
    BudgetsResponse.list_tags_for_resource = list_tags_for_resource


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
    "Deleting a model package group."

    def delete_model_package_group(self: Any) -> EmptyResult:
        self.sagemaker_backend.model_package_groups.pop(self._get_param("ModelPackageGroupName"), None)
        return EmptyResult()

    SageMakerResponse.delete_model_package_group = delete_model_package_group


def _security_groups() -> None:
    "A rule for every protocol has no ports; moto compares the ports that the provider sends nevertheless."

    def without_ports(change: Callable) -> Callable:
        def changed(self: Any, group: str, protocol: str, low: Any, high: Any, *given: Any, **named: Any) -> Any:
            low, high = (None, None) if protocol == "-1" else (low, high)
            return change(self, group, protocol, low, high, *given, **named)

        return changed

    for name in ("revoke_security_group_egress", "authorize_security_group_egress"):
        setattr(SecurityGroupBackend, name, without_ports(getattr(SecurityGroupBackend, name)))


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
