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
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("moto")
from skin_lesion_mlops.aws import watch  # noqa: E402
from skin_lesion_mlops.core import Files  # noqa: E402
from skin_lesion_mlops.data.statistics import STATISTICS, dataset_statistics, suggest_constraints  # noqa: E402
from skin_lesion_mlops.evaluation.card import evaluation_json  # noqa: E402
from skin_lesion_mlops.evaluation.conclusion import evaluate  # noqa: E402
from skin_lesion_mlops.evaluation.predictions import simulate  # noqa: E402
from skin_lesion_mlops.monitor.captures import DIMENSION, Baseline, write_finding  # noqa: E402
from skin_lesion_mlops.monitor.drift import check_data  # noqa: E402
from skin_lesion_mlops.monitor.quality import check_quality  # noqa: E402
from skin_lesion_mlops.pipeline.registry import SageMakerRegistry  # noqa: E402
from tests.standin import events, faults, pipelines, platform, sagemaker, states  # noqa: E402

REPO = Path(__file__).resolve().parent.parent
EVENTS = REPO / "tests" / "events"
PIPELINE = dict(
    Version="2020-12-01",
    Parameters=[
        dict(Name="ModelPackageGroupName", Type="String", DefaultValue="skin-lesion-models"),
        *(dict(Name=n, Type="String", DefaultValue="") for n in ("RawBucket", "ProcessedBucket", "ModelsBucket")),
        *(
            dict(Name=n, Type="String", DefaultValue="")
            for n in ("TriggeredBy", "DataVersion", "ChampionVersion", "ChampionClasses")
        ),
        *(dict(Name=n, Type="Float", DefaultValue=0) for n in ("ChampionBalancedAccuracy", "ChampionStandardError")),
        *(dict(Name=n, Type="Float", DefaultValue=v) for n, v in (("AccuracyThreshold", 0.85), ("MaxEce", 1.0))),
        *(dict(Name=n, Type="Float", DefaultValue=0.0) for n in ("MinBalancedAccuracy", "MinMalignantSensitivity")),
        dict(Name="MinChampionDifference", Type="Float", DefaultValue=-1.0),
        dict(Name="Epochs", Type="Integer", DefaultValue=50),
    ],
    Steps=[],
)
REQUEST = json.loads((EVENTS / "retrain_request.json").read_text())
DRIFT = json.loads((EVENTS / "alarm_drift.json").read_text())
SCHEDULE = json.loads((EVENTS / "schedule.json").read_text())


@pytest.fixture
def make(aws, tmp_path):
    "Create the platform, each time in an empty account; in the end, look at every state that was entered."
    made = []

    def look():
        for p in made:
            for name, given in p.entered():
                ENTERED.add(name)
                missing = [path for path in sorted(paths(ASL["States"][name])) if not resolves(path, given)]
                assert not missing, f"{name} needs {missing}, which is not in {json.dumps(given)[:500]}"
        made.clear()

    def make(pipeline=PIPELINE, **settings):
        look()
        aws.reset()
        made.append(platform.create(aws, tmp_path, pipeline, **settings))
        return made[-1]

    yield make
    look()


# ---- what a state needs of its input --------------------------------------------------------------------------------

ASL = json.loads((REPO / "infra" / "retraining.asl.json").read_text())
CONTEXT = {"Execution": {"Id": 0, "Name": 0, "StartTime": 0}, "State": {"EnteredTime": 0}}  # of AWS's, what we use
ENTERED = set()  # names of states, over all tests of this file


def paths(state):
    "Every path that must be there when a state is entered; a Choice may ask first whether one is."
    if state["Type"] == "Choice":
        for rule in state["Choices"]:
            tests = rule.get("And", [rule])
            asked = {t["Variable"] for t in tests if "IsPresent" in t}
            yield from (t["Variable"] for t in tests if not any(t["Variable"].startswith(a) for a in asked))
        return
    todo = [state.get("Parameters", {}), {f"{k}.$": state[k] for k in ("ErrorPath", "CausePath") if k in state}]
    while todo:
        for key, value in todo.pop().items():
            if isinstance(value, dict):
                todo.append(value)
            elif key.endswith(".$"):
                yield from re.findall(r"\$\$?[\w.]*", re.sub(r"'[^']*'", "", value))


