"What Terraform would make, held against what AWS and our own code really publish, send and accept."

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from skin_lesion_mlops.aws import cost, watch
from skin_lesion_mlops.aws.watch import DEFAULT_NAMESPACE
from skin_lesion_mlops.evaluation import gate as evaluate
from skin_lesion_mlops.monitor.captures import CLOUDWATCH_METRICS, DIMENSION
from skin_lesion_mlops.pipeline.definition import PARAMETERS

REPO = Path(__file__).resolve().parent.parent
INFRA = REPO / "infra"
EVENTS = Path(__file__).parent / "events"
MODULES = sorted(p.name for p in (INFRA / "modules").iterdir())

pytest.importorskip("moto.server", reason="moto[server] is not installed: pip install -e '.[dev]'")
from tests import sandbox  # noqa: E402
from tests.standin import pipelines, server  # noqa: E402
from tests.standin.terraform import EXAMPLES, Refused, Root  # noqa: E402


def modules(node: dict):
    "A module of a plan, then those inside it."
    yield node
    for child in node.get("child_modules", []):
        yield from modules(child)


def resources(plan: dict, kind: str = "") -> list[dict]:
    "Planned resources, of one type or all."
    found = [r for m in modules(plan["planned_values"]["root_module"]) for r in m.get("resources", [])]
    return [r for r in found if r["mode"] == "managed" and kind in ("", r["type"])]


def key_arn(plan: dict) -> str:
    "Our key."
    return next(
        r["values"]["arn"] for r in resources(plan, "aws_kms_key") if r["address"] == "module.keys.aws_kms_key.this"
    )


@pytest.fixture(params=EXAMPLES)
def plan(plans, request) -> dict:
    "Each example in turn."
    return plans[request.param]


# ---- Alarms: namespace, metric, dimensions, unit, threshold

ENDPOINT = {"EndpointName", "VariantName"}
# (namespace, metric) -> dimensions and unit it is published with: the user guides, our monitors
PUBLISHED = {
    ("AWS/SageMaker", "Invocation5XXErrors"): (ENDPOINT, "None"),
    ("AWS/SageMaker", "ModelLatency"): (ENDPOINT, "Microseconds"),
    ("AWS/SageMaker", "InvocationsPerInstance"): (ENDPOINT, "None"),
    ("AWS/Events", "TriggeredRules"): ({"RuleName"}, "Count"),
}
PUBLISHED.update({(DEFAULT_NAMESPACE, name): ({DIMENSION}, unit) for name, unit in CLOUDWATCH_METRICS.items()})
LIMITS = {  # five of the mission's six alarms: threshold in the metric's own unit, statistic, who is told
    "endpoint-errors": (10, "Sum", True),
    "latency-p95": (1_000_000, "p95", True),
    "training-failed": (0, "Sum", True),
    "data-drift": (0, "Maximum", False),
    "accuracy-drop": (0.05, "Maximum", False),
}
PATIENTS = {"sensitivity-drop": (0.05, "Maximum", True), "bias": (0, "Maximum", True)}  # ours, beside them
RETRAIN = ("data-drift", "accuracy-drop", *PATIENTS)


def test_alarms_watch_what_is_published(plan):
    alarms = resources(plan, "aws_cloudwatch_metric_alarm")
    assert len(alarms) >= len(LIMITS)
    for alarm in (a["values"] for a in alarms):
        dimensions, unit = PUBLISHED[alarm["namespace"], alarm["metric_name"]]
        assert set(alarm["dimensions"]) == dimensions, alarm["alarm_name"]
        assert alarm["unit"] in (None, "", unit), alarm["alarm_name"]
        assert alarm["comparison_operator"] == "GreaterThanThreshold"


def test_alarm_limits(plan):
    alarms = {a["index"]: a["values"] for a in resources(plan, "aws_cloudwatch_metric_alarm")}
    assert set(alarms) >= set(LIMITS | PATIENTS)
    for name, (threshold, statistic, told) in (LIMITS | PATIENTS).items():
        alarm = alarms[name]
        assert alarm["threshold"] == threshold, name
        assert (alarm["statistic"] or alarm["extended_statistic"]) == statistic, name
        if not told:
            assert not alarm["alarm_actions"], f"{name} goes to EventBridge"
        elif "alarm_actions" in alarm:
            assert alarm["alarm_actions"], f"{name} tells people"
    assert alarms["endpoint-errors"]["period"] == 3600


