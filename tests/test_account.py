"""The commands that work in an AWS account, as a program of their own, in an account that runs on this machine.

The training is pretended, the rest is real: the command, boto3, HTTP, and whatever SageMaker answers.
"""

import json
import os
import re
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("moto")
from PIL import Image  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from skin_lesion_mlops.aws import remote  # noqa: E402
from skin_lesion_mlops.cli.app import app  # noqa: E402
from skin_lesion_mlops.core import s3_path  # noqa: E402
from skin_lesion_mlops.pipeline import definition as pipeline  # noqa: E402
from skin_lesion_mlops.pipeline.registry import create_registry, s3_uris  # noqa: E402
from tests import forks  # noqa: E402
from tests.standin import pipelines, platform, sagemaker  # noqa: E402

REPO = Path(__file__).resolve().parent.parent
ENDPOINT = "skin-lesion-endpoint"
REGION = ("--region", "us-east-1")


@pytest.fixture
def account(aws, tmp_path):
    "What Terraform makes, empty, and its parameter."
    aws.reset()
    known = dict(
        roles=dict(sagemaker=platform.ROLE.format("sagemaker")),
        buckets=dict(raw="raw", processed="processed", models="models"),
        capture_uri="s3://processed/capture",
        endpoint=ENDPOINT,
        pipeline="skin-lesion-training",
        pipeline_parameters=dict(
            RawBucket="raw",
            ProcessedBucket="processed",
            ModelsBucket="models",
            TrainingInstanceType="ml.m5.xlarge",
        ),
        model_package_group="skin-lesion-models",
        rollback_alarms=["skin-lesion-endpoint-errors"],
        scaling=dict(min=1, max=5, target=1000, scale_in_below=500),
    )
    p = platform.create(aws, tmp_path / "zips", remote.localised(known))
    aws.client("events").disable_rule(Name="skin-lesion-approval")  # here a person deploys
    p.upload()
    aws.client("ssm").put_parameter(Name="/skin-lesion/platform", Value=json.dumps(known), Type="SecureString")
    return p


def program(*line, status=0, **environment):
    "Run `skin-lesion` as a process: what it prints on stdout and stderr."
    run = subprocess.run if environment else forks.run  # with everything imported, unless the surroundings are odd
    environment = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
    done = run(
        [sys.executable, "-m", "skin_lesion_mlops.cli.app", *line], capture_output=True, text=True, env=environment
    )
    assert done.returncode == status, f"{line} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def verb(line, status=0):
    "The same in this process, which is quicker."
    done = CliRunner().invoke(app, line.split(), prog_name="skin-lesion")
    assert done.exit_code == status, f"{line} -> {done.exit_code}\n{done.output}\n{done.exception}"
    return done


def configs(account):
    return [c["EndpointConfigName"] for c in account.aws.client("sagemaker").list_endpoint_configs()["EndpointConfigs"]]


def train(approve=True):
    "Another version."
    verb("pipeline start --wait --every 0.05")
    n = json.loads(verb("models list --region us-east-1 --json").stdout)[0]["ModelPackageVersion"]
    if approve:
        assert CliRunner().invoke(app, ["models", "approve", str(n), *REGION, "--reason", "good"]).exit_code == 0
    return n


def serving(account):
    d = account.aws.client("sagemaker").describe_endpoint(EndpointName=ENDPOINT)
    return d["EndpointConfigName"] if d["EndpointStatus"] == "InService" else d["EndpointStatus"]


# ---- the whole way, as a person types it ----------------------------------------------------------------------------


def test_from_the_definition_to_the_endpoint(account):
    committed = json.dumps(pipeline.definition())
    account.aws.client("sagemaker").update_pipeline(PipelineName="skin-lesion-training", PipelineDefinition=committed)
    assert program("pipeline", "upsert").stdout.splitlines() == [
        *("parameter ModelsBucket changed", "parameter ProcessedBucket changed", "parameter RawBucket changed"),
        "parameter TrainingInstanceType changed",
    ]
    assert program("pipeline", "upsert").stdout == "skin-lesion-training is up to date\n"
    started = json.loads(program("pipeline", "start", "-p", "Epochs=3", "--json").stdout)
    followed = program("pipeline", "status", started["id"], "--every", "0.1")
    assert "Gate          done" in followed.stderr and "registered version 1" in followed.stdout
    assert "1  PendingManualApproval" in program("models", "list", *REGION).stdout

    refused = program("deploy", "--model", "1", status=3)
    assert "model 1 is PendingManualApproval" in refused.stderr and not configs(account)
    program("models", "approve", "1", *REGION, "--by", "ada", "--reason", "read the report")
    deployed = program("deploy", "--every", "0.1")
    assert deployed.stdout == f"{ENDPOINT}: version 1 serves\n" and serving(account).startswith(f"{ENDPOINT}-v1-")
    again = json.loads(program("deploy", "--json").stdout)
    assert (again["status"], again["version"], len(configs(account))) == ("Deployed", 1, 1)
    (target,) = account.aws.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="sagemaker")[
        "ScalableTargets"
    ]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 5)