def resolves(path, given):
    "Is there something at this path?"
    root, *names = path.split(".")
    found = CONTEXT if root == "$$" else given
    for name in names:
        if not isinstance(found, dict) or name not in found:
            return False
        found = found[name]
    return True


def test_a_missing_path_is_found():
    needed = set(paths(ASL["States"]["Deployed"]))
    assert needed == {"$.approval.summary", "$.deployment.summary"}
    assert resolves("$.a.b", dict(a=dict(b=1))) and not resolves("$.a.c", dict(a=dict(b=1)))
    assert "$.error.Cause" not in set(paths(ASL["States"]["Explain"])), "it asks before it looks"


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
    assert set(states.waits) == {60}

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


def drifted():
    "Pictures under a weak lamp, as the data monitor finds them."
    rng = np.random.default_rng(0)
    then = pd.DataFrame(rng.normal(0.5, 0.1, (1500, len(STATISTICS))), columns=STATISTICS)
    features = dataset_statistics(then.assign(confidence=0.8, predicted="nv"))
    ids = dict(picture=0, lesion_id="", inference_id="", event_id=[str(i) for i in range(150)], image=0)
    now = then[:150].assign(brightness=0.2, confidence=0.8, predicted="nv", out_of_distribution=False, **ids)
    return check_data(now, Baseline({f["name"]: f for f in features["features"]}, suggest_constraints(features)))


def overlooked():
    "Every second malignant lesion is taken for harmless, and accuracy stands."
    p, tested = simulate(300, seed=2), simulate(1500, seed=9)
    rows = pd.DataFrame(dict(sex="unknown", age=np.nan, localization="unknown"), index=range(len(tested)))
    e = evaluation_json(evaluate(tested, rows, dict(accuracy=0.5), bootstrap=60), {}, {})
    q, hidden = p.probabilities.copy(), p.malignant & (np.arange(len(p)) % 2 == 0)
    q[np.ix_(hidden, p.taxonomy.is_malignant(np.arange(len(p.classes))))] *= 0.02
    q /= q.sum(1, keepdims=True)
    ids = dict(
        lesion_id=[f"L{i}" for i in p.lesions], inference_id="", event_id=[str(i) for i in range(len(p))], image=0
    )
    joined = pd.DataFrame(q, columns=[f"p_{c}" for c in p.classes]).assign(threshold=p.threshold, **ids)
    return check_quality(joined.assign(dx=[p.classes[i] for i in p.labels]), Baseline(evaluation=e), bootstrap=60)


