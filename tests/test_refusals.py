"""Each refusal of tests/standin/refusals.py: what this platform once did is refused, what it does is not.

`BEFORE` is how it was, word for word where that is possible; the other side is the plan, the definition or the code.
"""

import copy
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("moto")
from botocore.exceptions import ClientError  # noqa: E402

from skin_lesion_mlops.aws import deploy, remote, upload  # noqa: E402
from skin_lesion_mlops.core import SkinLesionError  # noqa: E402
from skin_lesion_mlops.pipeline.registry import SageMakerRegistry  # noqa: E402
from tests.standin import account as standin_account  # noqa: E402
from tests.standin import pipelines, platform, provider, refusals  # noqa: E402
from tests.test_infra import key_arn, policies, resources  # noqa: E402
from tests.test_retraining import SCHEDULE, make, run  # noqa: E402, F401

INFRA = Path(__file__).resolve().parent.parent / "infra"
ROLE = platform.ROLE.format("sagemaker")
MADE = dict(  # of Terraform, as far as the definition needs it
    roles=dict(sagemaker=ROLE),
    capture_uri="s3://processed/capture",
    endpoint="e",
    pipeline_parameters=dict(
        RawBucket="raw",
        ProcessedBucket="processed",
        ModelsBucket="models",
        TrainingInstanceType="ml.m5.xlarge",
        RoleArn=ROLE,
    ),
)


@pytest.fixture
def account(aws):
    "An empty new account with the three buckets."
    aws.reset()
    for bucket in ("raw", "processed", "models"):
        aws.client("s3").create_bucket(Bucket=bucket)
    aws.client("s3").put_object(Bucket="raw", Key="ham10000/one.jpg", Body=b"image")
    for nothing in ("weights", "classes", "tested"):
        aws.client("s3").put_object(Bucket="models", Key=f"{nothing}/none/empty", Body=b"")
    return aws


def refused(definition, **parameters):
    'Why SageMaker would not run a pipeline, "" when it would.'
    return (refusals.first_refusal(definition, parameters, "run") or dict(reason=""))["reason"]


def definition(**changes):
    "The definition in an account, with some defaults of its own."
    return remote.localised(dict(MADE, pipeline_parameters={**MADE["pipeline_parameters"], **changes}))


def test_every_rule_says_where_aws_says_so():
    sources = [*refusals.RULES.values(), *(n[3] for n in refusals.NEEDED + refusals.IN_A_VPC)]
    sources += [source for _, source in refusals.KEY_USERS.values()]
    assert all(re.search(r"https://\S+|see `\w+`|reference's dependent actions", s) for s in sources)


# ---- S3 -------------------------------------------------------------------------------------------------------------


def bucket_policy(plan, name):
    found = {r["index"]: r["values"]["policy"] for r in resources(plan, "aws_s3_bucket_policy")}
    return json.loads(found[name])


def test_an_upload_that_names_no_encryption_is_taken(account, plans):
    s3, now = account.client("s3"), bucket_policy(plans["minimal"], "raw")
    before = copy.deepcopy(now)
    for s in before["Statement"]:
        if "StringNotEquals" in s["Condition"]:
            s["Condition"] = {"StringNotEqualsIfExists": s["Condition"]["StringNotEquals"]}
    name = min(now["Statement"][0]["Resource"]).split(":::")[1]
    s3.create_bucket(Bucket=name)
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps(before))
    with pytest.raises(ClientError, match=r"AccessDenied.* s3:PutObject on resource: .*\(KmsOnly\)"):
        s3.put_object(Bucket=name, Key="a", Body=b"a")
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps(now))
    ours = dict(ServerSideEncryption="aws:kms", SSEKMSKeyId=key_arn(plans["minimal"]))
    for encryption in ({}, ours):
        s3.put_object(Bucket=name, Key="a", Body=b"a", **encryption)
    for encryption in (dict(ServerSideEncryption="AES256"), dict(ours, SSEKMSKeyId="another")):
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.put_object(Bucket=name, Key="a", Body=b"a", **encryption)
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.create_multipart_upload(Bucket=name, Key="a", ServerSideEncryption="AES256")


