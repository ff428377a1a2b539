"""The retraining as a whole: triggers, the real state machine, the real zips, and what the team reads in the end.

Minutes take milliseconds, the training is pretended (its own tests run the real one), and nothing else is.
"""

import functools
import json
import re
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("moto")
from tests.standin import events, pipelines, platform, sagemaker, server, states  # noqa: E402

REPO = Path(__file__).resolve().parent.parent
EVENTS = REPO / "tests" / "events"
PIPELINE = dict(
    Version="2020-12-01",
    Parameters=[
        dict(Name="ModelPackageGroupName", Type="String", DefaultValue="skin-lesion-models"),
        *(dict(Name=n, Type="String", DefaultValue="") for n in ("RawBucket", "ProcessedBucket", "ModelsBucket")),
        *(dict(Name=n, Type="String", DefaultValue="") for n in ("TriggeredBy", "ChampionVersion")),
        *(dict(Name=n, Type="Float", DefaultValue=0) for n in ("ChampionBalancedAccuracy", "ChampionStandardError")),
        dict(Name="Epochs", Type="Integer", DefaultValue=50),
    ],
    Steps=[],
)
REQUEST = json.loads((EVENTS / "retrain_request.json").read_text())
DRIFT = json.loads((EVENTS / "alarm_drift.json").read_text())
SCHEDULE = json.loads((EVENTS / "schedule.json").read_text())


@pytest.fixture(scope="module")
def aws():
    "An AWS, for this file."
    running = server.serve()
    sagemaker.executor = pipelines.pretend
    states.scale = 0.001
    yield running
    running.stop()


@pytest.fixture
def make(aws, tmp_path):
    "Create the platform, each time in an empty account."

    def make(pipeline=PIPELINE, **settings):
        aws.reset()
        pipelines.reset()
        states.waits.clear()
        states.retries.clear()
        return platform.create(aws, tmp_path, pipeline, **settings)

    return make


def record(p, execution):
    "The change record of an execution."
    key = f"changes/{execution.split(':')[-1]}.json"
    return json.load(p.aws.client("s3").get_object(Bucket="models", Key=key)["Body"])


def endpoint(p):
    return p.aws.client("sagemaker").describe_endpoint(EndpointName="skin-lesion-endpoint")


def approve(p, arn, by="ada"):
    p.aws.client("sagemaker").update_model_package(
        ModelPackageArn=arn, ModelApprovalStatus="Approved", ApprovalDescription=f"{by}: read the report"
    )


def run(p, event=SCHEDULE, outcome="", status="SUCCEEDED", says=""):
    "Run the machine to its end and hold it to its one message and its record."
    ended = p.start(event)
    (message,) = p.messages(1)
    assert (message["outcome"], ended["status"]) == (outcome, status), message["message"] + str(ended.get("cause", ""))
    assert says in message["message"] and len(message["subject"]) < 100 and "{}" not in message["message"]
    kept = record(p, ended["executionArn"])
    assert kept["change"]["ending"]["outcome"] == outcome
    return ended, kept["change"]


# ---- from a trigger to a message ------------------------------------------------------------------------------------


def test_request_trains_and_waits_for_a_person_whose_approval_deploys(make, aws):
    p = make()
    p.upload(4)
    sent = urllib.request.Request(
        f"{aws.door}/{p.api}/retrain", json.dumps(REQUEST).encode(), {"Authorization": "AWS4-HMAC-SHA256 ..."}
    )
    execution = json.load(urllib.request.urlopen(sent))["executionArn"]
    p.ended(execution)
    assert [m["outcome"] for m in p.messages(1)] == ["awaiting-approval"]
    change = record(p, execution)["change"]
    assert change["data"]["trigger"]["requested_by"] == "dermatology" and change["data"]["new"] == 4
    assert change["evaluation"]["after"]["accuracy"] == dict(value=0.9, low=0.88, high=0.92)
    assert states.waits == [60]

    approve(p, change["approval"]["model_package_arn"])
    _, second = p.messages(2)
    assert second["outcome"] == "deployed" and "Approved by ada (read the report)" in second["message"]
    assert endpoint(p)["EndpointStatus"] == "InService" and "-v1-" in endpoint(p)["EndpointConfigName"]
    deployed = next(x["executionArn"] for x in p.executions() if x["executionArn"] != execution)
    assert p.ended(deployed)["status"] == "SUCCEEDED"
    kept = record(p, deployed)["change"]
    assert kept["approval"]["by"] == "ada" and kept["approval"]["record"].endswith(f"{execution.split(':')[-1]}.json")