@pytest.mark.parametrize(
    "name, metric, threshold, unit, find",
    [
        ("data-drift", "DataDriftViolations", 0, "Count", drifted),
        ("sensitivity-drop", "SensitivityDrop", 0.05, "None", overlooked),
    ],
)
def test_what_a_monitor_finds_becomes_a_version_that_awaits_approval(
    name, metric, threshold, unit, find, make, aws, tmp_path
):
    "Violation, metric, alarm, event, retraining, a version for a person: one after the other, and nothing by hand."
    p, cloudwatch = make(), aws.client("cloudwatch")
    p.upload(4)
    watched = dict(Namespace=watch.DEFAULT_NAMESPACE, MetricName=metric, Statistic="Maximum", Period=3600, Unit=unit)
    endpoint = [dict(Name=DIMENSION, Value="skin-lesion-endpoint")]
    watched.update(EvaluationPeriods=1, Threshold=threshold, ComparisonOperator="GreaterThanThreshold")
    cloudwatch.put_metric_alarm(AlarmName=f"skin-lesion-{name}", Dimensions=endpoint, **watched)
    finding, now = find(), pd.Timestamp.now("UTC")
    assert finding.violations and finding.metrics.get("AccuracyDrop", 0) == 0
    quiet = replace(finding, metrics={metric: 0.0})
    for found, state in ((quiet, "OK"), (finding, "ALARM")):
        write_finding(tmp_path / state, found, pd.DataFrame(), "skin-lesion-endpoint", now)
        watch.publish(cloudwatch, tmp_path / state / Files.CLOUDWATCH, watch.DEFAULT_NAMESPACE)
        (alarm,) = cloudwatch.describe_alarms(AlarmNames=[f"skin-lesion-{name}"])["MetricAlarms"]
        assert alarm["StateValue"] == state
    (message,) = p.messages(1)
    assert message["outcome"] == "awaiting-approval"
    (execution,) = [x["executionArn"] for x in p.executions()]
    trigger = record(p, execution)["change"]["data"]["trigger"]
    assert trigger["kind"] == "drift" and f"skin-lesion-{name}: Threshold Crossed" in trigger["reason"]
    (version,) = aws.client("sagemaker").list_model_packages(ModelPackageGroupName="skin-lesion-models")[
        "ModelPackageSummaryList"
    ]
    assert version["ModelApprovalStatus"] == "PendingManualApproval"


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
    "The real definition, executed by the local runner on painted lesions, from upload to endpoint; however good."
    from skin_lesion_mlops.aws import upload
    from skin_lesion_mlops.cli.aws import files_to_upload
    from skin_lesion_mlops.data import synthetic
    from skin_lesion_mlops.pipeline import definition as pipeline

    small = dict(Arch="tiny", Weights="none", ImageSize="64", Epochs="6", AccuracyThreshold="0")
    small["TrainingInstanceType"] = "ml.m5.xlarge"  # the default is one that a new account may not have
    p = make(
        pipeline.definition(),
        APPROVAL_MODE="automatic",
        PIPELINE_PARAMETERS=json.dumps({**BUCKETS, **small}),
    )
    lesions = synthetic.create_dataset(tmp_path / "lesions", n=200)
    upload.upload(lesions, files_to_upload(lesions), aws.client("s3"), "raw")
    sagemaker.executor, states.scale = pipelines.execute, 0.02
    try:
        ended = p.start(SCHEDULE, seconds=500)
    finally:
        sagemaker.executor, states.scale = pipelines.pretend, 0.001
    (message,) = p.messages(1)
    assert message["outcome"] == "deployed", message["message"]
    change = record(p, ended["executionArn"])["change"]
    assert change["data"]["new"] == 200 and len(change["evaluation"]["data_hash"]) == 64
    assert change["evaluation"]["code"] == "unknown", "what the definition says where nobody sets CodeVersion"
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
    pipelines.scores["accuracy"] = 0.6
    run(p, outcome="below-threshold", says="accuracy 0.600 is below 0.850")


BUCKETS = dict(RawBucket="raw", ProcessedBucket="processed", ModelsBucket="models")


def test_a_model_that_is_worse_than_the_champion(make):
    p = make(APPROVAL_MODE="automatic", PIPELINE_PARAMETERS=json.dumps(dict(BUCKETS, MinChampionDifference="0")))
    p.upload(4, completed="2999-01-01T00:00:00Z")
    run(p, outcome="deployed")
    p.seen.clear()
    pipelines.scores["balanced_accuracy"] = 0.7
    _, change = run(p, outcome="below-threshold", says="worse than the approved model: -0.100 (-0.128 to -0.072)")
    assert change["data"]["champion"] == "1" == change["evaluation"]["champion"]
    assert "-v1-" in endpoint(p)["EndpointConfigName"]


@pytest.mark.parametrize("sensitivity, outcome", [(0.9, "awaiting-approval"), (0.8999, "below-threshold")])
def test_a_threshold_of_the_platform_is_the_gates(make, sensitivity, outcome):
    "What Terraform hands to the function that starts the pipeline decides, on both sides of the border."
    p = make(PIPELINE_PARAMETERS=json.dumps(dict(BUCKETS, MinMalignantSensitivity="0.9")))
    p.upload(4)
    pipelines.scores["malignant_sensitivity"] = sensitivity
    _, change = run(p, outcome=outcome, says="" if sensitivity == 0.9 else "sensitivity 0.8999 is below 0.9000")
    assert bool(change["evaluation"]["model_package_arn"]) is (sensitivity == 0.9)


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