@pytest.mark.parametrize(
    "operator, have, holds",
    [
        ("StringNotEqualsIfExists", None, True),
        ("StringNotEquals", None, True),
        ("StringEquals", None, False),
        ("StringEqualsIfExists", None, True),
        ("StringNotEquals", "b", True),
        ("StringNotEquals", "a", False),
        ("StringLike", "a", True),
        ("Null", None, False),
        ("Null", "b", True),
    ],
)
def test_a_condition_on_a_key_that_may_be_absent(operator, have, holds):
    want = "false" if operator == "Null" else "a"
    assert refusals.holds({operator: {"k": want}}, {} if have is None else {"k": have}) is holds


def test_what_jobs_read_is_not_archived(account, plans):
    s3, tier = account.client("s3"), dict(AccessTier="ARCHIVE_ACCESS", Days=180)
    before = dict(Id="archive", Status="Enabled", Tierings=[tier])
    s3.put_bucket_intelligent_tiering_configuration(Bucket="raw", Id="archive", IntelligentTieringConfiguration=before)
    refusals.ages["raw", "ham10000/one.jpg"] = 181
    with pytest.raises(ClientError, match="InvalidObjectState"):
        s3.get_object(Bucket="raw", Key="ham10000/one.jpg")
    provider._tiering.clear()
    assert s3.get_object(Bucket="raw", Key="ham10000/one.jpg")["Body"].read() == b"image"
    assert not resources(plans["hipaa"], "aws_s3_bucket_intelligent_tiering_configuration")


def test_evidence_lives_as_long_as_its_model(plans):
    "Nothing that the registry points to, or that tells of a version, lies where it expires."
    (lifecycle,) = [
        r["values"]["rule"]
        for r in resources(plans["minimal"], "aws_s3_bucket_lifecycle_configuration")
        if r["index"] == "models"
    ]
    expiring = [r["filter"][0]["prefix"] for r in lifecycle if r["expiration"]]
    assert expiring == ["checkpoints/"]
    jobs = {step: job for step, _, job in refusals.jobs(definition(), {}, "r")}
    outputs = {
        o["OutputName"]: o["S3Output"]["S3Uri"]
        for job in (jobs["Preprocess"], jobs["Evaluate"])
        for o in job["ProcessingOutputConfig"]["Outputs"]
    }
    kept = {name for name, uri in outputs.items() if uri.startswith("s3://models/runs/r/")}
    assert kept == {"baseline", "report", "evaluation"}


def test_replicas_have_names_that_s3_takes(plans):
    found = [r["values"]["bucket"] for r in resources(plans["hipaa"], "aws_s3_bucket") if "replica" in r["address"]]
    assert sorted(found) == ["skin-lesion-models-replica-123456789012", "skin-lesion-raw-replica-123456789012"]
    longest = 20 + len("-models-replica-") + 22  # as far as the variables `name` and `bucket_suffix` go
    assert longest <= 63 < 20 + len("-models-artifacts-") + 22 + len("-replica")


# ---- Lambda, Application Auto Scaling -------------------------------------------------------------------------------


def test_a_new_account_reserves_nothing(account, tmp_path, plans):
    account.client("iam").create_role(RoleName="lambda", AssumeRolePolicyDocument="{}")
    platform.function(account, tmp_path, "approve_model", 128, {})
    with pytest.raises(ClientError, match=r"below its minimum value of \[10\]"):
        account.client("lambda").put_function_concurrency(FunctionName="approve_model", ReservedConcurrentExecutions=1)
    for plan in plans.values():
        functions = resources(plan, "aws_lambda_function")
        assert {f["values"]["reserved_concurrent_executions"] for f in functions} == {-1}
    standin_account.settings["concurrency"] = 1000
    account.client("lambda").put_function_concurrency(FunctionName="approve_model", ReservedConcurrentExecutions=1)


def test_the_fleet_has_one_owner(account, plans):
    "The deployment registers it, again and again; who comes after it with tags, as Terraform did, is refused."
    scaling, watch = account.client("application-autoscaling"), account.client("cloudwatch")
    settings = deploy.EndpointSettings(ROLE, "s3://processed/capture", endpoint="e")
    for _ in range(2):
        deploy.autoscale(scaling, watch, settings)
    target = dict(
        ServiceNamespace="sagemaker",
        ResourceId=f"endpoint/e/variant/{deploy.VARIANT}",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
    )
    with pytest.raises(ClientError, match="already exists"):
        scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=5, Tags=dict(Project="skin-lesion"))
    assert not any(r["type"].startswith("aws_appautoscaling") for plan in plans.values() for r in resources(plan))