def test_drift_retrains_and_deploys_in_automatic_mode(make, aws):
    p = make(APPROVAL_MODE="automatic")
    p.upload(4)
    aws.client("cloudwatch").put_metric_alarm(
        AlarmName="skin-lesion-data-drift",
        Namespace="SkinLesion/Monitoring",
        MetricName="DataDriftViolations",
        Statistic="Maximum",
        Period=3600,
        EvaluationPeriods=1,
        Threshold=0,
        ComparisonOperator="GreaterThanThreshold",
    )
    aws.client("cloudwatch").set_alarm_state(
        AlarmName="skin-lesion-data-drift", StateValue="ALARM", StateReason="4 violations"
    )
    (message,) = p.messages(1)
    assert message["outcome"] == "deployed" and "accuracy 0.900 (0.880 to 0.920)" in message["message"]
    assert endpoint(p)["EndpointStatus"] == "InService"
    for x in p.executions():
        p.ended(x["executionArn"])
    time.sleep(0.3)
    assert len(p.messages(2, seconds=1)) == 1, "the approval's own event deploys nothing a second time"
    first = next(x["executionArn"] for x in p.executions() if "CheckData" in p.path(x["executionArn"]))
    assert record(p, first)["change"]["data"]["trigger"]["reason"] == "alarm skin-lesion-data-drift: 4 violations"


def test_the_schedule_retrains_once_there_is_new_data(make):
    p = make(APPROVAL_MODE="automatic")
    p.upload(4)
    events.tick("skin-lesion-schedule")
    assert p.messages(1)[0]["outcome"] == "deployed"
    time.sleep(1.1)
    events.tick("skin-lesion-schedule")
    _, second = p.messages(2)
    assert second["outcome"] == "insufficient-data" and "0 new labelled images of 4; 3 are needed" in second["message"]


def test_an_event_asks_as_well(make, aws):
    p = make()
    entry = json.loads((EVENTS / "retraining_requested.json").read_text())
    aws.client("events").put_events(
        Entries=[dict(Source=entry["source"], DetailType=entry["detail-type"], Detail=json.dumps(entry["detail"]))]
    )
    assert "Triggered by dermatology" in p.messages(1)[0]["message"]


def test_the_door_refuses_what_is_not_signed(make, aws):
    p = make()
    with pytest.raises(urllib.error.HTTPError) as e:
        urllib.request.urlopen(f"{aws.door}/{p.api}/retrain", json.dumps(REQUEST).encode())
    assert e.value.code == 403 and not p.executions()


@pytest.mark.slow
def test_the_committed_pipeline_really_trains(make, aws, tmp_path):
    "The real definition, executed by the local runner on painted lesions, from the upload to the endpoint."
    from skin_lesion_mlops import pipeline, synthetic, upload

    small = dict(Arch="tiny", Weights="none", ImageSize="64", Epochs="6", AccuracyThreshold="0.2")
    buckets = dict(RawBucket="raw", ProcessedBucket="processed", ModelsBucket="models")
    p = make(
        pipeline.definition(),
        APPROVAL_MODE="automatic",
        ACCURACY_THRESHOLD="0.2",
        PIPELINE_PARAMETERS=json.dumps({**buckets, **small}),
    )
    upload.upload(synthetic.create_dataset(tmp_path / "lesions", n=200), aws.client("s3"), "raw")
    sagemaker.executor, states.scale = pipelines.execute, 0.02
    try:
        ended = p.start(SCHEDULE, seconds=500)
    finally:
        sagemaker.executor, states.scale = pipelines.pretend, 0.001
    (message,) = p.messages(1)
    assert message["outcome"] == "deployed", message["message"]
    change = record(p, ended["executionArn"])["change"]
    assert change["data"]["new"] == 200 and len(change["evaluation"]["data_hash"]) == 64
    assert endpoint(p)["EndpointStatus"] == "InService"


# ---- every ending ---------------------------------------------------------------------------------------------------


def test_too_little_data(make):
    p = make()
    p.upload(2)
    run(p, outcome="insufficient-data", says="2 new labelled images of 2; 3 are needed")


def test_a_wrong_request(make):
    run(make(), dict(reason="x"), "invalid-request", "FAILED", "requested_by must be a text")


def test_damaged_images(make, aws):
    p = make()
    p.upload(4)
    aws.client("s3").delete_object(Bucket="raw", Key="ham10000/one1.jpg")
    run(p, outcome="data-damaged", status="FAILED", says="ham10000/one1.jpg is missing")


def test_a_failed_pipeline(make):
    p = make()
    p.upload(4)
    pipelines.ending = "Failed"
    run(p, outcome="pipeline-failed", status="FAILED", says="in step Train: ClientError: CUDA out of memory")


def test_a_pipeline_that_takes_too_long_is_stopped(make, aws):
    p = make(MAX_HOURS="0")
    p.upload(4)
    pipelines.ending = "Running"
    _, change = run(p, outcome="pipeline-overdue", status="FAILED", says="are allowed")
    stopped = aws.client("sagemaker").describe_pipeline_execution(**change["pipeline"])
    assert stopped["PipelineExecutionStatus"] == "Stopped"


def test_a_model_that_misses_the_gate(make):
    p = make()
    p.upload(4)
    pipelines.ending, pipelines.scores["accuracy"] = "NotRegistered", 0.6
    run(p, outcome="below-threshold", says="accuracy 0.600 is below 0.850")


def test_a_model_that_is_worse_than_the_champion(make):
    p = make(APPROVAL_MODE="automatic")
    p.upload(4, completed="2999-01-01T00:00:00Z")
    run(p, outcome="deployed")
    p.seen.clear()
    pipelines.scores["balanced_accuracy"] = 0.7
    _, change = run(p, outcome="below-threshold", says="worse than the approved model: -0.100 (-0.128 to -0.072)")
    assert change["data"]["champion"] == "1" and "-v1-" in endpoint(p)["EndpointConfigName"]