def deployed_once(make):
    "A platform with a model in service, and enough data for the next."
    p = make(APPROVAL_MODE="automatic")
    p.upload(4, completed="2999-01-01T00:00:00Z")
    run(p, outcome="deployed")
    p.seen.clear()
    return p, endpoint(p)["EndpointConfigName"]


def configs(p):
    return [c["EndpointConfigName"] for c in p.aws.client("sagemaker").list_endpoint_configs()["EndpointConfigs"]]


def broken(kind, body):
    return 500, b"CUDA error"


def test_a_model_that_serves_but_fails_the_smoke_test_is_taken_back(make):
    p, before = deployed_once(make)
    sagemaker.container = broken
    _, change = run(p, outcome="rolled-back", status="FAILED", says="the smoke test failed")
    assert "CUDA error" in change["deployment"]["reason"] or "500" in change["deployment"]["reason"]
    assert endpoint(p)["EndpointConfigName"] == before and configs(p) == [before]


def test_a_first_model_that_fails_the_smoke_test_serves_nobody(make, aws):
    p = make(APPROVAL_MODE="automatic")
    p.upload(4)
    sagemaker.container = lambda kind, body: (200, b'{"predictions": [{"probabilities": {"mel": 1.0}}]}')
    run(p, outcome="deployment-failed", status="FAILED", says="a probability for mel alone")
    assert not aws.client("sagemaker").list_endpoints()["Endpoints"] and not configs(p)


def test_a_deployment_waits_for_the_one_before(make):
    p, before = deployed_once(make)
    sagemaker.hold("skin-lesion-endpoint", "Updating")

    def rest():
        while 60 not in states.retries:
            time.sleep(0.05)
        sagemaker.hold("skin-lesion-endpoint", "InService")

    threading.Thread(target=rest, daemon=True).start()
    run(p, outcome="deployed")
    assert states.retries.count(60) >= 1 and endpoint(p)["EndpointConfigName"] != before


@pytest.mark.parametrize(
    "state, error", [("SystemUpdating", "EndpointBusy"), ("UpdateRollbackFailed", "EndpointStuck")]
)
def test_an_endpoint_that_cannot_be_moved(make, state, error):
    "Busy for an hour and a half, or stuck at once: the model is approved, not deployed, and that is said."
    p, before = deployed_once(make)
    sagemaker.hold("skin-lesion-endpoint", state, "no capacity")
    _, change = run(p, outcome="deployment-unfinished", status="FAILED", says=f"did not finish: {error}: ")
    assert change["error"]["Error"] == error and configs(p) == [before]
    assert states.retries.count(60) == (90 if error == "EndpointBusy" else 0)


def test_a_call_that_never_returns(make):
    "A state's time limit comes without a cause."
    p = make(task_seconds=1)
    p.upload(4)
    faults.record.faults.append(faults.Fault("states", "StartPipelineExecution", "slow", times=100))
    run(p, outcome="step-failed", status="FAILED", says="Stopped on States.Timeout: no cause was given")


# ---- endings that no state can tell of ------------------------------------------------------------------------------


def test_the_time_limit_is_told(make):
    p = make(seconds=2)
    p.upload(4)
    pipelines.ending = "Running"
    ended = p.start(SCHEDULE)
    (message,) = p.messages(1)
    assert ended["status"] == "TIMED_OUT" and "is TIMED_OUT. Unless it has said why" in message["message"]
    assert ended["executionArn"].split(":")[-1] in message["message"]


def test_an_execution_that_somebody_stops_is_told(make, aws):
    p = make()
    p.upload(4)
    pipelines.ending = "Running"
    sfn = aws.client("stepfunctions")
    arn = sfn.start_execution(stateMachineArn=p.machine, input=json.dumps(SCHEDULE), name="stopped")["executionArn"]
    while "WaitForPipeline" not in p.path(arn):
        time.sleep(0.05)
    sfn.stop_execution(executionArn=arn)
    assert "Retraining stopped is ABORTED" in p.messages(1)[0]["message"]


