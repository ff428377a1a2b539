"SageMaker: pipelines that run, endpoints that take time and can roll back, a registry that reports what happens to it."

from __future__ import annotations

import json
import threading
import time
from typing import Any, Callable

from moto.core import DEFAULT_ACCOUNT_ID
from moto.sagemaker.exceptions import AWSValidationException
from moto.sagemaker.models import ModelPackage, SageMakerModelBackend, sagemaker_backends
from moto.sagemaker.responses import SageMakerResponse
from moto.sagemakerruntime.responses import SageMakerRuntimeResponse

from skin_lesion_mlops.taxonomy import HAM10000
from tests.standin import faults
from tests.standin.events import report

Executor = Callable[[dict, dict, str], dict]  # (definition, parameters, execution id) -> {status, reason, steps}
Container = Callable[[str, bytes], tuple[int, bytes]]  # (content type, body) -> status, answer

executor: Executor | None = None  # runs a pipeline; None: moto's own "Succeeded"
endpoint_fate = "Deployed"  # or RolledBack, Failed: what becomes of the next update
endpoint_seconds = 0.0  # how long an update takes
container: Container | None = None  # answers for the endpoint; None: every class is as likely as the other
_steps: dict[str, dict[str, dict]] = {}  # execution ARN -> its steps
_tokens: dict[str, str] = {}  # client request token -> execution ARN
_installed = False


def install() -> None:
    "Put the changes into moto, once."
    global _installed
    if _installed:
        return
    _installed = True
    _keep_what_is_not_mentioned()
    _report_approvals()
    _run_pipelines()
    _update_endpoints()
    _answer_pictures()


def reset() -> None:
    "Forget what happened."
    global endpoint_fate, endpoint_seconds, container
    endpoint_fate, endpoint_seconds, container = "Deployed", 0.0, None
    _steps.clear()
    _tokens.clear()


def _keep_what_is_not_mentioned() -> None:
    "An update leaves what it does not mention; moto sets status, description and metadata to None."
    update = SageMakerModelBackend.update_model_package
    fields = ("model_approval_status", "approval_description", "customer_metadata_properties")

    def update_model_package(self: Any, model_package_arn: str, *given: Any, **named: Any) -> str:
        package = self.model_packages.get(self.model_package_name_mapping.get(model_package_arn, model_package_arn))
        before = {f: getattr(package, f, None) for f in fields}
        answer = update(self, model_package_arn, *given, **named)
        for f in fields:
            if getattr(package, f) is None:
                setattr(package, f, before[f])
        return answer

    SageMakerModelBackend.update_model_package = update_model_package


def _report_approvals() -> None:
    "A new approval status is an event on the default bus; moto sends none."
    set_status = ModelPackage.set_model_approval_status

    def set_model_approval_status(self: Any, model_approval_status: str | None) -> None:
        set_status(self, model_approval_status)
        if model_approval_status and faults.url:
            detail = dict(
                ModelPackageGroupName=self.model_package_group_name,
                ModelPackageVersion=self.model_package_version,
                ModelPackageArn=self.arn,
                ModelPackageStatus="Completed",
                ModelApprovalStatus=model_approval_status,
                UpdatedModelPackageFields=["ModelApprovalStatus"],
            )
            report("aws.sagemaker", "SageMaker Model Package State Change", detail, self.arn)

    ModelPackage.set_model_approval_status = set_model_approval_status


def _run_pipelines() -> None:
    "A pipeline execution runs its definition and has steps; moto's has succeeded before it began, and has none."
    begin = SageMakerModelBackend.start_pipeline_execution
    describe = SageMakerModelBackend.describe_pipeline_execution

    def start_pipeline_execution(self: Any, pipeline_name: str, *given: Any) -> dict:
        token, parameters = given[-1], given[1]
        if executor is None:
            return begin(self, pipeline_name, *given)
        if token in _tokens:  # moto ignores the token, SageMaker answers with the execution it knows
            return dict(PipelineExecutionArn=_tokens[token])
        answer = begin(self, pipeline_name, *given)
        arn = _tokens[token] = answer["PipelineExecutionArn"]
        execution = self.pipelines[pipeline_name].pipeline_executions[arn]
        execution.pipeline_execution_status = "Executing"
        definition = json.loads(self.pipelines[pipeline_name].pipeline_definition)
        threading.Thread(target=_execute, args=(execution, definition, parameters), daemon=True).start()
        return answer

    def describe_pipeline_execution(self: Any, pipeline_execution_arn: str) -> dict:
        answer = describe(self, pipeline_execution_arn)
        name = pipeline_execution_arn.split("/")[1]
        execution = self.pipelines[name].pipeline_executions[pipeline_execution_arn]
        return {**answer, "FailureReason": execution.pipeline_execution_failure_reason or ""}

    def list_pipeline_execution_steps(self: Any) -> str:
        return json.dumps(
            dict(PipelineExecutionSteps=list(_steps.get(self._get_param("PipelineExecutionArn"), {}).values()))
        )

    def stop_pipeline_execution(self: Any) -> str:
        arn = self._get_param("PipelineExecutionArn")
        execution = self.sagemaker_backend.pipelines[arn.split("/")[1]].pipeline_executions[arn]
        execution.pipeline_execution_status = "Stopped"
        return json.dumps(dict(PipelineExecutionArn=arn))

    SageMakerModelBackend.start_pipeline_execution = start_pipeline_execution
    SageMakerModelBackend.describe_pipeline_execution = describe_pipeline_execution
    SageMakerResponse.list_pipeline_execution_steps = list_pipeline_execution_steps
    SageMakerResponse.stop_pipeline_execution = stop_pipeline_execution


