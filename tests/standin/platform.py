"""The platform in a few calls, for tests of the parts that need no Terraform.

Names, patterns and settings are those of `infra/`, whose own tests apply the real thing.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from lambdas import build
from tests.standin.server import StandIn

REPO = Path(__file__).resolve().parents[2]
ROLE = "arn:aws:iam::123456789012:role/{}"
MEMORY = dict(
    check_data_availability=256, check_pipeline_status=128, evaluate_model=512, approve_model=128, deploy_model=256
)
RULES = {
    "schedule": dict(ScheduleExpression="rate(30 days)"),
    "drift": dict(
        EventPattern={
            "source": ["aws.cloudwatch"],
            "detail-type": ["CloudWatch Alarm State Change"],
            "detail": {
                "alarmName": [f"skin-lesion-{n}" for n in ("data-drift", "accuracy-drop", "sensitivity-drop", "bias")],
                "state": {"value": ["ALARM"]},
            },
        }
    ),
    "manual": dict(EventPattern={"source": ["skin-lesion"], "detail-type": ["Retraining Requested"]}),
    "approval": dict(
        EventPattern={
            "source": ["aws.sagemaker"],
            "detail-type": ["SageMaker Model Package State Change"],
            "detail": {"ModelPackageGroupName": ["skin-lesion-models"], "ModelApprovalStatus": ["Approved"]},
        }
    ),
}


@dataclass
class Platform:
    "What was created, and hands on it."

    aws: StandIn
    machine: str = ""  # ARN
    topic: str = ""  # ARN
    queue: str = ""  # URL of the queue that hears the topic
    api: str = ""  # id of the HTTP API
    seen: list[dict] = field(default_factory=list)
    told: set[str] = field(default_factory=set)  # names of the executions that have told of themselves

    def messages(
        self,
        n: int = 1,  # how many to wait for
        seconds: float = 60,
    ) -> list[dict]:  # {outcome, subject, message}
        "What the topic has published so far, once there is so much of it; without repetitions of a failure."
        sqs, end = self.aws.client("sqs"), time.monotonic() + seconds
        while len(self.seen) < n and time.monotonic() < end:
            for m in sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", []):
                body = json.loads(m["Body"])
                outcome = body.get("MessageAttributes", {}).get("outcome", {}).get("Value", "")
                told = dict(outcome=outcome, subject=body.get("Subject", ""), message=body["Message"])
                self.told |= set(re.findall(r"\(retraining (\S+)\)$", body["Message"])) if outcome else set()
                if outcome or not set(re.findall(r"^\W*Retraining (\S+) is", body["Message"])) & self.told:
                    self.seen.append(told)
                sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=m["ReceiptHandle"])
            time.sleep(0.05)
        return self.seen

    def ended(
        self,
        execution: str,  # ARN
        seconds: float = 120,
    ) -> dict:  # as DescribeExecution answers
        "Wait for an execution."
        sfn, end = self.aws.client("stepfunctions"), time.monotonic() + seconds
        while (d := sfn.describe_execution(executionArn=execution))["status"] == "RUNNING":
            assert time.monotonic() < end, "the execution does not end"
            time.sleep(0.05)
        return d

    def executions(self) -> list[dict]:
        "Every execution of the machine."
        return self.aws.client("stepfunctions").list_executions(stateMachineArn=self.machine)["executions"]

    def start(
        self,
        event: Any,  # the machine's input
        name: str = "",
        seconds: float = 120,
    ) -> dict:  # as DescribeExecution answers, at its end
        "Run the machine."
        named = dict(name=name) if name else {}
        sfn = self.aws.client("stepfunctions")
        arn = sfn.start_execution(stateMachineArn=self.machine, input=json.dumps(event), **named)["executionArn"]
        return self.ended(arn, seconds)

    def path(
        self,
        execution: str,  # ARN
    ) -> list[str]:
        "The states an execution went through."
        pages = self.aws.client("stepfunctions").get_paginator("get_execution_history").paginate(executionArn=execution)
        events = [e for page in pages for e in page["events"]]
        return [e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e]

    def entered(self) -> list[tuple[str, Any]]:  # name of a state and its input, over all executions
        "Every state that was entered, and with what."
        found = []
        sfn = self.aws.client("stepfunctions")
        for x in self.executions():
            for page in sfn.get_paginator("get_execution_history").paginate(executionArn=x["executionArn"]):
                seen = [e["stateEnteredEventDetails"] for e in page["events"] if "stateEnteredEventDetails" in e]
                found += [(d["name"], json.loads(d["input"])) for d in seen]
        return found

    def upload(
        self,
        n: int = 4,  # images
        name: str = "one",
        completed: str = "",  # now when empty
    ) -> None:
        "Images and their manifest."
        s3, rows = self.aws.client("s3"), ["key,size,sha256,label"]
        for i in range(n):
            body, key = f"{name}{i}".encode(), f"ham10000/{name}{i}.jpg"
            s3.put_object(Bucket="raw", Key=key, Body=body, ChecksumAlgorithm="SHA256")
            rows.append(f"{key},{len(body)},{sha256(body).hexdigest()},nv")
        part, key = "\n".join(rows).encode(), f"manifests/ham10000/{name}.csv"
        s3.put_object(Bucket="raw", Key=key, Body=part)
        done = completed or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        parts = [dict(key=key, sha256=sha256(part).hexdigest(), objects=n, labelled=n, completed=done)]
        manifest = json.dumps(dict(version=1, parts=parts))
        s3.put_object(Bucket="raw", Key="manifests/ham10000/manifest.json", Body=manifest)


def environment(**more: str) -> dict[str, str]:
    "What the functions are configured with."
    found = dict(
        RAW_BUCKET="raw",
        PROCESSED_BUCKET="processed",
        MODELS_BUCKET="models",
        MIN_NEW_SAMPLES="3",
        ROLE_ARN=ROLE.format("sagemaker"),
        CAPTURE_URI="s3://processed/capture",
        ALARM_NAMES="skin-lesion-endpoint-errors,skin-lesion-latency-p95",
        PIPELINE_PARAMETERS=json.dumps(dict(RawBucket="raw", ProcessedBucket="processed", ModelsBucket="models")),
    )
    return {**found, **more}


def definition(
    functions: dict[str, str],  # name -> ARN
    topic: str,  # ARN
    seconds: int = 86400,  # time limit of an execution
    task_seconds: int = 120,  # time limit of a task
) -> str:
    "The state machine's file, filled in as Terraform does."
    values = {f"{name}_arn": arn for name, arn in functions.items()}
    values.update(topic_arn=topic, pipeline_name="skin-lesion-training", models_bucket="models")
    text = (REPO / "infra" / "retraining.asl.json").read_text()
    filled = re.sub(r"\$\{(\w+)\}", lambda m: values[m.group(1)], text)
    filled = filled.replace('"TimeoutSeconds": 86400', f'"TimeoutSeconds": {seconds}')
    return filled.replace('"TimeoutSeconds": 120', f'"TimeoutSeconds": {task_seconds}')


def create(
    aws: StandIn,
    zips: Path,  # folder for the zips
    pipeline: dict,  # definition of the pipeline
    seconds: int = 86400,  # time limit of a retraining
    task_seconds: int = 120,  # time limit of one of its tasks
    **settings: str,  # more environment, e.g. APPROVAL_MODE
) -> Platform:
    "Everything a retraining needs."
    p = Platform(aws)
    for bucket in ("raw", "processed", "models"):
        aws.client("s3").create_bucket(Bucket=bucket)
    for nothing in ("weights", "classes", "tested"):  # what Terraform puts there: an input channel must hold an object
        aws.client("s3").put_object(Bucket="models", Key=f"{nothing}/none/empty")
    sm = aws.client("sagemaker")
    sm.create_model_package_group(ModelPackageGroupName="skin-lesion-models")
    sm.create_pipeline(
        PipelineName="skin-lesion-training",
        PipelineDefinition=json.dumps(pipeline),
        RoleArn=ROLE.format("sagemaker"),
        ClientRequestToken="t" * 32,
    )
    _topic(p)
    functions = _functions(aws, zips, environment(**settings))
    p.machine = aws.client("stepfunctions").create_state_machine(
        name="skin-lesion-retraining",
        definition=definition(functions, p.topic, seconds, task_seconds),
        roleArn=ROLE.format("states"),
    )["stateMachineArn"]
    _rules(p)
    _door(p)
    return p


def _topic(p: Platform) -> None:
    "The alerts topic and a queue that hears it."
    sns, sqs = p.aws.client("sns"), p.aws.client("sqs")
    p.topic = sns.create_topic(Name="skin-lesion-alerts")["TopicArn"]
    p.queue = sqs.create_queue(QueueName="hears-alerts")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=p.queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=p.topic, Protocol="sqs", Endpoint=arn)


def _functions(
    aws: StandIn,
    zips: Path,  # folder for the zips
    settings: dict[str, str],
) -> dict[str, str]:  # name -> ARN
    "The five functions, from the zips that are deployed."
    iam = aws.client("iam")
    iam.create_role(RoleName="lambda", AssumeRolePolicyDocument="{}")
    return {name: function(aws, zips, name, memory, settings) for name, memory in MEMORY.items()}


def function(
    aws: StandIn,
    zips: Path,  # folder for the zips
    name: str,
    memory: int,  # MB
    settings: dict[str, str],
) -> str:  # ARN
    "A function, from the zip that is deployed."
    return aws.client("lambda").create_function(
        FunctionName=name,
        Runtime="python3.11",
        Role=ROLE.format("lambda"),
        Handler="handler.handler",
        Code=dict(ZipFile=build.build(name, zips).read_bytes()),
        MemorySize=memory,
        Timeout=60,
        Environment=dict(Variables=settings),
    )["FunctionArn"]


def _rules(p: Platform) -> None:
    "The triggers."
    events = p.aws.client("events")
    for name, rule in RULES.items():
        given = {k: v if isinstance(v, str) else json.dumps(v) for k, v in rule.items()}
        events.put_rule(Name=f"skin-lesion-{name}", **given)
        target = dict(Id="machine", Arn=p.machine, RoleArn=ROLE.format("events"))
        events.put_targets(Rule=f"skin-lesion-{name}", Targets=[target])
    _speaker(p)


def _speaker(p: Platform) -> None:
    "The rule that speaks for a retraining that cannot, as it is in Terraform."
    text = (REPO / "infra" / "modules" / "orchestration" / "main.tf").read_text()
    template = json.loads('"%s"' % re.search(r'input_template = "(.*)"', text)[1])  # type: ignore[index]
    detail = {"stateMachineArn": [p.machine], "status": ["FAILED", "TIMED_OUT", "ABORTED"]}
    pattern = {"source": ["aws.states"], "detail-type": ["Step Functions Execution Status Change"], "detail": detail}
    paths = dict(name="$.detail.name", status="$.detail.status")
    target = dict(Id="topic", Arn=p.topic, InputTransformer=dict(InputPathsMap=paths, InputTemplate=template))
    events = p.aws.client("events")
    events.put_rule(Name="skin-lesion-silent", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="skin-lesion-silent", Targets=[target])


def _door(p: Platform) -> None:
    "POST /retrain."
    gateway = p.aws.client("apigatewayv2")
    p.api = gateway.create_api(Name="skin-lesion", ProtocolType="HTTP")["ApiId"]
    integration = gateway.create_integration(
        ApiId=p.api,
        IntegrationType="AWS_PROXY",
        IntegrationSubtype="StepFunctions-StartExecution",
        RequestParameters=dict(StateMachineArn=p.machine, Input="$request.body"),
        PayloadFormatVersion="1.0",
    )["IntegrationId"]
    gateway.create_route(
        ApiId=p.api, RouteKey="POST /retrain", AuthorizationType="AWS_IAM", Target=f"integrations/{integration}"
    )