def test_an_approval_in_the_console_does_not_deploy_against_the_gate(account, monkeypatch):
    monkeypatch.setitem(pipelines.scores, "malignant_sensitivity", 0.6)
    strict, key = dict(MinMalignantSensitivity=0.9), "runs/old/evaluation/evaluation.json"
    account.aws.client("s3").put_object(
        Bucket="models", Key=key, Body=json.dumps(pipelines.evaluation(strict)).encode()
    )
    arn = pipelines._register("skin-lesion-models", f"s3://models/{key}")
    account.aws.client("sagemaker").update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    refused = verb("deploy", 1).stderr
    assert "version 1 was approved against its gate: malignant sensitivity 0.600 is below 0.900" in refused
    assert not configs(account)
    verb("models reject 1 --reason no --region us-east-1")
    verb("models approve 1 --reason read --override agreed --region us-east-1")
    assert verb("deploy --every 0.05").stdout == f"{ENDPOINT}: version 1 serves\n"


def test_a_start_tells_the_gate_whom_to_beat(account):
    train()
    found = json.loads(verb("pipeline start --wait --every 0.05 --json").stdout)
    assert found["parameters"]["ChampionVersion"] == "1" and found["parameters"]["ChampionBalancedAccuracy"] == "0.8"
    assert found["model"]["version"] == 2 and [s["name"] for s in found["steps"]] == ["Gate", "Register"]


# ---- how an execution ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ending, status, says",
    [("NotRegistered", 3, "NotRegistered after"), ("Failed", 1, "CUDA out of memory"), ("Running", 4, "Executing")],
)
def test_each_end_has_its_exit_status(account, ending, status, says):
    if ending == "NotRegistered":
        pipelines.scores["accuracy"] = 0.6
    else:
        pipelines.ending = ending
    verb("pipeline start")
    time.sleep(0.5)
    shown = verb("pipeline status --every 0.05" + (" --no-wait" if ending == "Running" else ""), status)
    assert says in shown.stdout


def test_a_stopped_execution(account):
    pipelines.ending = "Running"
    arn = json.loads(verb("pipeline start --json").stdout)["arn"]
    account.aws.client("sagemaker").stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken="t" * 32)
    assert "Stopped after" in verb("pipeline status", 130).stdout


def test_steps_are_told_once_as_they_happen(account):
    def slowly(definition, parameters, run):
        step = dict(StepName="Train", StepStatus="Executing", StartTime=time.time())
        done = dict(StepName="Preprocess", StepStatus="Succeeded", StartTime=time.time() - 90, EndTime=time.time())
        sagemaker.show(run, dict(Preprocess=done, Train=step))
        time.sleep(0.6)
        ended = dict(step, StepStatus="Failed", FailureReason="out of memory", EndTime=time.time())
        return dict(status="Failed", reason="a step failed", steps=dict(Preprocess=done, Train=ended))

    sagemaker.executor = slowly
    try:
        shown = verb("pipeline start --wait --every 0.1", 1)
    finally:
        sagemaker.executor = pipelines.pretend
    lines = shown.stderr.splitlines()
    assert [x.split()[:2] for x in lines[1:]] == [["Preprocess", "done"], ["Train", "failed"]], lines
    assert "1 min 30 s" in lines[1] and "out of memory" in lines[2] and "out of memory" in shown.stdout


def test_ctrl_c_stops_looking_not_the_pipeline(account, monkeypatch):
    pipelines.ending = "Running"

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(remote, "time", types.SimpleNamespace(sleep=interrupted, monotonic=time.monotonic))
    assert "the pipeline goes on" in verb("pipeline start --wait", 130).stderr


@pytest.mark.parametrize("wrong", ["Epoch=3", "Epochs=three", "Epochs"])
def test_a_parameter_that_is_none_is_refused(account, wrong):
    verb(f"pipeline start -p {wrong}", 2)
    assert "never been started" in verb("pipeline status", 1).stderr


# ---- how a deployment ends ------------------------------------------------------------------------------------------


@pytest.fixture
def served(account):
    "Version 1 serves, version 2 is approved."
    train()
    verb("deploy --every 0.05")
    train()
    return serving(account)


@pytest.mark.parametrize("fate, says", [("RolledBack", "alarms went off"), ("Failed", "did not pass the ping")])
def test_what_sagemaker_takes_back_leaves_nothing(account, served, fate, says):
    sagemaker.endpoint_fate = fate
    assert says in verb("deploy --every 0.05", 5).stderr and configs(account) == [served]