def show(
    run: str,
    steps: dict[str, dict],  # name -> as ListPipelineExecutionSteps lists it; times in seconds since 1970
) -> None:
    "Say how far an execution is, while it runs."
    _steps[next(arn for arn in _tokens.values() if arn.endswith(f"/{run}"))] = steps


def _execute(
    execution: Any,  # moto's
    definition: dict,  # of the pipeline
    given: list[dict] | None,  # parameters, as StartPipelineExecution takes them
) -> None:
    "Run a pipeline and record how it ended."
    assert executor is not None
    types = {p["Name"]: p["Type"] for p in definition["Parameters"]}
    read = {"Integer": int, "Float": float, "Boolean": lambda v: v == "true"}
    try:
        values = {p["Name"]: read.get(types[p["Name"]], str)(p["Value"]) for p in given or []}
        ended = executor(definition, values, execution.arn.split("/")[-1])
    except Exception as e:
        ended = dict(status="Failed", reason=f"{type(e).__name__}: {e}", steps={})
    _steps[execution.arn] = ended.get("steps") or _steps.get(execution.arn, {})
    execution.pipeline_execution_failure_reason = ended.get("reason", "")
    if execution.pipeline_execution_status == "Executing":
        execution.pipeline_execution_status = ended["status"]
    detail = dict(pipelineExecutionArn=execution.arn, currentPipelineExecutionStatus=ended["status"])
    report("aws.sagemaker", "SageMaker Model Building Pipeline Execution Status Change", detail, execution.arn)


def _update_endpoints() -> None:
    "UpdateEndpoint, which moto does not have, and an endpoint that is busy for a while and may come back as it was."
    create = SageMakerModelBackend.create_endpoint

    def create_endpoint(self: Any, *given: Any, **named: Any) -> Any:
        endpoint = create(self, *given, **named)
        if faults.url:
            _settle(endpoint, "Creating", "", endpoint.endpoint_config_name)
        return endpoint

    def update_endpoint(self: Any) -> str:
        name, config = self._get_param("EndpointName"), self._get_param("EndpointConfigName")
        endpoint = self.sagemaker_backend.endpoints[name]
        self.sagemaker_backend.describe_endpoint_config(config)  # refuses one that does not exist
        if endpoint.endpoint_status != "InService":
            raise AWSValidationException(f"Cannot update in-progress endpoint {endpoint.arn}.")
        _settle(endpoint, "Updating", endpoint.endpoint_config_name, config)
        return json.dumps(dict(EndpointArn=endpoint.arn))

    SageMakerModelBackend.create_endpoint = create_endpoint
    SageMakerResponse.update_endpoint = update_endpoint


def _settle(
    endpoint: Any,  # moto's
    status: str,
    old: str,  # endpoint config before, "" for a new endpoint
    new: str,  # endpoint config wanted
) -> None:
    "Let an endpoint be busy, then end as `endpoint_fate` says."
    endpoint.endpoint_status, endpoint.endpoint_config_name = status, old or new

    def end() -> None:
        time.sleep(endpoint_seconds)
        if endpoint_fate == "Deployed":
            endpoint.endpoint_config_name, endpoint.endpoint_status = new, "InService"
        elif endpoint_fate == "RolledBack" and old:
            endpoint.failure_reason = "One or more configured alarms went off during the deployment."
            endpoint.endpoint_status = "InService"
        else:
            endpoint.failure_reason, endpoint.endpoint_status = "The container did not pass the ping.", "Failed"

    threading.Thread(target=end, daemon=True).start()


def hold(
    name: str,
    status: str,  # e.g. "Updating", "UpdateRollbackFailed"
    reason: str = "",
) -> None:
    "Put an endpoint into a state, and leave it there."
    endpoint = sagemaker_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].endpoints[name]
    endpoint.endpoint_status, endpoint.failure_reason = status, reason


def _answer_pictures() -> None:
    "An endpoint in service answers as its container does; moto answers even for an endpoint that is not there."

    def invoke_endpoint(self: Any) -> tuple[int, dict, str | bytes]:
        name = self.path.split("/")[2]
        endpoint = sagemaker_backends[self.current_account][self.region].endpoints.get(name)
        if endpoint is None or endpoint.endpoint_status in ("Creating", "Deleting", "Failed"):
            return _no(400, "ValidationError", message=f"Endpoint {name} is not in service.")
        status, body = (container or uniform)(self.headers.get("Content-Type", ""), self.body)
        if status == 200:
            return 200, {"Content-Type": "application/json"}, body
        said = dict(OriginalStatusCode=status, OriginalMessage=body.decode())
        return _no(424, "ModelError", Message=f"Received {status} from the model: {body.decode()}", **said)

    setup = SageMakerRuntimeResponse.setup_class

    def setup_class(self: Any, request: Any, full_url: str, headers: Any) -> None:
        setup(self, request, full_url, headers, use_raw_body=True)  # moto takes a picture for text

    SageMakerRuntimeResponse.setup_class = setup_class
    SageMakerRuntimeResponse.invoke_endpoint = invoke_endpoint


def _no(status: int, error: str, **fields: Any) -> tuple[int, dict, str]:
    "A refusal, in the form in which moto takes one."
    headers = {"x-amzn-ErrorType": error, "Content-Type": "application/json", "status": status}
    return status, headers, json.dumps(dict(fields, __type=error))


def uniform(kind: str, body: bytes) -> tuple[int, bytes]:
    "A container that never knows."
    return 200, json.dumps(dict(predictions=[dict(probabilities={c: 1 / 7 for c in HAM10000.codes})])).encode()