# ---- SageMaker's jobs -----------------------------------------------------------------------------------------------


def test_an_input_channel_holds_an_object(account):
    assert not refused(definition())
    account.client("s3").delete_object(Bucket="models", Key="weights/none/empty")
    said = refused(definition())
    assert "CreateTrainingJob" in said and 'No S3 objects found under S3 URL "s3://models/weights/none"' in said
    made = storage().partition('resource "aws_s3_object" "none"')[2]
    assert made.count("/none/empty") == 1 and "weights" in made.split("}")[0]


def storage():
    return (INFRA / "modules" / "storage" / "main.tf").read_text()


def test_a_machine_without_a_quota_is_named_at_once(make):  # noqa: F811
    "The mission's GPU in a new account: one message, with the name of the quota, and no waiting for it."
    p = make(definition(TrainingInstanceType="ml.p3.2xlarge"))
    p.upload(4)
    quota = "ml.p3.2xlarge for spot training job usage"
    run(p, outcome="pipeline-failed", status="FAILED", says="in step Train: ClientError: Failed to invoke")
    p.seen.clear()
    _, change = run(
        p, outcome="pipeline-failed", status="FAILED", says=f"The account-level service limit '{quota}' is 0"
    )
    policies = [r for s in definition()["Steps"] for r in s.get("RetryPolicies", [])]
    assert len(policies) == 6 and "RESOURCE_LIMIT" not in json.dumps(policies)
    standin_account.quotas[quota] = 1
    p.seen.clear()
    run(p, outcome="awaiting-approval")


def test_a_local_disk_takes_no_key_of_ours(account):
    with_key = definition(TrainingInstanceType="ml.g5.xlarge")
    assert "VolumeKmsKeyId is not supported" in refused(with_key)
    here = dict(MADE["pipeline_parameters"], TrainingInstanceType="ml.g5.xlarge")
    now = remote.localised(dict(MADE, pipeline_parameters=here, volume_keys=dict(Training=False, Processing=True)))
    assert not refused(now)
    keys = {s["Name"]: "VolumeKmsKeyId" in json.dumps(s["Arguments"]) for s in now["Steps"]}
    assert keys == dict(Preprocess=True, Train=False, Evaluate=True, Gate=False)


@pytest.mark.parametrize(
    "family, has", [("g4dn", 1), ("g5", 1), ("g6", 1), ("m5d", 1), ("m5", 0), ("p3", 0), ("c6i", 0)]
)
def test_terraform_knows_the_machines_with_disks_of_their_own(family, has):
    pattern = re.search(r'own_disk += "(.*)"', (INFRA / "main.tf").read_text())[1].replace("\\\\", "\\")
    assert (
        bool(re.search(pattern, f"ml.{family}.xlarge"))
        == bool(refusals.LOCAL.match(f"ml.{family}.xlarge"))
        == bool(has)
    )


def test_an_isolated_job_finds_its_weights_in_the_image(account):
    private = dict(MADE, subnets=["subnet-1"], security_groups=["sg-1"])
    assert not refused(remote.localised(private)), "the defaults of examples/hipaa.tfvars"
    (train,) = [job for step, _, job in refusals.jobs(remote.localised(private), {}, "r") if step == "Train"]
    assert train["EnableNetworkIsolation"] and train["HyperParameters"]["weights"] == "imagenet"
    before = "FROM base\nENTRYPOINT []\n"
    with pytest.raises(refusals.Refused, match="ImageNet weights of resnet50"):
        refusals.with_what_it_needs("Training", train, before)
    assert "ImageNet weights of efficientnet_b0" in refused(remote.localised(private), Arch="efficientnet_b0")