def test_alarms_name_the_same_endpoint_and_rule(plan):
    alarms = {a["index"]: a["values"] for a in resources(plan, "aws_cloudwatch_metric_alarm")}
    platform = "skin-lesion-endpoint"
    assert {a["dimensions"].get("EndpointName", platform) for a in alarms.values()} == {platform}
    rules = {r["values"]["name"] for r in resources(plan, "aws_cloudwatch_event_rule")}
    assert alarms["training-failed"]["dimensions"]["RuleName"] in rules


def test_sixth_alarm_is_the_budget(plan):
    (budget,) = resources(plan, "aws_budgets_budget")
    assert float(budget["values"]["limit_amount"]) == 500
    assert budget["values"]["cost_filter"][0]["values"] == ["user:Project$skin-lesion"]


# ---- Event patterns against AWS's events

MATCHES = {
    "skin-lesion-retraining-drift": {"alarm_drift", "alarm_accuracy_drop", "alarm_sensitivity_drop", "alarm_bias"},
    "skin-lesion-retraining-manual": {"retraining_requested"},
    "skin-lesion-retraining-registry": {"model_package_approved"},
    "skin-lesion-training-failed": {"training_job_failed"},
}


def test_event_patterns_match_real_events_and_no_others(plan):
    from moto.events.models import EventPattern

    alarms = {
        a["values"]["alarm_name"]: f"arn:aws:cloudwatch:us-east-1:123456789012:alarm:{a['values']['alarm_name']}"
        for a in resources(plan, "aws_cloudwatch_metric_alarm")
    }
    fixtures = {p.stem: json.loads(p.read_text()) for p in EVENTS.glob("*.json")}
    events = {k: e for k, e in fixtures.items() if "detail-type" in e}
    rules = {r["values"]["name"]: r["values"] for r in resources(plan, "aws_cloudwatch_event_rule")}
    for name, expected in MATCHES.items():
        text = rules[name].get("event_pattern") or json.dumps(  # alarm ARNs are known after apply
            dict(
                source=["aws.cloudwatch"],
                resources=[alarms[f"skin-lesion-{name}"] for name in RETRAIN],
                detail=dict(state=dict(value=["ALARM"])),
            )
        )
        pattern = EventPattern.load(text)
        assert {k for k, e in events.items() if pattern.matches_event(e)} == expected, name


def test_schedules(plan):
    rules = {r["values"]["name"]: r["values"] for r in resources(plan, "aws_cloudwatch_event_rule")}
    assert rules["skin-lesion-retraining-schedule"]["schedule_expression"] == "rate(30 days)"
    monitors = {s["index"]: s["values"] for s in resources(plan, "aws_scheduler_schedule")}
    assert {k: m["schedule_expression"] for k, m in monitors.items()} == {
        "data-quality": "rate(1 hour)",
        "model-quality": "rate(6 hours)",
        "bias": "rate(1 day)",
    }