def test_a_failed_smoke_test_takes_the_model_back(account, served):
    sagemaker.container = lambda kind, body: (500, b"CUDA error")
    assert "the smoke test failed" in verb("deploy --every 0.05", 5).stderr
    assert serving(account) == served and configs(account) == [served]


def test_the_endpoint_is_asked_at_any_time(account):
    assert f"there is no endpoint {ENDPOINT}" in verb("deploy test", 3).stderr
    train()
    verb("deploy --every 0.05")
    assert verb("deploy test").stdout == f"{ENDPOINT}: {serving(account)} answers\n"
    sagemaker.container = lambda kind, body: (200, b'{"predictions": []}')
    assert "the answer has no probabilities" in verb("deploy test", 5).stderr


def test_the_smoke_test_sends_the_picture_it_is_given(account, served, tmp_path):
    got = []
    sagemaker.container = lambda kind, body: (got.append((kind, body)), sagemaker.uniform(kind, body))[1]
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.jpg")
    verb(f"deploy --every 0.05 --image {tmp_path}/a.jpg")
    assert got == [("image/jpeg", (tmp_path / "a.jpg").read_bytes())]


@pytest.mark.parametrize("state, status", [("Updating", 4), ("UpdateRollbackFailed", 6)])
def test_an_endpoint_that_cannot_be_moved(account, served, state, status):
    sagemaker.hold(ENDPOINT, state)
    assert f"{ENDPOINT} is {state}" in verb("deploy", status).stderr and configs(account) == [served]


def test_a_deployment_without_waiting(account, served):
    assert "version 2 is on its way" in verb("deploy --no-wait").stdout


def test_a_busy_fleet_is_not_made_smaller(account, served):
    from moto.sagemaker.models import sagemaker_backends

    fleet = sagemaker_backends["123456789012"]["us-east-1"].endpoints[ENDPOINT]
    fleet.production_variants[0]["DesiredInstanceCount"] = 4
    verb("deploy --every 0.05")
    new = account.aws.client("sagemaker").describe_endpoint_config(EndpointConfigName=serving(account))
    assert new["ProductionVariants"][0]["InitialInstanceCount"] == 4


def test_rollback_returns_to_the_last_approved_one_and_forgets_this_one(account, served):
    time.sleep(1.1)  # configs are told apart by the second in which they were made
    verb("deploy --every 0.05")
    assert "-v2-" in serving(account)
    assert f"{served} serves" in verb("deploy rollback --every 0.05").stdout
    assert serving(account) == served and configs(account) == [served]
    assert "no approved model was deployed before" in verb("deploy rollback", 1).stderr


def test_rollback_does_not_return_to_a_rejected_model(account, served):
    time.sleep(1.1)
    verb("deploy --every 0.05")
    verb("models reject 1 --region us-east-1 --reason recalled")
    assert "no approved model" in verb("deploy rollback", 1).stderr and "-v2-" in serving(account)


# ---- images ---------------------------------------------------------------------------------------------------------


def test_an_upload_counts_resumes_and_names_what_it_refuses(account, tmp_path):
    for i, dx in enumerate(("mel", "nv", "nv")):
        (tmp_path / "images" / dx).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / dx / f"{i}.{'tif' if i == 2 else 'jpg'}")
    first = program("data", "upload", str(tmp_path / "images"), status=1)
    assert "2 files sent, 0 there already, 1 refused" in first.stdout and "2.tif" in first.stderr
    (tmp_path / "images" / "nv" / "2.tif").unlink()
    again = json.loads(program("data", "upload", str(tmp_path / "images"), "--json").stdout)
    assert (again["sent"], again["there"], again["bucket"], again["parts"]) == (0, 2, "raw", 2)


def test_other_classes_are_uploaded_and_the_pipeline_is_told(account, tmp_path):
    "A table of one's own travels with the start, under the name of its content."
    for i, dx in enumerate(("wart", "mole")):
        (tmp_path / "images" / dx).mkdir(parents=True)
        Image.effect_noise((40, 40), 30 + i).save(tmp_path / "images" / dx / f"{i}.jpg")
    mine = tmp_path / "mine.csv"
    mine.write_text("code,name,malignant\nwart,Wart,no\nnv,Mole,no\n")
    sent = json.loads(program("data", "upload", str(tmp_path / "images"), "--classes", str(mine), "--json").stdout)
    assert sent["labels"] == dict(wart=1, nv=1)
    arn = json.loads(program("pipeline", "start", "--classes", str(mine), "--json").stdout)["arn"]
    sm, s3 = account.aws.client("sagemaker"), account.aws.client("s3")
    told = sm.list_pipeline_parameters_for_execution(PipelineExecutionArn=arn)["PipelineParameters"]
    told = {p["Name"]: p["Value"] for p in told}
    assert told["Classes"] == "file"
    body = s3.get_object(Bucket="models", Key=f"{told['ClassesPrefix']}/mine.csv")["Body"].read()
    assert body == mine.read_bytes()


