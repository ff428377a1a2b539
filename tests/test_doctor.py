"""`skin-lesion doctor` in an account that runs on this machine: in a sound one every line is ok, each fault is named.

A fault is planted alone; so a sound account with one fault has one line that is not ok.
"""

import functools
import json
import re
from dataclasses import asdict

import pytest

pytest.importorskip("moto")
from typer.testing import CliRunner  # noqa: E402

from skin_lesion_mlops.aws import doctor  # noqa: E402
from skin_lesion_mlops.cli.app import app  # noqa: E402
from skin_lesion_mlops.cli.aws import find_platform  # noqa: E402
from tests.standin import account as answers  # noqa: E402
from tests.standin import faults, sagemaker  # noqa: E402

ACCOUNT, STATE = "123456789012", "skin-lesion-terraform-state-123456789012"
HOST = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"
ALARMS = ["skin-lesion-endpoint-errors", "skin-lesion-latency-p95"]
RULE = dict(Namespace="AWS/SageMaker", MetricName="ModelLatency", Statistic="Sum", Period=60, EvaluationPeriods=1)
RULE.update(Threshold=1.0, ComparisonOperator="GreaterThanThreshold")
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
SPOT, ENDPOINT = "ml.g5.xlarge for spot training job usage", "ml.m5.xlarge for endpoint usage"
USERS = [s.format(region="us-east-1") for s in doctor.KEY_USERS]


def policy(users: list[str]) -> str:
    "A key's policy."
    each = [dict(Effect="Allow", Principal=dict(Service=u), Action="kms:Decrypt", Resource="*") for u in users]
    root = dict(Effect="Allow", Principal=dict(AWS=f"arn:aws:iam::{ACCOUNT}:root"), Action="kms:*", Resource="*")
    return json.dumps(dict(Version="2012-10-17", Statement=[root, *each]))


@pytest.fixture
def sound(aws):
    "Everything in order: quotas granted, images pushed and uploaded, mail confirmed, a model that serves."
    aws.reset()
    answers.cost_tags["Project"], answers.settings["concurrency"] = "Active", 1000
    answers.confirmed.add("team@example.com")
    s3, sns, ecr, cloudwatch, sm = (aws.client(s) for s in ("s3", "sns", "ecr", "cloudwatch", "sagemaker"))
    nothing = [("models", f"{k}/none/empty") for k in ("weights", "classes", "tested")]
    for bucket, key in (("raw", "ham10000/a.jpg"), *nothing, (STATE, "platform.tfstate")):
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key=key, Body=b"1")
    for use in ("training", "inference"):
        ecr.create_repository(repositoryName=f"skin-lesion-{use}")
        manifest = dict(schemaVersion=2, mediaType=MANIFEST, config=dict(digest=f"sha256:{use}"), layers=[])
        ecr.put_image(repositoryName=f"skin-lesion-{use}", imageTag="1", imageManifest=json.dumps(manifest))
    topic = sns.create_topic(Name="skin-lesion-alerts")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="email", Endpoint="team@example.com")
    for name in ALARMS:
        cloudwatch.put_metric_alarm(AlarmName=name, **RULE)
        cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="quiet")
    key = aws.client("kms").create_key(Policy=policy(USERS))["KeyMetadata"]["Arn"]
    serve(sm)
    known = dict(
        region="us-east-1",
        account_id=ACCOUNT,
        buckets=dict(raw="raw", processed="processed", models="models"),
        endpoint="skin-lesion-endpoint",
        images={use: f"{HOST}/skin-lesion-{use}:1" for use in ("training", "inference")},
        kms_key=key,
        model_package_group="skin-lesion-models",
        pipeline_parameters=dict(RawBucket="raw", ModelsBucket="models", TrainingInstanceType="ml.g5.xlarge"),
        rollback_alarms=ALARMS,
        topic=topic,
    )
    aws.client("ssm").put_parameter(Name="/skin-lesion/platform", Value=json.dumps(known), Type="SecureString")
    return aws, known


