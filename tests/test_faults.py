"""Every call that a retraining makes, failing: does the machine try again, or end in a named failure?

Either way nothing may be left half done. Every call of a good retraining is made to fail once, in five ways; the whole
sweep is slow, and a part of it, one of each kind, is not.

The calls are those of `tests/calls.json`, which is what the functions really called; the policies in `infra/` are
held against the same file. To write it anew, put `{}` into it and run this file twice.
"""

import json
from pathlib import Path

import pytest

pytest.importorskip("moto")
from tests.standin import faults, pipelines, platform, sagemaker, states  # noqa: E402
from tests.test_retraining import REPO, SCHEDULE, endpoint, make, record  # noqa: E402, F401

CALLS = json.loads((Path(__file__).parent / "calls.json").read_text())
TRANSIENT = ("throttled", "broken", "timeout", "lost")
KINDS = (*TRANSIENT, "denied")
MACHINE = ("check_data_availability", "check_pipeline_status", "evaluate_model", "approve_model", "deploy_model")
UNDONE = ("DeleteEndpointConfig", "DeleteModel", "DeleteEndpoint")  # calls of a deployment that has failed already
ELSEWHERE = (*UNDONE, "StopPipelineExecution", "InvokeFunction")
# What a good retraining calls more than once, each time at another point: who has the turn, what is in the manifest ...
LATER = {
    ("check_data_availability", "GetObject"): 5,
    ("check_data_availability", "HeadObject"): 4,
    ("check_data_availability", "PutObject"): 2,
    ("check_data_availability", "ListModelPackages"): 2,
    ("check_data_availability", "DescribeModelPackage"): 2,
    ("evaluate_model", "GetObject"): 2,
    ("deploy_model", "DescribeModelPackage"): 2,
    ("deploy_model", "DescribeEndpoint"): 2,
    ("deploy_model", "PutScalingPolicy"): 2,
}
QUICK = {  # one of each kind, in one of each function
    ("check_data_availability", "GetObject", 3, "throttled"),
    ("check_pipeline_status", "ListPipelineExecutionSteps", 1, "broken"),
    ("evaluate_model", "GetObject", 2, "timeout"),
    ("approve_model", "UpdateModelPackage", 1, "lost"),
    ("deploy_model", "CreateEndpointConfig", 1, "denied"),
    ("states", "StartPipelineExecution", 1, "lost"),
}


def points():
    "Each call of a retraining that goes well: who, what, and the how manieth."
    for caller in (*MACHINE, "states"):
        operations = [permission.split(":")[1] for permission in CALLS.get(caller, ())]
        for operation in [*operations, *(["HeadObject"] if caller == MACHINE[0] else [])]:
            if operation not in ELSEWHERE:
                yield from ((caller, operation, nth + 1) for nth in range(LATER.get((caller, operation), 1)))


def sweep():
    "The points times the kinds; all but a few are slow."
    for point in points():
        for kind in KINDS:
            slow = () if (*point, kind) in QUICK else pytest.mark.slow
            yield pytest.param(*point, kind, marks=slow, id="-".join(map(str, (*point, kind))))


def retrain(make, fault, update):  # noqa: F811
    "One retraining in automatic mode with a fault; in an account with an endpoint, or without."
    p = make(APPROVAL_MODE="automatic")
    p.upload(4, completed="2999-01-01T00:00:00Z")
    p.aws.client("events").disable_rule(Name="skin-lesion-approval")
    champion(p)
    if update:
        sm = p.aws.client("sagemaker")
        variant = dict(VariantName="AllTraffic", ModelName="old", InstanceType="ml.m5.xlarge", InitialInstanceCount=1)
        role = "arn:aws:iam::123456789012:role/sagemaker"
        sm.create_model(ModelName="old", ExecutionRoleArn=role, PrimaryContainer=dict(Image=pipelines.IMAGE))
        sm.create_endpoint_config(EndpointConfigName="old", ProductionVariants=[variant])
        sm.create_endpoint(EndpointName="skin-lesion-endpoint", EndpointConfigName="old")
    faults.record.faults.append(fault)
    ended = p.start(SCHEDULE)
    return p, ended


def champion(p):
    "A model is approved, and the turn was held by an execution that is gone."
    s3 = p.aws.client("s3")
    s3.put_object(Bucket="models", Key="runs/old/evaluation/evaluation.json", Body=json.dumps(pipelines.evaluation()))
    s3.put_object(Bucket="models", Key="runs/old/report/receipt.json", Body='{"started": "2026-01-01T00:00:00Z"}')
    arn = pipelines._register("skin-lesion-models", "s3://models/runs/old/evaluation/evaluation.json")
    p.aws.client("sagemaker").update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    gone = p.machine.replace(":stateMachine:", ":execution:") + ":gone"
    s3.put_object(Bucket="processed", Key="retraining/lock.json", Body=json.dumps(dict(execution=gone)))