# ---- models, here and there -----------------------------------------------------------------------------------------


def test_models_look_the_same_here_and_in_sagemaker(account, tmp_path):
    "Two registries with the same two versions: the same words, but for times and places."
    home, words = tmp_path / "home", {}
    local = create_registry(home=home)
    for n in (1, 2):
        train(approve=False)
        package = create_registry(region="us-east-1").describe("skin-lesion-models", n)
        for _, uri in s3_uris(package):
            s3_path(home, uri).parent.mkdir(parents=True, exist_ok=True)
            s3_path(home, uri).write_text(json.dumps(pipelines.evaluation()))
        kept = ("ModelPackageGroupName", "InferenceSpecification", "ModelMetrics")
        local.register({k: package[k] for k in kept})
    for where in (("--home", str(home)), REGION):
        said = []
        for line in (
            ["list"],
            ["approve", "2", "--by", "ada", "--reason", "read the report"],
            ["approve", "2", "--by", "bob", "--reason", "me too"],
            ["reject", "1", "--by", "ada", "--reason", "too old"],
            ["show", "2"],
            ["show", "9"],
            ["list"],
        ):
            done = CliRunner().invoke(app, ["models", *line, *where])
            lines = [x for x in done.output.splitlines() if not x.startswith(("files ", "2026-", "20"))]
            said.append((line[0], done.exit_code, [plain(x) for x in lines]))
        words[where] = said
    here, there = words.values()
    for a, b in zip(here, there):
        assert "\n".join(a[2]) == "\n".join(b[2])
    assert [status for _, status, _ in here] == [0, 0, 1, 0, 0, 1, 0]


def plain(line):
    "Without what differs by nature: times, who has registered, and the width of that name."
    line = re.sub(r"\d{4}-\d\d-\d\d[T ][\d:]+Z?", "TIME", line)
    return re.sub(r"PendingManualApproval \S+ registered", "", re.sub(r"  +", " ", line).strip())


# ---- what goes wrong before anything begins -------------------------------------------------------------------------

VERBS = (("pipeline", "upsert"), ("pipeline", "status"), ("deploy",), ("models", "list", *REGION))


@pytest.mark.parametrize("line", VERBS)
def test_without_a_login_the_remedy_is_to_log_in(account, line, tmp_path):
    nobody = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"))
    nobody.update(AWS_EC2_METADATA_DISABLED="true", AWS_CONFIG_FILE=str(tmp_path / "none"), HOME=str(tmp_path))
    said = program(*line, status=1, **nobody).stderr
    assert "Unable to locate credentials" in said and "aws sso login" in said and "Traceback" not in said


@pytest.mark.parametrize("line", VERBS[:1])
def test_without_a_region_the_remedy_is_to_name_one(account, line, tmp_path):
    nowhere = dict(AWS_DEFAULT_REGION=None, AWS_REGION=None, AWS_CONFIG_FILE=str(tmp_path / "none"))
    assert "--region" in program(*line, status=1, **nowhere).stderr
    assert program(*line, **{**nowhere, "AWS_REGION": "us-east-1"}).stdout, "boto3 alone reads AWS_DEFAULT_REGION only"


@pytest.mark.parametrize("line", VERBS)
def test_without_boto3_the_remedy_is_to_install_it(account, line, tmp_path):
    (tmp_path / "boto3.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", str(REPO))])
    assert "pip install 'skin_lesion_mlops[aws]'" in program(*line, status=1, PYTHONPATH=path).stderr


def test_without_a_platform_the_remedy_is_terraform(account, tmp_path):
    ssm = account.aws.client("ssm")
    known = ssm.get_parameter(Name="/skin-lesion/platform", WithDecryption=True)["Parameter"]["Value"]
    ssm.delete_parameter(Name="/skin-lesion/platform")
    for line in ("pipeline upsert", "pipeline start", "pipeline status", "deploy", "deploy rollback"):
        assert "terraform apply" in verb(line, 1).stderr
    (tmp_path / "platform.json").write_text(known)
    assert "is up to date" in verb(f"pipeline upsert --platform {tmp_path}/platform.json").stdout


def test_an_error_of_aws_is_a_message_unless_it_is_asked_for(account):
    account.aws.client("sagemaker").delete_pipeline(PipelineName="skin-lesion-training", ClientRequestToken="t" * 32)
    assert verb("pipeline start", 1).stderr.startswith("error: AWS: ")
    assert type(CliRunner().invoke(app, ["--debug", "pipeline", "start"]).exception).__module__.startswith("botocore")
