"Step Functions: moto's interpreter executes the real definition; here it learns to hurry, and to be watched."

from __future__ import annotations

import functools
import json
import time
import types
import uuid
from typing import Any, Iterator

import moto.stepfunctions.parser.asl.component.state.exec.state_task.lambda_eval_utils as lambda_eval
import moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_aws_sdk as aws_sdk
import moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_sns as sns
from moto.core.config import default_user_config
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import WaitFunction
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.parse.preprocessor import Preprocessor
from moto.stepfunctions.parser.asl.utils import boto_client
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication
from moto.stepfunctions.parser.models import StepFunctionsParserBackend

from tests.standin import faults
from tests.standin.events import report

scale = 0.01  # real seconds per second of Wait and Retry
waits: list[float] = []  # seconds asked for by Wait states
retries: list[float] = []  # seconds asked for by retriers
_installed = False


def install() -> None:
    "Put the changes into moto, once."
    global _installed
    if _installed:
        return
    _installed = True
    _read_each_definition_once()
    _hurry()
    _name_executions()
    _write_json_bodies()
    _watch_calls()
    _report_endings()
    aws_sdk._SERVICE_ERROR_NAMES.update(sagemaker="SageMaker", s3="S3")  # as AWS spells them in an error's name


def reset() -> None:
    "Nobody has waited yet."
    waits.clear()
    retries.clear()


def execute(really: bool) -> None:
    "Execute state machines, or go back to moto's way of only keeping them."
    default_user_config["stepfunctions"] = {"execute_state_machine": really}


def _read_each_definition_once() -> None:
    "moto reads a definition when a machine is made and at each start, which takes longer than most executions."
    parse, known = AmazonStateLanguageParser.parse, {}
    validate = StepFunctionsParserBackend._validate_definition

    def parse_once(definition: str) -> tuple:
        tree = known.get(definition) or parse(definition)[1]
        program = Preprocessor().visit(tree)
        known[definition] = tree
        return program, tree

    def validate_once(definition: str) -> None:
        if definition not in known:
            validate(definition)

    AmazonStateLanguageParser.parse = staticmethod(parse_once)
    StepFunctionsParserBackend._validate_definition = staticmethod(validate_once)


def _hurry() -> None:
    "Wait states and retries take `scale` of their time."

    def wait(self: Any, env: Any) -> None:
        seconds = self._get_wait_seconds(env=env)
        waits.append(seconds)
        env.program_state_event.wait(seconds * scale)

    def sleep(seconds: float) -> None:
        retries.append(seconds)
        time.sleep(seconds * scale)

    WaitFunction._eval_body = wait
    retrier_decl.time = types.SimpleNamespace(sleep=sleep)


def _name_executions() -> None:
    "An execution started without a name gets one; moto calls it None."
    start = StepFunctionsParserBackend.start_execution

    def start_execution(self: Any, state_machine_arn: str, name: str, execution_input: str) -> Any:
        return start(self, state_machine_arn, name or str(uuid.uuid4()), execution_input)

    StepFunctionsParserBackend.start_execution = start_execution


def _write_json_bodies() -> None:
    "A body given as JSON is written as JSON; moto hands the dict to boto3, which refuses it."
    evaluate = aws_sdk.StateTaskServiceAwsSdk._eval_service_task

    def eval_service_task(
        self: Any, env: Any, resource_runtime_part: Any, normalised_parameters: dict, **more: Any
    ) -> None:
        if isinstance(normalised_parameters.get("Body"), (dict, list)):
            normalised_parameters["Body"] = json.dumps(normalised_parameters["Body"], default=str).encode()
        evaluate(self, env, resource_runtime_part, normalised_parameters, **more)

    aws_sdk.StateTaskServiceAwsSdk._eval_service_task = eval_service_task


def _report_endings() -> None:
    "An execution's end is an event on the default bus, without its error and cause; moto sends none."
    terminated = BaseExecutionWorkerCommunication.terminated

    def terminated_and_told(self: Any) -> None:
        terminated(self)
        x = self.execution
        detail = dict(executionArn=x.exec_arn, stateMachineArn=x.state_machine.arn, name=x.name, status=x.exec_status)
        report("aws.states", "Step Functions Execution Status Change", detail, x.exec_arn)

    BaseExecutionWorkerCommunication.terminated = terminated_and_told


def _watch_calls() -> None:
    "The machine's own calls (not those of its functions) are remembered and can be made to fail."
    create = boto_client.boto_client_for

    @functools.lru_cache(maxsize=None)  # moto makes a client for each call, which takes longer than the call
    def watched(region: str, service: str, url: str) -> Any:
        client = create(region=region, service=service)
        wanted: Any = _Wanted()
        faults.watch(client.meta.events, _Calls(), wanted, _Hits(), from_states=True)
        return client

    def boto_client_for(region: str, service: str, state_credentials: Any = None) -> Any:
        return watched(region, service, faults.url)

    for module in (aws_sdk, sns, lambda_eval, boto_client):
        module.boto_client_for = boto_client_for


class _Wanted:
    "The faults that wait for the state machine, whenever they are looked at."

    def __iter__(self) -> Iterator[dict]:
        return iter([dict(f.wanted(), skip=max(0, f.nth - f.seen)) for f in faults.pending("states")])


class _Calls(list):
    "A list whose additions go into the record."

    def append(self, call: str) -> None:
        faults.note("states", call)


class _Hits(list):
    "A list whose additions count against the faults."

    def append(self, operation: str) -> None:
        for f in faults.pending("states"):
            if f.operation == operation:
                f.hits += 1
                return