def test_a_message_that_could_not_be_sent_is_made_up_for(make):
    p = make()
    p.upload(2)
    faults.record.faults.append(faults.Fault("states", "Publish", "denied", times=100))
    ended = p.start(SCHEDULE)
    (message,) = p.messages(1)
    assert (ended["status"], ended["error"]) == ("FAILED", "unnotified") and "is FAILED" in message["message"]
    assert record(p, ended["executionArn"])["change"]["ending"]["outcome"] == "insufficient-data"


def test_the_rule_that_speaks_is_terraforms():
    "It looks at nothing but the status: an event of an execution that failed need not have an error."
    text = (REPO / "infra" / "modules" / "orchestration" / "main.tf").read_text()
    silent = text[text.index('"aws_cloudwatch_event_rule" "silent"') :]
    detail = re.search(r"detail = \{(.*?)\}", silent, re.S)[1]
    assert re.findall(r"(\w+) += ", detail) == ["stateMachineArn", "status"]
    assert json.loads(re.search(r"status += (\[.*\])", detail)[1]) == ["FAILED", "TIMED_OUT", "ABORTED"]
    assert "$.detail.name" in silent and "$.detail.status" in silent


def test_an_approval_that_was_withdrawn_meanwhile(make, aws):
    p = make()
    p.upload(4)
    _, change = run(p, outcome="awaiting-approval")
    p.seen.clear()
    event = json.loads((EVENTS / "model_package_approved.json").read_text())
    event["detail"]["ModelPackageArn"] = change["approval"]["model_package_arn"]
    run(p, event, "approval-withdrawn", says="Model 1: Withdrawn")
    assert not aws.client("sagemaker").list_endpoints()["Endpoints"]


def test_a_click_that_goes_against_the_gate_deploys_nothing(make, aws):
    "The console approves what it is told to; an evaluation that said no is not overruled by a click."
    p = make()
    pipelines.scores["malignant_sensitivity"] = 0.6
    strict = dict(MinMalignantSensitivity=0.9)
    key = "runs/old/evaluation/evaluation.json"
    aws.client("s3").put_object(Bucket="models", Key=key, Body=json.dumps(pipelines.evaluation(strict)))
    arn = pipelines._register("skin-lesion-models", f"s3://models/{key}")
    approve(p, arn)
    (message,) = p.messages(1)
    assert message["outcome"] == "approval-refused" and "sensitivity 0.600 is below 0.900" in message["message"]
    assert aws.client("sagemaker").describe_model_package(ModelPackageName=arn)["ModelApprovalStatus"] == "Rejected"
    assert not aws.client("sagemaker").list_endpoints()["Endpoints"]
    p.seen.clear()
    registry = SageMakerRegistry(aws.client("sagemaker"), aws.client("s3"))
    registry.set_status("skin-lesion-models", 1, "Approved", "ada", "read it", override="two readers agree")
    (message,) = p.messages(1)
    assert message["outcome"] == "deployed" and "override: two readers agree" in message["message"]


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
    p.messages(4)  # which is told as well
    pipelines.ending = "Ended"
    p.seen.clear()
    run(p, SCHEDULE, "awaiting-approval")  # a stopped execution does not keep its turn


# ---- the definition itself ------------------------------------------------------------------------------------------


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
    assert len(endings) == len({e["outcome"] for e in endings}) == len({e["subject"] for e in endings}) == 15
    for e in endings:
        text, *paths = re.findall(r"'([^']*)'|(\$[\w.$]*)", e["message.$"])
        assert text[0].count("{}") == len(paths), e["outcome"]


def test_every_state_was_entered_by_a_test(request):
    "The paths of a state are only known to exist where it was entered."
    source = Path(__file__).read_text()
    mine = {i.function.__name__ for i in request.session.items if i.path == request.path}
    quick = set(re.findall(r"(?<!slow\n)^def (test_\w+)", source, re.M))
    if quick - mine:
        pytest.skip("only a part of this file was run")
    assert ENTERED == set(ASL["States"])