def test_weights_in_the_image_need_no_network(tmp_path, monkeypatch):
    "Where the Dockerfile puts them, the library finds them; elsewhere it would have to download."
    torch = pytest.importorskip("torch")
    from skin_lesion_mlops.model.networks import _torchvision_models, imagenet_weights

    def nobody(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", nobody)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(SkinLesionError, match="cannot download the ImageNet weights of resnet50"):
        imagenet_weights("resnet50")
    file = _torchvision_models().get_model_weights("resnet50").DEFAULT.url.rpartition("/")[2]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True, exist_ok=True)
    torch.save(dict(x=torch.zeros(1)), tmp_path / "hub" / "checkpoints" / file)
    assert set(imagenet_weights("resnet50")[0]) == {"x"}
    text = (INFRA / "images" / "training" / "Dockerfile").read_text()
    assert text.index("ENV TORCH_HOME=") < text.index("imagenet_weights") and "${ARCHS}" in text


def test_a_monitor_of_its_own_is_held_to_the_same(account, plans):
    "The job that the scheduler starts, as Terraform writes it."
    (schedule,) = [s for s in resources(plans["minimal"], "aws_scheduler_schedule") if s["index"] == "bias"]
    job = json.loads(schedule["values"]["target"][0]["input"].replace("<aws.scheduler.execution-id>", "1"))
    sm = account.client("sagemaker")
    sm.create_processing_job(**job)
    assert job["Tags"] == [dict(Key="Project", Value="skin-lesion")]
    assert schedule["values"]["state"] == "DISABLED", "before there is an endpoint every run fails"
    machine = job["ProcessingResources"]["ClusterConfig"]
    for wrong, code in (
        (dict(InstanceType="ml.g5.xlarge"), "VolumeKmsKeyId"),
        (dict(InstanceCount=9), "LimitExceeded"),
    ):
        job["ProcessingResources"]["ClusterConfig"] = {**machine, **wrong}
        with pytest.raises(ClientError, match=code):
            sm.create_processing_job(**job)


# ---- The cache ------------------------------------------------------------------------------------------------------


def test_a_retraining_after_an_upload_sees_the_new_images(make):  # noqa: F811
    "And is the last that has to: the next one counts from there."
    p = make(definition(), APPROVAL_MODE="automatic")
    for name, completed in (("one", ""), ("two", "2999-01-01T00:00:00Z")):
        p.upload(4, name, completed)
        _, change = run(p, outcome="deployed")
        p.seen.clear()
        registry = SageMakerRegistry(p.aws.client("sagemaker"), p.aws.client("s3"))
        package = registry.describe("skin-lesion-models", change["evaluation"]["version"])
        read = package["ModelMetrics"]["ModelDataQuality"]["Statistics"]["S3Uri"].split("/")[4]
        assert read == change["pipeline"]["PipelineExecutionArn"].split("/")[-1], "the images of an earlier run"


def test_without_a_data_version_it_saw_the_old_ones():
    before = copy.deepcopy(definition())
    for s in before["Steps"]:
        s["Arguments"].pop("Environment", None)
    for d, sees in ((before, "first"), (definition(), "second")):
        refusals.reset()
        assert refusals.ran_before(d, dict(DataVersion="a"), "first", "Preprocess") == "first"
        assert refusals.ran_before(d, dict(DataVersion="b"), "second", "Preprocess") == sees
        assert refusals.ran_before(d, dict(DataVersion="a"), "third", "Preprocess") == "first", "nothing was uploaded"


def test_the_command_and_the_function_name_the_data_alike(account, make):  # noqa: F811
    p = make()
    p.upload(4)
    ended = p.start(SCHEDULE)
    given = {x["Name"]: x["Value"] for x in json.loads(ended["output"])["data"]["parameters"]}
    assert given["DataVersion"] == upload.data_version(upload.read_manifest(p.aws.client("s3"), "raw", "ham10000"))


# ---- Policies -------------------------------------------------------------------------------------------------------

PLACE = "us-east-1:123456789012"
GROUP = f"arn:aws:sagemaker:{PLACE}:model-package-group/skin-lesion-models"
BEFORE = {  # statement that was -> what is wrong with it
    ("sagemaker:ListModelPackages", GROUP): "model-package",
    ("sagemaker:CreateModel", GROUP): "model",
    ("s3:ListBucket", "arn:aws:s3:::bucket/*"): "accesspoint, bucket",
    ("sagemaker:CreateEndpoint", f"arn:aws:sagemaker:{PLACE}:endpoint/e"): "endpoint-config",
    ("ecr:GetAuthorizationToken", f"arn:aws:ecr:{PLACE}:repository/r"): "*",
}