@pytest.mark.parametrize("fate, outcome", [("RolledBack", "rolled-back"), ("Failed", "deployment-failed")])
def test_a_deployment_that_ends_badly(make, aws, fate, outcome):
    p = make(APPROVAL_MODE="automatic")
    p.upload(4, completed="2999-01-01T00:00:00Z")
    run(p, outcome="deployed")
    before = endpoint(p)["EndpointConfigName"]
    p.seen.clear()
    sagemaker.endpoint_fate = fate
    run(p, outcome=outcome, status="FAILED", says="approved but not deployed")
    left = [c["EndpointConfigName"] for c in aws.client("sagemaker").list_endpoint_configs()["EndpointConfigs"]]
    assert left == [before], "nothing is left half done"
    if fate == "RolledBack":
        assert endpoint(p)["EndpointConfigName"] == before


def test_an_approval_that_was_withdrawn_meanwhile(make, aws):
    p = make()
    p.upload(4)
    _, change = run(p, outcome="awaiting-approval")
    p.seen.clear()
    event = json.loads((EVENTS / "model_package_approved.json").read_text())
    event["detail"]["ModelPackageArn"] = change["approval"]["model_package_arn"]
    run(p, event, "approval-withdrawn", says="Model 1: Withdrawn")
    assert not aws.client("sagemaker").list_endpoints()["Endpoints"]


def test_an_unknown_error_is_reported_too(make, aws):
    p = make()
    p.upload(4)
    aws.client("sagemaker").delete_pipeline(PipelineName="skin-lesion-training", ClientRequestToken="t" * 32)
    run(p, outcome="step-failed", status="FAILED", says="Stopped on SageMaker")


# ---- one at a time --------------------------------------------------------------------------------------------------


def test_a_second_trigger_is_answered_not_queued(make, aws):
    p = make()
    p.upload(4)
    pipelines.ending = "Running"
    sfn = aws.client("stepfunctions")
    first = sfn.start_execution(stateMachineArn=p.machine, input=json.dumps(SCHEDULE), name="first")["executionArn"]
    while "WaitForPipeline" not in p.path(first):
        time.sleep(0.05)
    run(p, DRIFT, "already-running", says="Not started: retraining first is still running")
    sfn.stop_execution(executionArn=first)


def test_of_many_triggers_at_once_one_starts(make, aws):
    p = make()
    p.upload(4)
    pipelines.ending = "Running"  # the one that starts holds its turn
    sfn = aws.client("stepfunctions")
    start = functools.partial(sfn.start_execution, stateMachineArn=p.machine, input=json.dumps(SCHEDULE))
    threads = [threading.Thread(target=start) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [m["outcome"] for m in p.messages(3)] == ["already-running"] * 3
    (running,) = [x["executionArn"] for x in p.executions() if x["status"] == "RUNNING"]
    sfn.stop_execution(executionArn=running)
    pipelines.ending = "Registered"
    p.seen.clear()
    run(p, SCHEDULE, "awaiting-approval")  # a stopped execution does not keep its turn


# ---- the definition itself ------------------------------------------------------------------------------------------

ASL = json.loads((REPO / "infra" / "retraining.asl.json").read_text())


def following(state):
    "The states that may come after one."
    found = [state[k] for k in ("Next", "Default") if k in state]
    return found + [x["Next"] for k in ("Choices", "Catch") for x in state.get(k, [])]


def test_every_state_is_reachable_and_every_target_exists():
    seen, todo = set(), [ASL["StartAt"]]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += following(ASL["States"][name])
    assert seen == set(ASL["States"])


def test_the_definition_is_valid_states_language():
    lint = pytest.importorskip("statelint.cli")
    text = platform.definition(
        dict.fromkeys(platform.MEMORY, "arn:aws:lambda:us-east-1:123456789012:function:f"), "arn:t"
    )
    assert lint.main([text]) == 0


def test_every_task_retries_with_jitter_catches_everything_and_ends():
    tasks = {n: s for n, s in ASL["States"].items() if s["Type"] == "Task"}
    assert len(tasks) >= 10
    for name, s in tasks.items():
        assert s["TimeoutSeconds"] <= 120, name
        assert any(r.get("JitterStrategy") == "FULL" and r["MaxDelaySeconds"] <= 60 for r in s["Retry"]), name
        assert s["Catch"][-1]["ErrorEquals"] == ["States.ALL"], name
    assert ASL["TimeoutSeconds"] == 86400


def test_every_ending_has_its_own_name_and_subject():
    endings = [s["Parameters"] for s in ASL["States"].values() if s.get("ResultPath") == "$.ending"]
    assert len(endings) == len({e["outcome"] for e in endings}) == len({e["subject"] for e in endings}) == 14
    for e in endings:
        text, *paths = re.findall(r"'([^']*)'|(\$[\w.$]*)", e["message.$"])
        assert text[0].count("{}") == len(paths), e["outcome"]