def left_over(p):
    "Endpoint configs and models that no endpoint uses."
    sm = p.aws.client("sagemaker")
    used = {"old"} | {endpoint(p)["EndpointConfigName"] for _ in sm.list_endpoints()["Endpoints"]}
    configs = {c["EndpointConfigName"] for c in sm.list_endpoint_configs()["EndpointConfigs"]}
    return (configs | {m["ModelName"] for m in sm.list_models()["Models"]}) - used


def expected(fault):
    "How a retraining ends in which that call failed."
    if fault.kind in TRANSIENT or fault.caller == "states":
        return "deployed"
    if fault.caller != "deploy_model":
        return "step-failed"
    scaling = ("RegisterScalableTarget", "PutScalingPolicy", "PutMetricAlarm")
    return "deployed" if fault.operation in scaling else "deployment-unfinished"


@pytest.mark.parametrize("caller, operation, nth, kind", list(sweep()))
def test_each_call_failing_once(make, caller, operation, nth, kind):  # noqa: F811
    fault = faults.Fault(caller, operation, kind, nth=nth)
    p, ended = retrain(make, fault, update=operation == "UpdateEndpoint")
    assert fault.hits == 1, "the call was never made"
    lost_message = caller == "states" and operation == "Publish" and kind == "lost"  # published, and published again
    messages = p.messages(2 if lost_message else 1)
    assert {m["outcome"] for m in messages} == {expected(fault)}, messages
    assert record(p, ended["executionArn"])["change"]["ending"]["outcome"] == expected(fault)
    assert not left_over(p)


@pytest.mark.parametrize(
    "caller, operation, kind, outcome",
    [
        ("check_data_availability", "GetObject", "broken", "step-failed"),
        ("deploy_model", "CreateEndpoint", "throttled", "deployment-unfinished"),
        ("states", "PutObject", "denied", "deployed"),
    ],
)
def test_a_call_that_keeps_failing_ends_in_a_named_failure(make, caller, operation, kind, outcome):  # noqa: F811
    p, ended = retrain(make, faults.Fault(caller, operation, kind, times=100), update=False)
    (message,) = p.messages(1)
    assert message["outcome"] == outcome and not left_over(p)
    assert len([s for s in states.retries if s <= 60]) >= 5, "tried again, with longer and longer pauses"
    if outcome != "deployed":
        assert operation in message["message"]


def test_the_sweep_leaves_no_call_out(make):  # noqa: F811
    _, ended = retrain(make, faults.Fault("none", "none", "denied"), update=True)
    made = {(caller, operation): n for (caller, operation), n in faults.record.counts.items() if caller != "pipeline"}
    often = (
        "DescribePipelineExecution",
        "ListPipelineExecutionSteps",
        "DescribeEndpoint",
        "Invoke",
    )  # until it is done
    swept = set(points())
    for (caller, operation), n in made.items():
        needed = 1 if operation in often else n
        missing = {(caller, operation, i + 1) for i in range(needed)} - swept - {("states", "Invoke", 1)}
        assert not missing, f"{n} calls are made: {missing}"


def outside_the_machine(aws, zips):
    "The two functions that others invoke: the topic, and the load balancer."
    sm, events = aws.client("sagemaker"), REPO / "tests" / "events"
    variant = dict(VariantName="AllTraffic", ModelName="m", InstanceType="ml.m5.xlarge", InitialInstanceCount=1)
    role = "arn:aws:iam::123456789012:role/sagemaker"
    sm.create_model(ModelName="m", ExecutionRoleArn=role, PrimaryContainer=dict(Image=pipelines.IMAGE))
    sm.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sm.create_endpoint(EndpointName="skin-lesion-endpoint", EndpointConfigName="c")
    hook = aws.client("secretsmanager").create_secret(Name="hook", SecretString="http://127.0.0.1:9/nobody")["ARN"]
    settings = dict(ENDPOINT_NAME="skin-lesion-endpoint", SLACK_SECRET_ARN=hook)
    for name, event in dict(predict="alb_predict", slack_notifier="sns_notification").items():
        platform.function(aws, zips, name, 128, settings)
        aws.client("lambda").invoke(FunctionName=name, Payload=(events / f"{event}.json").read_text())


def test_the_calls_are_those_of_the_file(make, aws, tmp_path):  # noqa: F811
    "Runs every kind of path once, then compares what was called with the file: no more, no less."
    faults.record.calls.clear()
    p, _ = retrain(make, faults.Fault("none", "none", "denied"), update=False)
    sagemaker.endpoint_fate = "RolledBack"  # deployment 2: an update that is taken back
    p.start(SCHEDULE)
    pipelines.scores["balanced_accuracy"] = 0.99
    sagemaker.endpoint_fate = "Failed"
    p.start(SCHEDULE)
    sagemaker.endpoint_fate = "Deployed"
    p.start(SCHEDULE)
    late = make(MAX_HOURS="0")
    late.upload(4)
    pipelines.ending = "Running"
    late.start(SCHEDULE)
    outside_the_machine(aws, tmp_path)
    found = {caller: sorted(permissions) for caller, permissions in sorted(faults.record.calls.items())}
    path = Path(__file__).parent / "calls.json"
    if not CALLS:
        path.write_text(json.dumps(found, indent=1) + "\n")
    assert found == CALLS