@pytest.mark.parametrize("before", BEFORE, ids=lambda b: b[0])
def test_an_action_is_allowed_on_what_it_knows(before):
    action, resource = before
    (said,) = refusals.mismatches(dict(Statement=[dict(Effect="Allow", Action=action, Resource=resource)]))
    assert f"{action} is not on {BEFORE[before]}" in said


def test_every_action_is_allowed_on_what_it_knows(plans):
    rendered = {f"{example} {k}": p for example, plan in plans.items() for k, p in policies(plan).items()}
    wrong = {k: found for k, p in rendered.items() if (found := refusals.mismatches(p))}
    assert len(rendered) > 26 and not wrong


def roles(plan):
    "Role -> its policies, by the names that `refusals.NEEDED` uses."
    found = {}
    for address, policy in policies(plan).items():
        name = re.search(r'"(\w+)"|(\w+)$', address)
        found.setdefault(name[1] or name[2], []).append(policy)
    return found


def test_what_a_service_does_in_a_roles_name_is_allowed(plans):
    assert not refusals.missing(roles(plans["minimal"]))
    assert not refusals.missing(roles(plans["hipaa"]), refusals.NEEDED + refusals.IN_A_VPC)


@pytest.mark.parametrize("role", ["sagemaker", "deploy_model"])
def test_as_it_was_a_service_could_not(plans, role):
    "Without what was added, each need is named: role, action, resource and where AWS says so."
    added = ("DescribeAlarms", "UpdateEndpointWeightsAndCapacities", "DeleteAlarms", "AddTags")
    before = copy.deepcopy(roles(plans["minimal"]))
    for policy in before[role]:
        for s in policy["Statement"]:
            s["Action"] = [a for a in refusals.as_list(s["Action"]) if not a.endswith(added)]
    said = "\n".join(refusals.missing(before))
    for needed, actions, _, source in refusals.NEEDED:
        for action in actions if needed == role else ():
            assert (f"{role}: {action} on " in said and source in said) == action.endswith(added), action


def test_services_that_use_the_key_are_let(plans):
    (key,) = [r["values"] for r in resources(plans["minimal"], "aws_kms_key") if r["address"].startswith("module.keys")]
    now = json.loads(key["policy"])
    assert not refusals.key_lacks(now)
    before = dict(Statement=[s for s in now["Statement"] if s["Sid"] != "LogDelivery"])
    (said,) = refusals.key_lacks(before)
    assert said.startswith("delivery.logs.amazonaws.com: kms:Decrypt (https://")


# ---- Tags, alarms, images, the firewall -----------------------------------------------------------------------------


def test_one_tag_key_has_one_spelling(account, plans):
    "Everything that is created says to whose cost it goes, in one spelling."
    before = [dict(project="skin-lesion"), dict(Project="skin-lesion", Environment="dev")]
    assert refusals.misspelt(*before) == ["Project and project"]
    found = [t for r in resources(plans["hipaa"]) if (t := r.get("values", {}).get("tags_all"))]
    jobs = [{t["Key"]: t["Value"] for t in job["Tags"]} for _, _, job in refusals.jobs(definition(), {}, "r")]
    package = dict(ModelPackageArn="arn:package", ModelApprovalStatus="Approved", ModelPackageVersion=1)
    sm = type("", (), dict(describe_model_package=lambda self, **_: package))()
    planned = deploy.plan(sm, "arn:package", deploy.EndpointSettings("arn:role", "s3://c", project="clinic"))
    assert planned.tags == [dict(Key="Project", Value="clinic")]
    assert len(found) > 60 and len(jobs) == 3 and not refusals.misspelt(*found, *jobs)
    assert {t["Project"] for t in found + jobs} == {"skin-lesion"}