def test_monitor_jobs_start_monitors_and_the_dashboard_shows_what_they_publish(plan, monkeypatch):
    started = []
    monkeypatch.setattr(watch, "watch", lambda *given: started.append(given))
    for schedule in resources(plan, "aws_scheduler_schedule"):
        text = schedule["values"]["target"][0].get("input")
        if text is None:
            continue  # known after apply: the VPC's subnets
        job = json.loads(text)
        app = job["AppSpecification"]
        assert app["ContainerEntrypoint"][1:] == ["-m", watch.__name__]
        monkeypatch.setenv(watch.NAMESPACE, job["Environment"][watch.NAMESPACE])
        given = [a.replace("<aws.scheduler.scheduled-time>", "2026-01-31T12:00:00Z") for a in app["ContainerArguments"]]
        assert watch.main(given) == 0
        kind, endpoint, capture, _, out, namespace, _, until = started[-1]
        assert until == "2026-01-31T12:00:00Z", "the windows would leave gaps"
        assert kind in watch.WINDOWS and schedule["index"] == kind.replace("_", "-")
        assert endpoint == "skin-lesion-endpoint" and capture.endswith("/capture") and namespace == DEFAULT_NAMESPACE
        assert out == job["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["LocalPath"]
        assert "ProcessingInputs" not in job, "a job with an empty input fails before its first line"
    (board,) = resources(plan, "aws_cloudwatch_dashboard")
    text = board["values"].get("dashboard_body") or (INFRA / "modules/monitoring/dashboard.tf").read_text()
    missing = {n for n in CLOUDWATCH_METRICS if f'"{n}"' not in text}
    assert missing == {"CompletenessViolations", "CapturedImages", "LabelledImages"}


def test_monitor_jobs_are_what_sagemaker_accepts(plan):
    import botocore.session
    from botocore.validate import ParamValidator

    model = botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateProcessingJob")
    for schedule in resources(plan, "aws_scheduler_schedule"):
        text = schedule["values"]["target"][0].get("input")
        if text is None:
            continue  # known after apply: the VPC's subnets
        job = json.loads(text)
        assert "<aws.scheduler.execution-id>" in job["ProcessingJobName"]
        assert len(job["ProcessingJobName"].replace("<aws.scheduler.execution-id>", "x" * 36)) <= 63
        report = ParamValidator().validate(job, model.input_shape)
        assert not report.has_errors(), report.generate_report()


# ---- Encryption: everything that can be, with our key

ENCRYPTED = {  # type -> attribute that names the key
    "aws_cloudwatch_log_group": "kms_key_id",
    "aws_cloudtrail": "kms_key_id",
    "aws_lambda_function": "kms_key_arn",
    "aws_s3_object": "kms_key_id",
    "aws_scheduler_schedule": "kms_key_arn",
    "aws_secretsmanager_secret": "kms_key_id",
    "aws_sns_topic": "kms_master_key_id",
    "aws_sqs_queue": "kms_master_key_id",
    "aws_ssm_parameter": "key_id",
}
NOT_OURS = {"module.storage.aws_s3_bucket_server_side_encryption_configuration.logs"}  # its writers refuse KMS


def test_everything_is_encrypted_with_our_key(plan):
    key, seen = key_arn(plan), set()
    for r in resources(plan):
        if r["type"] in ENCRYPTED:
            assert r["values"][ENCRYPTED[r["type"]]] == key, r["address"]
            seen.add(r["type"])
        if r["type"] == "aws_ecr_repository":
            assert r["values"]["encryption_configuration"][0]["kms_key"] == key
        if r["type"] == "aws_sfn_state_machine":
            assert r["values"]["encryption_configuration"][0]["kms_key_id"] == key
    assert seen >= set(ENCRYPTED) - {"aws_secretsmanager_secret"}


def test_every_bucket_is_encrypted(plan):
    key = key_arn(plan)
    for r in resources(plan, "aws_s3_bucket_server_side_encryption_configuration"):
        if r["address"] in NOT_OURS or "replica" in r["address"]:
            continue
        assert r["values"]["rule"][0]["apply_server_side_encryption_by_default"][0]["kms_master_key_id"] == key
    addresses = {r["address"] for r in resources(plan, "aws_s3_bucket_server_side_encryption_configuration")}
    assert NOT_OURS < addresses


def test_the_list_of_encryptable_types_is_complete(plan):
    "A resource with an attribute that names a key is in ENCRYPTED, or said to be encrypted elsewhere in this file."
    known = set(ENCRYPTED) | {"aws_flow_log", "aws_kms_key", "aws_kms_alias", "aws_ecr_repository"}
    known |= {"aws_sfn_state_machine", "aws_s3_bucket_server_side_encryption_configuration"}
    for r in resources(plan):
        if any(re.search(r"^kms_|_kms_key", k) for k in r.get("values", {})):
            assert r["type"] in known, f"{r['address']}: say which key encrypts it"


# ---- Identity

NAMELESS = {  # actions without a resource to name (AWS service authorization reference)
    "cloudwatch:PutMetricData",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ecr:GetAuthorizationToken",
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
    "xray:PutTelemetryRecords",
    "xray:PutTraceSegments",
}


def as_list(x) -> list:
    "IAM writes a list of one as the one."
    return x if isinstance(x, list) else [x]


def policies(plan: dict) -> dict[str, dict]:
    "Rendered role policies by address."
    found = {r["address"]: r["values"].get("policy") for r in resources(plan, "aws_iam_role_policy")}
    return {k: json.loads(v) for k, v in found.items() if v}


def test_no_wildcard_where_an_arn_is_possible(plan):
    rendered = policies(plan)
    assert len(rendered) >= 13
    for address, policy in rendered.items():
        for s in policy["Statement"]:
            actions = as_list(s["Action"])
            assert not any("*" in a for a in actions), f"{address}: {actions}"
            if "*" in as_list(s["Resource"]):
                assert set(actions) <= NAMELESS, f"{address}: {s['Sid']} could name a resource"
            if "iam:PassRole" in actions:
                assert "iam:PassedToService" in json.dumps(s["Condition"]), address


def test_every_trust_is_bound_to_this_account(plan):
    for role in resources(plan, "aws_iam_role"):
        text = role["values"].get("assume_role_policy")
        for s in json.loads(text)["Statement"] if text else []:
            keys = {k for test in s["Condition"].values() for k in test}
            assert keys & {"aws:SourceAccount", "aws:SourceArn"}, role["address"]


def tool(name: str) -> str:
    "A scanner of infra/requirements.txt."
    if not (found := shutil.which(name)):
        pytest.skip(f"{name} is not on PATH: `make infra-check` installs it and runs this test")
    return found


def test_policy_lint(plans):
    "parliament knows every action, its resources and its conditions."
    lint, complaints = tool("parliament"), []
    for address, policy in {**policies(plans["minimal"]), **policies(plans["hipaa"])}.items():
        done = subprocess.run([lint, "--json", "--string", json.dumps(policy)], capture_output=True, text=True)
        assert not done.stderr or "pkg_resources" in done.stderr, done.stderr
        for f in map(json.loads, done.stdout.splitlines()):
            # `*` is judged above, against the list of actions that name no resource
            if f["issue"] == "RESOURCE_STAR":
                continue
            # parliament knows express executions only; the service lists `execution` for this action too
            if f["issue"] == "RESOURCE_MISMATCH" and "states:DescribeExecution" in str(f["detail"]):
                continue
            complaints.append(f"{address}: {f['issue']} {f['detail']} {f['location']}")
    assert not complaints, "\n".join(complaints)


JUDGED = {  # rule of tf-nag -> where it may complain, and why that is right as it is
    "APIG1": (
        "orchestration",
        "logged to module.orchestration.aws_cloudwatch_log_group.api; its ARN is not planned yet",
    ),
    "COG8": ("entry", "the Plus tier guards passwords of strangers; who may sign in is a list the hospital keeps"),
    "IAM5": (
        "",
        "`*` ends ARNs of named buckets, runs and versions; test_no_wildcard_where_an_arn_is_possible is stricter",
    ),
    "L1": ("functions", "the containers and the functions have the same Python, 3.11"),
    "S1": (r"storage.*replica", "only the replication service writes there, and the source logs every access"),
    "S10": ("storage", "every policy has it: test_every_bucket_and_queue_refuses_plain_http"),
    "SF1": ("orchestration", "level is ALL; the log group's ARN is not planned yet"),
    "SMG4": ("keys", "a webhook's address is issued by Slack, which has no way to rotate it"),
    "SQS3": ("functions", "it is the dead-letter queue"),
    "SQS4": ("functions", "its policy has it: test_every_bucket_and_queue_refuses_plain_http"),
    "VPC7": ("network", "module.network.aws_flow_log.this logs it; the VPC's id is not planned yet"),
}


def test_second_scanner_finds_nothing_that_is_not_judged(plans, tmp_path):
    scanner, used = tool("tf-nag"), set()
    for example, plan in plans.items():
        (tmp_path / "plan.json").write_text(json.dumps(plan))
        scan = [scanner, "scan", "--format", "json", "--plan-json", tmp_path / "plan.json"]
        for f in json.loads(subprocess.run(scan, capture_output=True, text=True).stdout):
            rule = f["rule_id"].split("-")[1]
            assert rule in JUDGED, f"{example}: {f['address']}: {f['message']}"
            assert re.search(JUDGED[rule][0], f["address"]), f"{example}: {f['address']}: {f['message']}"
            used.add(rule)
    assert used == set(JUDGED), "judged, but nobody complains any more"


def test_every_bucket_and_queue_refuses_plain_http():
    for name in ("storage/main.tf", "storage/replication.tf", "functions/main.tf"):
        text = (INFRA / "modules" / name).read_text()
        policies = re.findall(r'^resource "aws_(?:s3_bucket|sqs_queue)_policy".*?^}', text, re.M | re.S)
        for policy in policies:
            document = re.search(r"policy += data\.aws_iam_policy_document\.(\w+)", policy).group(1)
            body = re.search(rf'^data "aws_iam_policy_document" "{document}".*?^}}', text, re.M | re.S).group(0)
            assert re.search(
                r'"TlsOnly"\s+effect += "Deny".*?"aws:SecureTransport"\s+values += \["false"\]', body, re.S
            )
        assert len(policies) == 1, name


# ---- Functions and state machine

MEMORY = dict(check_data_availability=256, check_pipeline_status=128, evaluate_model=512, approve_model=128)
MEMORY.update(deploy_model=256, slack_notifier=128, predict=256)


def test_functions(plan):
    functions = {f["index"]: f["values"] for f in resources(plan, "aws_lambda_function")}
    assert set(MEMORY) - {"slack_notifier", "predict"} <= set(functions)
    for verb, f in functions.items():
        assert (f["runtime"], f["memory_size"]) == ("python3.11", MEMORY[verb])
        assert f["dead_letter_config"] and f["tracing_config"][0]["mode"] == "Active"


def test_each_handler_is_in_its_zip(plan, tmp_path):
    subprocess.run([sys.executable, REPO / "lambdas" / "build.py", tmp_path], check=True, capture_output=True)
    for f in resources(plan, "aws_lambda_function"):
        module, name = f["values"]["handler"].rsplit(".", 1)
        with zipfile.ZipFile(tmp_path / Path(f["values"]["filename"]).name) as z:
            tree = ast.parse(z.read(f"{module}.py"))
        assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, f["address"]


def test_each_function_gets_the_environment_it_reads(plan):
    "A name read without a default is set; a name that is set is read."
    for f in resources(plan, "aws_lambda_function"):
        source = (REPO / "lambdas" / f["index"] / "handler.py").read_text()
        needed = set(re.findall(r"env(?:iron)?\[\"([A-Z_]+)\"\]", source))
        environment = f["values"].get("environment")
        if environment and environment[0].get("variables"):
            assert needed <= set(environment[0]["variables"]), f["address"]


def test_state_machine_refers_to_what_exists():
    text = (INFRA / "retraining.asl.json").read_text()
    main = (INFRA / "main.tf").read_text()
    verbs = re.search(r"machine_verbs = \[(.*?)\]", main).group(1)
    given = {f"{v}_arn" for v in re.findall(r'"(\w+)"', verbs)}
    given |= set(re.findall(r"^    (\w+) +=", main[main.index("machine_values = ") :], re.M))
    wanted = set(re.findall(r"\$\{(\w+)\}", text))
    assert wanted <= given, f"placeholders without a value: {wanted - given}"
    assert {f"{v}_arn" for v in re.findall(r'"(\w+)"', verbs)} <= wanted, "a function the machine never calls"


def test_jobs_of_the_pipeline_run_in_the_private_network(plans):
    (pipeline,) = resources(plans["minimal"], "aws_sagemaker_pipeline")
    steps = json.loads(pipeline["values"]["pipeline_definition"])["Steps"]
    assert not any("VpcConfig" in json.dumps(s["Arguments"]) for s in steps)
    parameters = json.loads(pipeline["values"]["pipeline_definition"])["Parameters"]
    defaults = {p["Name"]: p.get("DefaultValue") for p in parameters}
    assert defaults["RawBucket"] == "skin-lesion-raw-123456789012"
    assert defaults["KmsKeyId"] == key_arn(plans["minimal"])


# ---- Cost


def test_the_estimate_counts_what_the_plans_make(plans):
    for example, counted in cost.EXAMPLES.items():
        assert cost.inventory(plans[example]) == counted, example
    assert 280 < cost.total(cost.estimate(cost.inventory(plans["minimal"]))) < 320


def test_everything_that_costs_by_being_there_has_a_price():
    for have in cost.EXAMPLES.values():
        priced = {i.unit for i in cost.estimate(have)}
        assert {cost.PRICES[kind][1] for kind in have.counts} <= priced
    assert cost.METRICS == len(CLOUDWATCH_METRICS)


# ---- How the code reads


@pytest.mark.parametrize("module", MODULES)
def test_module_layout(module):
    folder = INFRA / "modules" / module
    assert {"main.tf", "variables.tf", "outputs.tf", "versions.tf", "README.md"} <= {p.name for p in folder.iterdir()}


@pytest.mark.parametrize("path", sorted(INFRA.rglob("variables.tf")), ids=lambda p: str(p.relative_to(INFRA)))
def test_every_variable_is_typed_and_described(path):
    if ".terraform" in path.parts:
        pytest.skip("a copy")
    blocks = re.split(r"^variable ", path.read_text(), flags=re.M)[1:]
    for block in blocks:
        assert re.search(r"^  description +=", block, re.M), block
        assert re.search(r"^  type +=", block, re.M), block


def test_every_skipped_check_has_its_reason():
    for path in INFRA.rglob("*.tf"):
        for skip in re.findall(r"#checkov:skip=(.*)", path.read_text()):
            assert re.match(r"CKV2?_AWS_\d+:.{20,}", skip), f"{path}: {skip}"


# ---- The real thing


@pytest.mark.slow
def test_the_sandbox_holds():
    "`make sandbox`: both examples applied, settled and destroyed, a retraining from the request to the endpoint."
    sandbox.main()


@pytest.mark.slow
def test_the_bucket_of_the_state_is_made_and_settled(tmp_path):
    "`infra/bootstrap`: applied, no second thoughts, the backend it prints is what it made, and a state stops destroy."
    running = server.serve()
    try:
        root = Root(tmp_path, running.url, "bootstrap")
        assert root.apply() > 0 and root.settled()
        backend = dict(re.findall(r'(\w+) += "(.+)"', str(root.output("backend"))))
        s3 = running.client("s3")
        assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == [backend["bucket"]]
        assert s3.get_bucket_versioning(Bucket=backend["bucket"])["Status"] == "Enabled"
        (rule,) = s3.get_bucket_encryption(Bucket=backend["bucket"])["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == backend["kms_key_id"]
        s3.put_object(Bucket=backend["bucket"], Key="skin-lesion.tfstate", Body=b"{}")
        with pytest.raises(Refused, match="BucketNotEmpty"):
            root.destroy()
    finally:
        running.stop()


@pytest.mark.slow
def test_the_platform_starts_again_as_its_readme_says(tmp_path):
    "The commands of `infra/README.md`, word for word, in an account that is no sandbox: version 2 serves as before."
    running = server.serve()
    try:
        root = Root(tmp_path, running.url)
        (root.folder / "prod.tfvars").write_text('environment = "prod"\nalert_emails = ["team@example.com"]\n')
        root.given = ["-var-file=prod.tfvars"]
        root.apply()
        sm, s3 = running.client("sagemaker"), running.client("s3")
        image = str(root.output("repositories")["inference"]) + ":1"
        bucket = next(b["Name"] for b in s3.list_buckets()["Buckets"] if "models" in b["Name"])
        rule = root.output("rules")["registry"]
        running.client("events").disable_rule(Name=rule)  # or the approvals deploy by themselves; `apply` puts it right
        evaluation = json.dumps(pipelines.evaluation())
        s3.put_object(Bucket=bucket, Key="runs/1/evaluation/evaluation.json", Body=evaluation)
        for status in ("Approved", "Approved", "Rejected"):
            register(sm, bucket, image, status)
        s3.put_object(Bucket=bucket, Key="model.tar.gz", Body=b"weights")
        assert shell(root, "skin-lesion deploy --every 0.2").endswith("version 2 serves\n")
        before, group = serving(sm), sm.list_model_packages(ModelPackageGroupName="skin-lesion-models")
        with pytest.raises(Refused, match="is not empty"):  # a registry with versions is not deleted
            root.destroy("-target=module.models.aws_sagemaker_model_package_group.this")
        lose_the_endpoint(sm)
        logs = running.client("logs")
        key, groups = root.output("kms_key_arn"), logs.describe_log_groups()["logGroups"]

        readme = (INFRA / "README.md").read_text().partition("## Starting again")[2]
        shell(root, re.search(r"```sh\n(.*?)```", readme, re.S)[1])

        gone = (root.folder / "gone.txt").read_text()
        assert "module.functions.aws_lambda_function" in gone and "module.identity.aws_iam_role" in gone
        assert not re.search("s3_bucket|kms_key|ecr_repository|model_package_group|log_group", gone)
        assert serving(sm) == before and before.endswith("/2")
        after = sm.list_model_packages(ModelPackageGroupName="skin-lesion-models")
        assert after["ModelPackageSummaryList"] == group["ModelPackageSummaryList"]
        assert s3.get_object(Bucket=bucket, Key="model.tar.gz")["Body"].read() == b"weights"
        assert root.output("kms_key_arn") == key
        assert running.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"
        created = {g["arn"]: g["creationTime"] for g in logs.describe_log_groups()["logGroups"]}
        assert {g["arn"]: g["creationTime"] for g in groups}.items() <= created.items()
        assert root.settled()
    finally:
        running.stop()


def register(sm, bucket: str, image: str, status: str) -> None:
    "One more version."
    container = dict(Image=image, ModelDataUrl=f"s3://{bucket}/model.tar.gz")
    types = dict(SupportedContentTypes=["image/jpeg"], SupportedResponseMIMETypes=["application/json"])
    measured = dict(ContentType="application/json", S3Uri=f"s3://{bucket}/runs/1/evaluation/evaluation.json")
    sm.create_model_package(
        ModelPackageGroupName="skin-lesion-models",
        ModelApprovalStatus=status,
        InferenceSpecification=dict(Containers=[container], **types),
        ModelMetrics=dict(ModelQuality=dict(Statistics=measured)),
    )


def serving(sm) -> str:
    "ARN of the version behind the endpoint."
    found = sm.describe_endpoint(EndpointName="skin-lesion-endpoint")
    assert found["EndpointStatus"] == "InService"
    config = sm.describe_endpoint_config(EndpointConfigName=found["EndpointConfigName"])
    model = sm.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
    return (model.get("Containers") or [model["PrimaryContainer"]])[0]["ModelPackageName"]


def lose_the_endpoint(sm) -> None:
    "The disaster, as far as it is not Terraform's: nothing that a deployment made is left."
    sm.delete_endpoint(EndpointName="skin-lesion-endpoint")
    for config in sm.list_endpoint_configs()["EndpointConfigs"]:
        sm.delete_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
    for model in sm.list_models()["Models"]:
        sm.delete_model(ModelName=model["ModelName"])


def shell(root: Root, commands: str) -> str:
    "Type commands into bash in a root's folder: every question is answered with yes; what they say."
    command = root.folder / "bin" / "skin-lesion"
    if not command.exists():
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m skin_lesion_mlops.cli.app "$@"\n')
        command.chmod(0o755)
    quick = "-auto-approve -input=false -no-color -parallelism=30"
    env = {**root.env, "TF_CLI_ARGS_apply": quick, "TF_CLI_ARGS_destroy": quick, "PYTHONPATH": str(REPO)}
    env["PATH"] = f"{command.parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=root.folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


# ---- The diagram


def _diagram():
    "The description that draws it."
    import importlib.util

    spec = importlib.util.spec_from_file_location("architecture", INFRA / "diagram" / "architecture.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["architecture"] = module
    spec.loader.exec_module(module)
    return module


def test_the_diagram_shows_every_module_and_nothing_else():
    diagram = _diagram()
    assert sorted(diagram.BOXES) == MODULES
    assert set(re.findall(r'source += "\./modules/(\w+)"', (INFRA / "main.tf").read_text())) == set(MODULES)
    for name, box in diagram.BOXES.items():
        code = "".join(p.read_text() for p in (INFRA / "modules" / name).glob("*.tf"))
        for item in box.items:
            assert f'resource "{item.resource}"' in code, f"{name}: {item.label}"
            assert item.shape in diagram.GLYPHS


def test_the_diagram_counts_what_the_plan_has(plans):
    shown = {
        i.label: (name, i.resource) for name, b in _diagram().BOXES.items() for i in b.items if i.label[0].isdigit()
    }
    for label, (module, kind) in shown.items():
        made = [r for r in resources(plans["minimal"], kind) if r["address"].startswith(f"module.{module}.")]
        assert len(made) == int(label.split()[0]), label


def test_no_arrow_crosses_a_box():
    diagram = _diagram()
    for arrow in diagram.ARROWS:
        for (ax, ay), (bx, by) in diagram.segments(arrow):
            assert ax == bx or ay == by, f"{arrow.source} -> {arrow.target} is not at right angles"
            for name, b in diagram.BOXES.items():
                inside_x = min(ax, bx) < b.x + b.w and max(ax, bx) > b.x
                inside_y = min(ay, by) < b.y + b.h and max(ay, by) > b.y
                assert not (inside_x and inside_y), f"{arrow.source} -> {arrow.target} crosses {name}"


def test_arrows_begin_and_end_on_their_boxes():
    diagram = _diagram()
    for arrow in diagram.ARROWS:
        for name, (x, y) in ((arrow.source, arrow.points[0]), (arrow.target, arrow.points[-1])):
            if name in diagram.BOXES:
                b = diagram.BOXES[name]
                on_side = x in (b.x, b.x + b.w) and b.y <= y <= b.y + b.h
                assert on_side or (y in (b.y, b.y + b.h) and b.x <= x <= b.x + b.w), f"{arrow.source} -> {arrow.target}"
            else:
                assert name in diagram.OUTSIDE


def test_boxes_and_icons_do_not_overlap():
    diagram = _diagram()
    boxes = list(diagram.BOXES.values())
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            assert a.x + a.w <= b.x or b.x + b.w <= a.x or a.y + a.h <= b.y or b.y + b.h <= a.y
        places = diagram.centres(a)
        assert all(q[0] - p[0] > diagram.ICON for p, q in zip(places, places[1:]))


def test_the_drawn_files_are_the_description():
    diagram = _diagram()
    assert (INFRA / "diagram" / "architecture.svg").read_text() == diagram.svg()
    assert (INFRA / "diagram" / "architecture.drawio").read_text() == diagram.drawio()


def test_the_drawio_file_is_well_formed():
    import xml.etree.ElementTree as ElementTree

    cells = {c.get("id"): c for c in ElementTree.parse(INFRA / "diagram" / "architecture.drawio").iter("mxCell")}
    for c in cells.values():
        for end in ("source", "target"):
            assert c.get(end) is None or c.get(end) in cells


# ---- The gate: what is asked of a model is asked once


def asked_of_a_model(plan: dict) -> tuple[dict, dict]:
    "Pipeline parameters that every retraining starts with; the environment of the function that reports the result."
    functions = {r["values"]["function_name"]: r["values"] for r in resources(plan, "aws_lambda_function")}
    start, tell = (
        functions[f"skin-lesion-{n}"]["environment"][0] for n in ("check-data-availability", "evaluate-model")
    )
    return json.loads(start["variables"]["PIPELINE_PARAMETERS"]), tell["variables"]


def test_a_threshold_of_tfvars_reaches_the_gate(plans):
    "From examples/hipaa.tfvars to the decision: 0.85 of the malignant images found is too few there."
    least = {}
    for example in EXAMPLES:
        start, _ = asked_of_a_model(plans[example])
        least[example] = float(start.get("MinMalignantSensitivity", PARAMETERS["MinMalignantSensitivity"][0]))
    assert least == dict(minimal=0, hipaa=0.9)
    _, told = asked_of_a_model(plans["hipaa"])
    assert set(told) == {"MODEL_PACKAGE_GROUP", "LOG_LEVEL"}, "the function is told no threshold"
    figures = dict(accuracy=0.9, balanced_accuracy=0.8, malignant_sensitivity=0.85, ece=0.03)
    table = pd.DataFrame({n: dict(value=v, low=v, high=v, standard_error=0.01) for n, v in figures.items()}).T
    for example, registered in dict(minimal=True, hipaa=False).items():
        decision = evaluate.decide(evaluate.gate(table, dict(malignant_sensitivity=least[example])))
        assert decision["passed"] is registered, decision


def test_the_pipeline_and_who_starts_it_know_the_same_parameters(plans):
    "Whoever starts it without parameters is held to the same thresholds; the evaluation is given every one of them."
    (pipeline,) = resources(plans["minimal"], "aws_sagemaker_pipeline")
    made = json.loads(pipeline["values"]["pipeline_definition"])
    defaults = {p["Name"]: str(p["DefaultValue"]) for p in made["Parameters"]}
    start, _ = asked_of_a_model(plans["minimal"])
    assert start == {n: defaults[n] for n in start}
    (job,) = [s["Arguments"] for s in made["Steps"] if s["Name"] == "Evaluate"]
    passed_on = json.dumps(job["AppSpecification"]["ContainerArguments"])
    for name in (
        "AccuracyThreshold",
        "MinBalancedAccuracy",
        "MinMalignantSensitivity",
        "MaxEce",
        "MinChampionDifference",
    ):
        assert f"Parameters.{name}" in passed_on, name
