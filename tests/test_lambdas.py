"The functions, one by one, against moto: what they answer, refuse, and do when called twice."

import importlib.util
import json
import os
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from unittest.mock import ANY

import boto3
import pandas as pd
import pytest

moto = pytest.importorskip("moto")
from botocore.exceptions import ClientError, ReadTimeoutError  # noqa: E402

from skin_lesion_mlops.evaluation.card import without_nan  # noqa: E402
from skin_lesion_mlops.evaluation.gate import Champion  # noqa: E402
from skin_lesion_mlops.evaluation.gate import decide as judge_of  # noqa: E402
from skin_lesion_mlops.evaluation.gate import gate as gate_of  # noqa: E402
from skin_lesion_mlops.pipeline.registry import create_registry  # noqa: E402
from tests.standin import sagemaker  # noqa: E402

REPO = Path(__file__).resolve().parent.parent
EVENTS = REPO / "tests" / "events"
ENVIRONMENT = dict(
    RAW_BUCKET="raw",
    PROCESSED_BUCKET="processed",
    MODELS_BUCKET="models",
    MIN_NEW_SAMPLES="3",
    ROLE_ARN="arn:aws:iam::123456789012:role/sagemaker",
    CAPTURE_URI="s3://processed/capture",
    PIPELINE_PARAMETERS='{"RawBucket": "raw"}',
    AWS_DEFAULT_REGION="us-east-1",
    AWS_ACCESS_KEY_ID="testing",
    AWS_SECRET_ACCESS_KEY="testing",
)
CONTEXT = types.SimpleNamespace(function_name="f", aws_request_id="r")
EXECUTION = "arn:aws:states:us-east-1:123456789012:execution:skin-lesion-retraining:{}"


@pytest.fixture
def aws(monkeypatch):
    "An empty account with the three buckets."
    for k, v in ENVIRONMENT.items():
        monkeypatch.setenv(k, v)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.syspath_prepend(str(REPO / "lambdas"))
    sagemaker.install()
    with moto.mock_aws():
        for bucket in ("raw", "processed", "models"):
            boto3.client("s3").create_bucket(Bucket=bucket)
        boto3.client("sagemaker").create_model_package_group(ModelPackageGroupName="skin-lesion-models")
        yield boto3.client
        sys.modules.pop("common", None)