def test_a_deployment_tags_the_three_that_it_creates(account):
    sm = account.client("sagemaker")
    sm.create_model_package_group(ModelPackageGroupName="skin-lesion-models")
    arn = pipelines._register("skin-lesion-models", "s3://models/runs/r/evaluation/evaluation.json")
    new = deploy.plan(sm, arn, deploy.EndpointSettings(ROLE, "s3://c", project="clinic"), check=False)
    deploy.start(sm, new)
    found = [
        sm.describe_model(ModelName=new.model["ModelName"])["ModelArn"],
        sm.describe_endpoint_config(EndpointConfigName=new.config["EndpointConfigName"])["EndpointConfigArn"],
        sm.describe_endpoint(EndpointName=new.endpoint)["EndpointArn"],
    ]
    assert [sm.list_tags(ResourceArn=a)["Tags"] for a in found] == [[dict(Key="Project", Value="clinic")]] * 3


def test_a_rollback_alarm_goes_off_while_the_canary_is_watched(plans):
    alarms = {
        r["values"]["alarm_name"]: r["values"] for r in resources(plans["minimal"], "aws_cloudwatch_metric_alarm")
    }
    names = re.findall(r'"\$\{var\.name\}(-rollback-\w+)"', (INFRA / "main.tf").read_text())
    watched = deploy.EndpointSettings("arn:role", "s3://c").canary_seconds
    assert sorted(names) == ["-rollback-errors", "-rollback-latency"]
    for name in names:
        alarm = alarms[f"skin-lesion{name}"]
        assert alarm["period"] * alarm["evaluation_periods"] < watched / 2, name
    before = alarms["skin-lesion-latency-p95"]
    assert before["period"] * before["evaluation_periods"] > watched


def test_an_image_that_may_serve_is_not_expired(plans):
    found = resources(plans["minimal"], "aws_ecr_lifecycle_policy")
    assert sorted(r["index"] for r in found) == ["inference", "processing", "training"]
    for r in found:
        selections = [rule["selection"] for rule in json.loads(r["values"]["policy"])["rules"]]
        assert {s["tagStatus"] for s in selections} == {"untagged"}, r["address"]


def test_a_photograph_passes_the_firewall(plans):
    "Every managed rule that reads bodies counts; the rest of each group blocks."
    (acl,) = resources(plans["hipaa"], "aws_wafv2_web_acl")
    counted = {}
    for rule in acl["values"]["rule"]:
        for group in rule["statement"][0]["managed_rule_group_statement"] or ():
            overrides = {o["name"]: bool(o["action_to_use"][0]["count"]) for o in group["rule_action_override"]}
            counted[group["name"]] = {n for n, counts in overrides.items() if counts}
    assert counted == BODY_RULES


BODY_RULES = {  # AWS WAF guide, "AWS Managed Rules rule groups list"
    "AWSManagedRulesCommonRuleSet": {
        *("SizeRestrictions_BODY", "CrossSiteScripting_BODY", "EC2MetaDataSSRF_BODY"),
        *("GenericLFI_BODY", "GenericRFI_BODY"),
    },
    "AWSManagedRulesKnownBadInputsRuleSet": {"JavaDeserializationRCE_BODY", "Log4JRCE_BODY"},
}


def test_the_logs_of_jobs_and_endpoint_are_ours(plans):
    groups = {r["values"]["name"]: r["values"] for r in resources(plans["hipaa"], "aws_cloudwatch_log_group")}
    for name in ("ProcessingJobs", "TrainingJobs", "Endpoints/skin-lesion-endpoint"):
        found = groups[f"/aws/sagemaker/{name}"]
        assert found["retention_in_days"] == 2192 and found["kms_key_id"] == key_arn(plans["hipaa"])


def test_the_provider_is_locked_for_every_platform():
    for root in (INFRA, INFRA / "bootstrap"):
        text = (root / ".terraform.lock.hcl").read_text()
        assert len(set(re.findall(r'"zh:([0-9a-f]{64})"', text))) == 15, "the zips of 14 platforms, and their manifest"


def test_preprocessing_runs_in_the_container_of_preprocessing(plans):
    (made,) = resources(plans["minimal"], "aws_sagemaker_pipeline")
    images = {
        p["Name"]: p["DefaultValue"]
        for p in json.loads(made["values"]["pipeline_definition"])["Parameters"]
        if p["Name"].endswith("Image")
    }
    assert {k: v.split("/")[1].split(":")[0] for k, v in images.items()} == dict(
        ProcessingImage="skin-lesion-processing",
        TrainingImage="skin-lesion-training",
        InferenceImage="skin-lesion-inference",
    )