def serve(sm) -> None:
    "An endpoint, of anything."
    container = dict(Image=f"{HOST}/skin-lesion-inference:1", ModelDataUrl="s3://models/model.tar.gz")
    sm.create_model(ModelName="m", PrimaryContainer=container, ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/r")
    variant = dict(VariantName="AllTraffic", ModelName="m", InstanceType="ml.m5.xlarge", InitialInstanceCount=2)
    sm.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sm.create_endpoint(EndpointName="skin-lesion-endpoint", EndpointConfigName="c")


@functools.lru_cache
def client(service: str):
    "One client of each service is enough for all the tests."
    return faults.client(service, "operator")


def report(status: int = 0) -> list[dict]:
    "What is found in the account; an error where there should be one."
    found = list(doctor.examine(client, lambda: find_platform(client)))
    assert (doctor.worst(found) == "error") is bool(status), found
    return [asdict(f) for f in found]


# fault -> how it is planted, state of its line, what the line names, what its remedy is
PLANTED = {
    "no quota for training": (
        lambda aws, k: answers.quotas.update({SPOT: 0.0}),
        ("error", SPOT, "0, and 1 are used at once", "request-service-quota-increase"),
    ),
    "no room for an update of the endpoint": (
        lambda aws, k: answers.quotas.update({ENDPOINT: 2.0}),
        ("warning", ENDPOINT, "2, and 4 are used at once", "--desired-value 4"),
    ),
    "an instance type of another region": (
        lambda aws, k: answers.quotas.pop(SPOT),
        ("error", SPOT, "no such quota", "choose an instance type"),
    ),
    "the functions of a new account": (
        lambda aws, k: answers.settings.update(concurrency=10),
        ("warning", "Lambda concurrency", "10: ", "--quota-code L-B99A9384"),
    ),
    "an image that nobody pushed": (
        lambda aws, k: aws.client("ecr").batch_delete_image(
            repositoryName="skin-lesion-inference", imageIds=[dict(imageTag="1")]
        ),
        ("error", "image inference", "skin-lesion-inference:1 is not in ECR", "docker push"),
    ),
    "no repository": (
        lambda aws, k: aws.client("ecr").delete_repository(repositoryName="skin-lesion-training", force=True),
        ("error", "image training", "skin-lesion-training:1 is not in ECR", "docker push"),
    ),
    "no image uploaded": (
        lambda aws, k: aws.client("s3").delete_object(Bucket="raw", Key="ham10000/a.jpg"),
        ("error", "input Preprocess raw", "no object under s3://raw/ham10000", "skin-lesion data upload"),
    ),
    "an empty channel of weights": (
        lambda aws, k: aws.client("s3").delete_object(Bucket="models", Key="weights/none/empty"),
        ("error", "input Train weights", "no object under s3://models/weights/none", "aws s3 cp"),
    ),
    "a tag that is not activated": (
        lambda aws, k: answers.cost_tags.update(Project="Inactive"),
        ("error", "cost tag Project", "the budget counts nothing", "update-cost-allocation-tags-status"),
    ),
    "a tag that AWS has not seen": (
        lambda aws, k: answers.cost_tags.clear(),
        ("warning", "cost tag Project", "has not seen it yet", "tomorrow"),
    ),
    "a mail that nobody confirmed": (
        lambda aws, k: answers.confirmed.clear(),
        ("error", "alerts to team@example.com", "not confirmed", "aws sns subscribe"),
    ),
    "nobody subscribed": (
        lambda aws, k: [
            aws.client("sns").unsubscribe(SubscriptionArn=s["SubscriptionArn"])
            for s in aws.client("sns").list_subscriptions_by_topic(TopicArn=k["topic"])["Subscriptions"]
        ],
        ("warning", "alerts", "nobody has subscribed", "alert_emails"),
    ),
    "a key that is to be deleted": (
        lambda aws, k: aws.client("kms").schedule_key_deletion(KeyId=k["kms_key"].rpartition("/")[2]),
        ("error", "key", "PendingDeletion", "cancel-key-deletion"),
    ),
    "a key that alarms may not use": (
        lambda aws, k: aws.client("kms").put_key_policy(
            KeyId=k["kms_key"], PolicyName="default", Policy=policy([u for u in USERS if "cloudwatch" not in u])
        ),
        ("error", "key", "leaves out cloudwatch.amazonaws.com (alarms to the topic)", "terraform apply"),
    ),
    "no endpoint": (
        lambda aws, k: aws.client("sagemaker").delete_endpoint(EndpointName="skin-lesion-endpoint"),
        ("warning", "endpoint", "there is no skin-lesion-endpoint", "skin-lesion deploy"),
    ),
    "an endpoint that failed": (
        lambda aws, k: sagemaker.hold("skin-lesion-endpoint", "Failed"),
        ("error", "endpoint", "is Failed", "delete-endpoint"),
    ),
    "a missing alarm": (
        lambda aws, k: aws.client("cloudwatch").delete_alarms(AlarmNames=ALARMS[1:]),
        ("error", "alarm skin-lesion-latency-p95", "is missing", "terraform apply"),
    ),
    "an alarm that is off": (
        lambda aws, k: aws.client("cloudwatch").set_alarm_state(
            AlarmName=ALARMS[0], StateValue="ALARM", StateReason="11 errors"
        ),
        ("warning", "alarm skin-lesion-endpoint-errors", "11 errors", "describe-alarm-history"),
    ),
    "a state on somebody's machine": (
        lambda aws, k: aws.client("s3").delete_object(Bucket=STATE, Key="platform.tfstate"),
        ("warning", "Terraform state", f"no s3://{STATE}/platform.tfstate", "terraform init"),
    ),
    "a state that is locked": (
        lambda aws, k: aws.client("s3").put_object(Bucket=STATE, Key="platform.tfstate.tflock", Body=b"{}"),
        ("warning", "Terraform state", "is locked since", "force-unlock"),
    ),
}


def test_a_sound_account_is_ok_throughout(sound):
    found = report()
    assert [f for f in found if f["state"] != "ok"] == []
    assert len(found) >= 13 and not any(f["remedy"] for f in found)


@pytest.mark.parametrize("fault", PLANTED)
def test_a_fault_is_named_with_what_mends_it(sound, fault):
    plant, (state, what, says, remedy) = PLANTED[fault]
    plant(*sound)
    (bad,) = [f for f in report(int(state == "error")) if f["state"] != "ok"]
    assert (bad["state"], bad["what"]) == (state, what)
    assert says in bad["says"] and remedy in bad["remedy"], bad


def test_every_check_has_a_fault_here():
    "Each line of a sound report can go wrong."
    named = " ".join(what for _, (_, what, *_) in PLANTED.values())
    for check in (*doctor.OF_THE_ACCOUNT, *doctor.OF_THE_PLATFORM):
        about = check.__name__.removeprefix("check_").rstrip("s")
        known = dict(quota="usage", function="Lambda", cost_tag="cost tag", channel="input", subscription="alerts")
        assert known.get(about, about) in named, check.__name__


def test_the_keys_users_are_those_of_its_policy(repo):
    text = (repo / "infra" / "modules" / "keys" / "main.tf").read_text()
    found = {s.replace("${local.region}", "{region}") for s in re.findall(r'"([a-z.${}_]+\.amazonaws\.com)"', text)}
    assert found == set(doctor.KEY_USERS)


def test_a_remedy_is_a_command_that_works(sound):
    "The tag's, as it is typed."
    answers.cost_tags["Project"] = "Inactive"
    (bad,) = [f for f in report(1) if f["state"] != "ok"]
    given = bad["remedy"].partition("--cost-allocation-tags-status ")[2]
    tag = dict(pair.split("=") for pair in given.split(","))
    sound[0].client("ce").update_cost_allocation_tags_status(CostAllocationTagsStatus=[tag])
    assert report()


def test_before_the_platform_there_is_only_the_account(sound):
    sound[0].client("ssm").delete_parameter(Name="/skin-lesion/platform")
    found = report(1)
    assert [(f["what"], f["state"]) for f in found][:1] == [("platform", "error")]
    assert "terraform apply" in found[0]["remedy"] and any("p3" in f["what"] for f in found)
    assert not [f for f in found if f["what"].startswith(("image", "key", "input"))]


def test_a_denied_call_is_one_line_that_names_it(sound, monkeypatch):
    from botocore.exceptions import ClientError

    class Denied:
        def list_cost_allocation_tags(self, **given):
            raise ClientError(dict(Error=dict(Code="AccessDeniedException")), "ListCostAllocationTags")

    found = doctor.examine(lambda s: Denied() if s == "ce" else faults.client(s, "operator"), lambda: sound[1])
    (bad,) = [f for f in found if f.state != "ok"]
    assert (bad.what, bad.state) == ("cost tag", "warning")
    assert "ListCostAllocationTags is refused (AccessDeniedException)" in bad.says


def test_a_person_and_a_script_read_the_same_lines(sound):
    line = ["doctor", "--region", "us-east-1", "--port", "0"]
    assert CliRunner().invoke(app, line).exit_code == 0
    answers.cost_tags["Project"] = "Inactive"
    told = CliRunner().invoke(app, [*line, "--json"])
    found = json.loads(told.stdout)
    assert told.exit_code == 1 and found["state"] == "error" and found["findings"][-len(report(1)) :] == report(1)
    done = CliRunner().invoke(app, line)
    lines = done.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("error   cost tag Project: is not activated"))
    assert done.exit_code == 1 and lines[at + 1].strip().startswith("-> aws ce update-cost-allocation-tags-status")


def test_without_a_region_it_asks_no_account(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    done = CliRunner().invoke(app, ["doctor", "--port", "0"])
    assert done.exit_code == 0 and "platform" not in done.stdout and "ok      Python" in done.stdout