def load(verb):
    "A function's module, fresh, as in a new process."
    spec = importlib.util.spec_from_file_location(verb, REPO / "lambdas" / verb / "handler.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[verb] = module
    spec.loader.exec_module(module)
    return module


def call(verb, **event):
    "Invoke a function."
    return load(verb).handler(event, CONTEXT)


def upload(s3, n=4, completed="2026-01-02T00:00:00Z", name="one", prefix="ham10000"):
    "Images and the manifest, as `skin-lesion data upload` leaves them."
    from hashlib import sha256

    rows = ["key,size,sha256,label"]
    for i in range(n):
        body = f"{name}{i}".encode()
        s3.put_object(Bucket="raw", Key=f"{prefix}/{name}{i}.jpg", Body=body, ChecksumAlgorithm="SHA256")
        rows.append(f"{prefix}/{name}{i}.jpg,{len(body)},{sha256(body).hexdigest()},nv")
    part = "\n".join(rows).encode()
    key = f"manifests/{prefix}/{name}.csv"
    s3.put_object(Bucket="raw", Key=key, Body=part)
    entry = dict(key=key, sha256=sha256(part).hexdigest(), objects=n, labelled=n, completed=completed)
    path = f"manifests/{prefix}/manifest.json"
    try:
        parts = json.load(s3.get_object(Bucket="raw", Key=path)["Body"])["parts"]
    except s3.exceptions.NoSuchKey:
        parts = []
    s3.put_object(Bucket="raw", Key=path, Body=json.dumps(dict(version=1, parts=[*parts, entry])))


def evaluation(accuracy=0.9, balanced=0.8, half=0.02, thresholds=None, champion=Champion()):
    "An evaluation.json with what the functions read, decided as the evaluate step decides."
    figures = dict(accuracy=accuracy, balanced_accuracy=balanced, malignant_sensitivity=0.95, ece=0.03)
    rows = {n: dict(value=v, low=v - half, high=v + half, standard_error=half / 1.96) for n, v in figures.items()}
    guards = gate_of(pd.DataFrame(rows).T, dict(dict(accuracy=0.85), **(thresholds or {})), champion)
    metrics = {n: dict(value=v, standard_deviation=half / 1.96) for n, v in figures.items()}
    lineage = dict(data_hash="d4ta", code_version="c0de")
    found = dict(multiclass_classification_metrics=metrics, gate=guards, decision=judge_of(guards), lineage=lineage)
    return without_nan(found)


def register(aws, run="r1", status="PendingManualApproval", metadata=None, **scores):
    "A registered model with its evaluation and its dataset's receipt."
    base = f"runs/{run}"
    put = aws("s3").put_object
    put(Bucket="models", Key=f"{base}/evaluation/evaluation.json", Body=json.dumps(evaluation(**scores)))
    put(Bucket="models", Key=f"{base}/report/receipt.json", Body=json.dumps(dict(started="2026-01-03T00:00:00Z")))
    uri, baseline = (f"s3://models/{base}/{f}.json" for f in ("evaluation/evaluation", "baseline/statistics"))
    image = dict(Image="image:1", ModelDataUrl="s3://models/model.tar.gz")
    types = dict(SupportedContentTypes=["image/jpeg"], SupportedResponseMIMETypes=["application/json"])
    return aws("sagemaker").create_model_package(
        ModelPackageGroupName="skin-lesion-models",
        ModelApprovalStatus=status,
        InferenceSpecification=dict(Containers=[image], **types),
        ModelMetrics=dict(
            ModelQuality=dict(Statistics=dict(ContentType="application/json", S3Uri=uri)),
            ModelDataQuality=dict(Statistics=dict(ContentType="application/json", S3Uri=baseline)),
        ),
        CustomerMetadataProperties=metadata or {},
    )["ModelPackageArn"]


SCHEDULE = dict(kind="schedule", event=json.loads((EVENTS / "schedule.json").read_text()))


def check(trigger=SCHEDULE, execution="a"):
    return call("check_data_availability", trigger=trigger, execution=EXECUTION.format(execution))


# ---- check_data_availability ----------------------------------------------------------------------------------------


def test_without_an_upload_there_is_nothing_to_train_on(aws):
    found = check()
    assert found["sufficient"] is False and "no upload is complete" in found["reason"]


def test_only_images_uploaded_since_the_last_training_count(aws):
    upload(aws("s3"), 4)
    found = check()
    assert (found["sufficient"], found["new"], found["verified"]) == (True, 4, 4)
    register(aws)  # trained on the 3rd
    assert check()["new"] == 0 and not check()["sufficient"]
    upload(aws("s3"), 5, completed="2026-01-04T00:00:00Z", name="two")
    found = check()
    assert (found["new"], found["total"], found["sufficient"]) == (5, 9, True)


@pytest.mark.parametrize("damage", ["missing", "size", "content", "part"])
def test_damage_is_found(aws, damage):
    s3 = aws("s3")
    upload(s3, 4)
    if damage == "missing":
        s3.delete_object(Bucket="raw", Key="ham10000/one2.jpg")
    if damage in ("size", "content"):
        body = b"longer than before" if damage == "size" else b"eno2"
        s3.put_object(Bucket="raw", Key="ham10000/one2.jpg", Body=body, ChecksumAlgorithm="SHA256")
    if damage == "part":
        s3.put_object(Bucket="raw", Key="manifests/ham10000/one.csv", Body=b"key,size,sha256,label\n")
    with pytest.raises(Exception) as e:
        check()
    assert type(e.value).__name__ == "DataDamaged" and ("one2.jpg" in str(e.value) or "one.csv" in str(e.value))


def test_work_is_bounded_for_a_large_bucket(aws, monkeypatch):
    "However many parts there are, at most 20 are read and at most SAMPLE_SIZE objects looked at."
    monkeypatch.setenv("SAMPLE_SIZE", "40")
    s3 = aws("s3")
    for i in range(30):
        upload(s3, 5, name=f"part{i}-")
    assert check()["total"] == 150 and check()["verified"] == 40


def test_the_champion_becomes_the_model_to_beat(aws):
    upload(aws("s3"), 4, completed="2026-02-01T00:00:00Z")
    register(aws, status="Approved", balanced=0.8, half=0.0196)
    found = {p["Name"]: p["Value"] for p in check()["parameters"]}
    assert float(found.pop("ChampionStandardError")) == pytest.approx(0.01) and len(found.pop("DataVersion")) == 64
    assert found == {
        "ChampionBalancedAccuracy": "0.8",
        "ChampionVersion": "1",
        "RawBucket": "raw",
        "TriggeredBy": "schedule",
    }


def request(**body):
    return dict(kind="request", event=dict(reason="new biopsies", requested_by="clinic", **body))


def test_a_request_sets_hyperparameters(aws):
    upload(aws("s3"), 4)
    found = check(request(parameters={"Epochs": 10, "MinNewSamples": 1}))
    assert dict(Name="Epochs", Value="10") in found["parameters"]
    assert found["trigger"]["requested_by"] == "clinic"
    assert "MinNewSamples" not in {p["Name"] for p in found["parameters"]}


@pytest.mark.parametrize(
    "body",
    [
        [],
        "retrain",
        {},
        dict(reason="x"),
        dict(reason="", requested_by="x"),
        dict(reason="x" * 501, requested_by="x"),
        dict(reason="x", requested_by="x", force=True),
        dict(reason="x", requested_by="x", parameters=[]),
        dict(reason="x", requested_by="x", parameters=dict(TrainingImage="evil:latest")),
        dict(reason="x", requested_by="x", parameters=dict(AccuracyThreshold=0)),
        dict(reason="x", requested_by="x", parameters=dict(Epochs="many")),
        dict(reason="x", requested_by="x", parameters=dict(Epochs=True)),
        dict(reason="x", requested_by="x", parameters=dict(Arch={"a": 1})),
    ],
)
def test_a_wrong_request_is_refused(aws, body):
    with pytest.raises(Exception) as e:
        check(dict(kind="request", event=body))
    assert type(e.value).__name__ == "InvalidRequest"


def executions(aws, *names):
    "Executions of a machine that waits."
    sfn = aws("stepfunctions")
    wait = json.dumps(dict(StartAt="W", States=dict(W=dict(Type="Wait", Seconds=600, End=True))))
    machine = sfn.create_state_machine(
        name="skin-lesion-retraining", definition=wait, roleArn="arn:aws:iam::123456789012:role/r"
    )["stateMachineArn"]
    return [sfn.start_execution(stateMachineArn=machine, name=n)["executionArn"] for n in names]


def test_one_retraining_at_a_time(aws):
    first, _ = executions(aws, "a", "b")
    assert check(execution="a") and check(execution="a")  # its own lock, also when it is called twice
    with pytest.raises(Exception) as e:
        check(execution="b")
    assert type(e.value).__name__ == "AlreadyRunning" and "a is still running" in str(e.value)
    aws("stepfunctions").stop_execution(executionArn=first)
    assert check(execution="b")  # a lock counts only while its holder runs


def test_a_lock_that_changes_hands_meanwhile_is_not_stolen(aws):
    "Between reading a stale lock and taking it, another execution takes it."
    f, s3 = load("check_data_availability"), aws("s3")
    executions(aws, "b", "c")
    s3.put_object(Bucket="processed", Key=f.LOCK, Body=json.dumps(dict(execution=EXECUTION.format("gone"))))

    def meanwhile(sfn, holder):
        if holder == EXECUTION.format("gone"):
            s3.put_object(Bucket="processed", Key=f.LOCK, Body=json.dumps(dict(execution=EXECUTION.format("c"))))
            return False
        return True

    f.is_running = meanwhile
    with pytest.raises(f.AlreadyRunning):
        f.take_turn(s3, aws("stepfunctions"), "processed", EXECUTION.format("b"))


# ---- check_pipeline_status ------------------------------------------------------------------------------------------

RUN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/skin-lesion-training/execution/r2"
REGISTERED = dict(StepName="Register", StepStatus="Succeeded", Metadata=dict(RegisterModel=dict(Arn="arn:package/7")))


def gate(outcome):
    return dict(StepName="Gate", StepStatus="Succeeded", Metadata=dict(Condition=dict(Outcome=outcome)))


@pytest.mark.parametrize(
    "status, steps, means",
    [
        ("Succeeded", [gate("True"), REGISTERED], dict(status="Succeeded", step="", model_package_arn="arn:package/7")),
        (
            "Failed",
            [gate("False"), dict(StepName="NotRegistered", StepStatus="Failed", FailureReason="accuracy 0.6")],
            dict(status="GateNotPassed", step="NotRegistered", model_package_arn=""),
        ),
        (
            "Failed",
            [dict(StepName="Train", StepStatus="Failed", FailureReason="out of memory")],
            dict(status="Failed", step="Train", reason="out of memory"),
        ),
        ("Stopped", [], dict(status="Stopped", step="")),
    ],
)
def test_what_the_end_of_a_pipeline_means(aws, status, steps, means):
    f = load("check_pipeline_status")
    execution = dict(PipelineExecutionStatus=status, PipelineExecutionArn=RUN)
    found = f.conclude(execution, {s["StepName"]: s for s in steps}, "models")
    assert {k: found[k] for k in means} == means
    assert found["evaluation"] == "s3://models/runs/r2/evaluation/evaluation.json"
    assert means.get("reason", "") in found["summary"]


def test_a_cached_evaluation_is_read_where_it_is(aws):
    f = load("check_pipeline_status")
    steps = dict(Evaluate=dict(CacheHitResult=dict(SourcePipelineExecutionArn=RUN.replace("r2", "r1"))))
    assert f.evaluation_of(RUN, steps, "models") == "s3://models/runs/r1/evaluation/evaluation.json"


def test_a_pipeline_may_not_run_for_ever(aws):
    f = load("check_pipeline_status")
    with pytest.raises(f.PipelineOverdue):
        f.refuse_overdue("2020-01-01T00:00:00Z", 8)
    f.refuse_overdue("2999-01-01T00:00:00.000Z", 8)


# ---- evaluate_model -------------------------------------------------------------------------------------------------


def judge(aws, run="r1", arn="arn:package/7"):
    uri = f"s3://models/runs/{run}/evaluation/evaluation.json"
    return call("evaluate_model", evaluation=uri, model_package_arn=arn)


def test_a_good_model_passes_with_its_numbers(aws):
    register(aws)
    found = judge(aws)
    assert found["passed"] and found["after"]["accuracy"] == dict(value=0.9, low=0.88, high=0.92)
    assert (
        found["before"] == {}
        and (found["data_hash"], found["code"]) == ("d4ta", "c0de")
        and "There was no approved model to compare with" in found["summary"]
    )


def test_a_weak_model_does_not_pass(aws):
    register(aws, accuracy=0.84)
    found = judge(aws)
    assert not found["passed"] and found["reasons"] == ["accuracy 0.840 is below 0.850"]


@pytest.mark.parametrize("balanced, passed", [(0.85, True), (0.78, True), (0.77, False)])
def test_a_challenger_may_not_be_worse_beyond_doubt(aws, balanced, passed):
    "Two half intervals of 0.02 make one of 0.028: 0.02 less could be chance, 0.03 less is not. The evaluation says so."
    register(aws, "champion", status="Approved", balanced=0.8)
    upload(aws("s3"), 4, completed="2026-02-01T00:00:00Z")
    given = {p["Name"]: p["Value"] for p in check()["parameters"]}
    best = [given[n] for n in ("ChampionVersion", "ChampionBalancedAccuracy", "ChampionStandardError")]
    champion = Champion(best[0], float(best[1]), float(best[2]))
    register(aws, "r2", balanced=balanced, thresholds=dict(champion_difference=0), champion=champion)
    found = judge(aws, "r2")
    assert found["passed"] is passed and found["champion"] == "1"
    assert found["difference"]["value"] == pytest.approx(balanced - 0.8)
    assert found["difference"]["high"] == pytest.approx(balanced - 0.8 + 0.0283, abs=1e-4)
    assert found["before"]["balanced_accuracy"]["value"] == 0.8 and ("worse than" in found["summary"]) is not passed


def test_a_guard_that_is_off_refuses_nobody(aws):
    "-1 is off, here as in the pipeline: there is one default."
    register(aws, "champion", status="Approved", balanced=0.8)
    register(aws, "r2", balanced=0.6, champion=Champion("1", 0.8, 0.01))
    assert judge(aws, "r2")["passed"] and judge(aws, "r2")["difference"]["value"] == pytest.approx(-0.2)


def test_the_function_reads_the_decision_and_makes_none(aws, monkeypatch):
    "Its environment once held thresholds of its own."
    monkeypatch.setenv("ACCURACY_THRESHOLD", "0.99")
    monkeypatch.setenv("MIN_MALIGNANT_SENSITIVITY", "0.99")
    register(aws)
    assert judge(aws)["passed"]
    stored = dict(evaluation(), decision=dict(passed=False, failed=1, reasons=["the moon is full"]))
    aws("s3").put_object(Bucket="models", Key="runs/r1/evaluation/evaluation.json", Body=json.dumps(stored))
    assert judge(aws)["reasons"] == ["the moon is full"]


def test_what_the_pipeline_did_not_register_cannot_pass(aws):
    register(aws)
    assert judge(aws, arn="")["reasons"] == ["the pipeline did not register it"]


def test_an_evaluation_of_before_is_refused_with_what_to_do(aws):
    register(aws)
    old = {k: v for k, v in evaluation().items() if k != "decision"}
    aws("s3").put_object(Bucket="models", Key="runs/r1/evaluation/evaluation.json", Body=json.dumps(old))
    with pytest.raises(Exception, match="push the present images, `skin-lesion pipeline upsert`, and retrain") as e:
        judge(aws)
    assert type(e.value).__name__ == "EvaluationUnreadable"


@pytest.mark.parametrize(
    "body, error", [(None, "EvaluationMissing"), ("{", "EvaluationUnreadable"), ("{}", "EvaluationUnreadable")]
)
def test_a_missing_or_broken_evaluation_has_a_name(aws, body, error):
    if body:
        aws("s3").put_object(Bucket="models", Key="runs/r1/evaluation/evaluation.json", Body=body)
    with pytest.raises(Exception) as e:
        judge(aws)
    assert type(e.value).__name__ == error


# ---- approve_model --------------------------------------------------------------------------------------------------


def decide(arn, action="decide"):
    return call(
        "approve_model", action=action, model_package_arn=arn, execution=EXECUTION.format("a"), record="s3://m/c.json"
    )


def status_of(aws, arn):
    return aws("sagemaker").describe_model_package(ModelPackageName=arn)


def test_by_default_a_person_decides(aws):
    arn = register(aws, metadata=dict(DataHash="d4ta"))
    assert decide(arn)["status"] == "Pending" == decide(arn)["status"]
    package = status_of(aws, arn)
    assert package["ModelApprovalStatus"] == "PendingManualApproval"
    assert package["CustomerMetadataProperties"] == dict(DataHash="d4ta", ChangeRecord="s3://m/c.json")


def test_automatic_approval_says_who_and_why(aws, monkeypatch):
    monkeypatch.setenv("APPROVAL_MODE", "automatic")
    arn = register(aws, metadata=dict(DataHash="d4ta"))
    assert decide(arn)["status"] == "Approved" == decide(arn)["status"]
    package = status_of(aws, arn)
    assert package["ModelApprovalStatus"] == "Approved"
    assert package["ApprovalDescription"] == "retraining/a: it met every threshold"
    history = create_registry(region="us-east-1").describe("skin-lesion-models", 1)["ApprovalHistory"]
    assert [(h["Status"], h["By"]) for h in history] == [("PendingManualApproval", ANY), ("Approved", "retraining/a")]
    assert decide(arn, "confirm")["status"] == "Elsewhere"  # the retraining that approved it deploys it


def test_a_persons_approval_is_read_back(aws):
    arn = register(aws)
    assert decide(arn, "confirm")["status"] == "Withdrawn"
    create_registry(region="us-east-1").set_status("skin-lesion-models", 1, "Approved", "ada", "read the report")
    found = decide(arn, "confirm")
    assert (found["status"], found["by"], found["reason"]) == ("Approved", "ada", "read the report")


def console(aws, arn):
    "A click on approve, which asks nobody."
    aws("sagemaker").update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")


def test_an_approval_against_the_gate_is_taken_back(aws):
    arn = register(aws, accuracy=0.84)
    console(aws, arn)
    found = decide(arn, "confirm")
    assert (found["status"], found["by"]) == ("Refused", "the gate")
    assert "accuracy 0.840 is below 0.850" in found["summary"] and "without an override" in found["summary"]
    assert status_of(aws, arn)["ModelApprovalStatus"] == "Rejected"
    assert decide(arn, "confirm")["status"] == "Refused", "also when the first answer got lost"
    history = create_registry(region="us-east-1").describe("skin-lesion-models", 1)["ApprovalHistory"]
    assert [(h["Status"], h["By"]) for h in history[1:]] == [("Rejected", "the gate")]


def test_an_override_is_kept_and_holds(aws):
    arn, registry = register(aws, accuracy=0.84), create_registry(region="us-east-1")
    registry.set_status("skin-lesion-models", 1, "Approved", "ada", "read it", override="two readers agree")
    found = decide(arn, "confirm")
    assert (found["status"], found["by"]) == ("Approved", "ada") and "two readers agree" in found["summary"]
    registry.set_status("skin-lesion-models", 1, "Rejected", "ada", "second thoughts")
    console(aws, arn)
    assert decide(arn, "confirm")["status"] == "Refused", "an override that was revoked is none"


@pytest.mark.parametrize("guards, status", [(5, "Approved"), (4, "Refused"), (0, "Refused")])
def test_an_approved_version_of_before_is_what_its_guards_say(aws, guards, status):
    arn, old = register(aws), evaluation()
    del old["decision"]
    old["gate"] = dict(list(old["gate"].items())[:guards])
    aws("s3").put_object(Bucket="models", Key="runs/r1/evaluation/evaluation.json", Body=json.dumps(old))
    console(aws, arn)
    assert decide(arn, "confirm")["status"] == status


def test_without_its_evaluation_nothing_speaks_for_an_approval(aws):
    arn = register(aws)
    aws("s3").delete_object(Bucket="models", Key="runs/r1/evaluation/evaluation.json")
    console(aws, arn)
    assert decide(arn, "confirm")["status"] == "Refused"


def test_automatic_approval_does_not_override_the_gate(aws, monkeypatch):
    monkeypatch.setenv("APPROVAL_MODE", "automatic")
    arn = register(aws, accuracy=0.84)
    with pytest.raises(Exception, match="model 1: accuracy 0.840 is below 0.850") as e:
        decide(arn)
    assert type(e.value).__name__ == "GateNotPassed"
    assert status_of(aws, arn)["ModelApprovalStatus"] == "PendingManualApproval"


def test_another_mode_is_refused(aws, monkeypatch):
    monkeypatch.setenv("APPROVAL_MODE", "yes")
    with pytest.raises(Exception, match="use manual or automatic"):
        decide(register(aws))


# ---- deploy_model ---------------------------------------------------------------------------------------------------


def move(arn, action="start"):
    return call("deploy_model", action=action, model_package_arn=arn)


def test_deploying_twice_is_deploying_once(aws):
    arn = register(aws, status="Approved")
    assert move(arn)["status"] == "InProgress"
    assert move(arn)["status"] == move(arn, "follow")["status"] == "Deployed"
    sm = aws("sagemaker")
    assert len(sm.list_models()["Models"]) == len(sm.list_endpoint_configs()["EndpointConfigs"]) == 1
    fleet = aws("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert [(t["MinCapacity"], t["MaxCapacity"]) for t in fleet] == [(1, 5)]


def test_an_unapproved_model_is_refused(aws):
    with pytest.raises(Exception) as e:
        move(register(aws))
    assert type(e.value).__name__ == "NotApproved"
    assert not aws("sagemaker").list_models()["Models"]


# ---- slack_notifier -------------------------------------------------------------------------------------------------


def test_slack_gets_a_sentence(aws):
    f = load("slack_notifier")
    notification = json.loads((EVENTS / "sns_notification.json").read_text())["Records"][0]["Sns"]
    assert f.as_text(notification).endswith("*\nskin-lesion-latency-p95 is ALARM: Threshold Crossed")
    assert f.as_text(dict(Subject=None, Message="a <b> & c")) == "*skin-lesion*\na &lt;b&gt; &amp; c"


def test_slack_really_posts(aws, monkeypatch):
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    got = []

    class Slack(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200 if len(got) == 1 else 500)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Slack)
    Thread(target=server.serve_forever, daemon=True).start()
    f = load("slack_notifier")
    monkeypatch.setattr(f, "webhook", lambda: f"http://127.0.0.1:{server.server_port}/hook")
    event = json.loads((EVENTS / "sns_notification.json").read_text())
    assert f.handler(event, CONTEXT)["summary"] == "1 posted" and "latency" in got[0]["text"]
    with pytest.raises(f.SlackBusy):
        f.handler(event, CONTEXT)
    server.shutdown()


# ---- what they share ------------------------------------------------------------------------------------------------


def error(code, status):
    return ClientError(
        dict(Error=dict(Code=code, Message="m"), ResponseMetadata=dict(HTTPStatusCode=status)), "Describe"
    )


@pytest.mark.parametrize(
    "cause, name",
    [
        (error("ThrottlingException", 400), "AwsBusy"),
        (error("InternalFailure", 500), "AwsBusy"),
        (error("Whatever", 503), "AwsBusy"),
        (ReadTimeoutError(endpoint_url="x"), "AwsBusy"),
        (error("AccessDeniedException", 400), "AwsDenied"),
        (error("403", 403), "AwsDenied"),
        (error("ValidationException", 400), "AwsRefused"),
    ],
)
def test_aws_errors_have_three_names(aws, cause, name):
    load("approve_model")
    import common

    assert type(common.translated(cause)).__name__ == name


def test_logs_are_json_and_name_no_image(aws, capsys):
    upload(aws("s3"), 4)
    check()
    with pytest.raises(Exception):
        check(dict(kind="request", event={}))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [x["event"] for x in lines] == ["done", "failed"] and lines[1]["error"] == "InvalidRequest"
    assert ".jpg" not in json.dumps(lines)


def test_zips_are_the_same_bytes_every_time(tmp_path):
    script = REPO / "lambdas" / "build.py"
    for out in ("a", "b"):
        subprocess.run([sys.executable, str(script), str(tmp_path / out)], check=True, capture_output=True)
        for p in (REPO / "lambdas").glob("*/handler.py"):
            os.utime(p)
    a, b = (sorted((tmp_path / out).iterdir()) for out in ("a", "b"))
    assert [p.name for p in a] == [p.name for p in b] and len(a) >= 6
    assert [p.read_bytes() for p in a] == [p.read_bytes() for p in b]
    for p in a:
        assert "handler.py" in zipfile.ZipFile(p).namelist()


def test_functions_need_nothing_but_boto3(tmp_path):
    "Each module that a zip imports is in the zip, in the standard library, or boto3."
    import ast

    subprocess.run([sys.executable, str(REPO / "lambdas" / "build.py"), str(tmp_path)], check=True, capture_output=True)
    allowed = set(sys.stdlib_module_names) | {"boto3", "botocore"}
    for path in tmp_path.iterdir():
        z = zipfile.ZipFile(path)
        inside = {n.split("/")[0].removesuffix(".py") for n in z.namelist()}
        for name in z.namelist():
            for node in ast.parse(z.read(name)).body:  # at import; what a function imports lazily, it may not call
                roots = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                roots += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
                assert {r.split(".")[0] for r in roots} <= allowed | inside | {"__future__"}, (path.name, name, roots)
