"""`infra/bootstrap`: the roles that GitHub's jobs assume, held against what Terraform calls and what the workflows are.

`tests/terraform_calls.json` is what the provider called for each example (`tests/standin/recorded.py`). The policies
are those that Terraform made of `infra/bootstrap/actions.json`, in an account that runs on this machine.
"""

import fnmatch
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("moto.server", reason="moto[server] is not installed: pip install -e '.[dev]'")
from tests.standin import server  # noqa: E402
from tests.standin.recorded import action  # noqa: E402
from tests.standin.terraform import Root  # noqa: E402
from tests.test_infra import as_list, resources, tool  # noqa: E402
from tests.test_workflows import JOBS  # noqa: E402

REPO = Path(__file__).resolve().parent.parent
CALLS = {k: set(v) for k, v in json.loads((Path(__file__).parent / "terraform_calls.json").read_text()).items()}
ACTIONS = json.loads((REPO / "infra" / "bootstrap" / "actions.json").read_text())
LISTED = {k: {*v["read"], *v["write"]} for k, v in ACTIONS.items()}
ISSUER = "token.actions.githubusercontent.com"
# What would delete data is left to a person, who may; the rest has a statement of its own in permissions.tf
BY_HAND = {"s3:DeleteBucket", "s3:DeleteObjectVersion", "kms:ScheduleKeyDeletion", "ecr:DeleteRepository"}
BY_HAND |= {"sagemaker:DeleteModelPackageGroup", "logs:DeleteLogGroup", "cognito-idp:DeleteUserPool"}
BY_HAND |= {"cloudtrail:DeleteTrail", "secretsmanager:DeleteSecret", "s3:DeleteObject"}
ELSEWHERE = {"ssm:GetParameter", "s3:GetObject", "s3:GetObjectTagging", "s3:PutObject", "s3:PutObjectTagging"}
UNNEEDED = {"iam:GetUser"}  # the provider's second way to learn the account's number
READS = ("Get", "List", "Describe", "View", "GET", "Validate")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "Everything for GitHub, made once: roles, trust and statements, the commands that set the variables."
    if not tool("terraform"):
        return
    running = server.serve()
    try:
        root = Root(tmp_path_factory.mktemp("bootstrap"), running.url, "bootstrap")
        root.given = ["-var=github_repository=octo@1/lesions@2", "-var=platform=hipaa"]
        root.given += ['-var=github_environments=["production", "staging"]']
        # the provider waits a minute for a bucket's lifecycle rules to settle, and nothing here reads them
        waits = 'resource "aws_s3_bucket_lifecycle_configuration" "this" {\n  count = 0\n}\n'
        (root.folder / "lifecycle_override.tf").write_text(waits)
        root.apply()
        iam, found = running.client("iam"), {}
        for role in iam.list_roles()["Roles"]:
            attached = iam.list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"]
            policies = {a["PolicyName"]: document(iam, a["PolicyArn"]) for a in attached}
            found[role["RoleName"]] = dict(trust=role["AssumeRolePolicyDocument"], policies=policies)
        boundary = next(p["Arn"] for p in iam.list_policies(Scope="Local")["Policies"] if "boundary" in p["PolicyName"])
        bucket = next(b["Name"] for b in running.client("s3").list_buckets()["Buckets"])
        return dict(roles=found, boundary=document(iam, boundary), github=root.output("github"), bucket=bucket)
    finally:
        running.stop()


def document(iam, arn: str) -> dict:
    "A policy's current version."
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    return iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]


def statements(made: dict, role: str) -> list[dict]:
    "What a role may do."
    policies = made["roles"][f"github-skin-lesion-{role}"]["policies"].values()
    return [s for p in policies for s in as_list(p["Statement"])]


def actions(found: list[dict]) -> set[str]:
    "All the actions of some statements."
    return {a for s in found for a in as_list(s["Action"])}


# ---- who


def test_each_role_trusts_one_kind_of_job_of_one_repository(made):
    trusted = {
        name.rpartition("-")[2]: role["trust"]["Statement"][0]["Condition"]["StringEquals"]
        for name, role in made["roles"].items()
    }
    assert trusted == {
        "plan": {f"{ISSUER}:aud": "sts.amazonaws.com", f"{ISSUER}:sub": "repo:octo@1/lesions@2:pull_request"},
        "deploy": {
            f"{ISSUER}:aud": "sts.amazonaws.com",
            f"{ISSUER}:ref": "refs/heads/main",
            f"{ISSUER}:sub": [f"repo:octo@1/lesions@2:environment:{e}" for e in ("production", "staging")],
        },
    }


def test_the_workflows_assume_the_role_that_trusts_them():
    "A job with an environment has its name in the subject; the job of a pull request must have none."
    for name, job in JOBS.items():
        for step in job.get("steps", []):
            if role := step.get("with", {}).get("role-to-assume"):
                plan = "AWS_PLAN_ROLE_ARN" in role
                assert plan or "AWS_DEPLOY_ROLE_ARN" in role
                assert ("environment" not in job and "pull_request" in job["if"]) if plan else job["environment"], name
    assert {JOBS[f"ci.{e}"]["with"]["environment"] for e in ("staging", "production")} == {"staging", "production"}


@pytest.mark.parametrize("given, taken", [("octo/*", False), ("repo:octo/lesions", False), ("octo@1/lesions@2", True)])
def test_a_repository_is_one_repository(given, taken, tmp_path):
    "The variables alone, without a provider to start."
    shutil.copy(REPO / "infra" / "bootstrap" / "variables.tf", tmp_path)
    plan = [tool("terraform"), "plan", "-input=false", "-no-color", f"-var=github_repository={given}"]
    done = subprocess.run(
        plan, cwd=tmp_path, env={**os.environ, "CHECKPOINT_DISABLE": "1"}, capture_output=True, text=True
    )
    assert (done.returncode == 0) is taken and taken is ("OWNER/NAME" not in done.stderr), done.stderr


# ---- what


def test_the_listed_actions_are_those_that_terraform_calls():
    "Nothing is missing; what was not seen is the change or the removal of something that was."
    assert CALLS["minimal"] - BY_HAND - ELSEWHERE - UNNEEDED - LISTED["minimal"] == set()
    assert CALLS["hipaa"] - BY_HAND - ELSEWHERE - UNNEEDED - LISTED["minimal"] - LISTED["hipaa"] == set()
    assert not LISTED["minimal"] & LISTED["hipaa"]
    for a in (LISTED["minimal"] | LISTED["hipaa"]) - CALLS["minimal"] - CALLS["hipaa"]:
        service, verb = a.split(":")
        again = re.match(
            "PATCH|Untag|Remove|Delete|Update|Modify|Put|Set|Replace|Revoke|Associate|DescribeVpcEndpointServices", verb
        )
        assert again and any(c.startswith(f"{service}:") for c in CALLS["hipaa"]), f"{a} was never called"


def test_pull_requests_read_settings_and_change_nothing(made):
    found = statements(made, "plan")
    changing = {a for a in actions(found) if not a.split(":")[1].startswith(READS)}
    assert changing == {"kms:Decrypt"}
    contents = {
        "s3:GetObject",
        "ssm:GetParameter",
        "secretsmanager:GetSecretValue",
        "kms:Decrypt",
        "sagemaker:InvokeEndpoint",
    }
    mine = (made["bucket"], "/weights/none/", "/classes/none/", "/tested/none/", "parameter/skin-lesion/", ":key/")
    for s in found:
        if contents & set(as_list(s["Action"])):
            assert all(any(m in r for m in mine) for r in as_list(s["Resource"])), s["Sid"]


def test_main_makes_what_bears_the_platforms_name_and_deletes_no_data(made):
    found = statements(made, "deploy")
    assert not actions(found) & (BY_HAND - {"s3:DeleteObject"})
    for s in found:
        writes = {a for a in as_list(s["Action"]) if not a.split(":")[1].startswith((*READS, "Batch"))}
        if writes and "*" in as_list(s["Resource"]):
            assert s["Sid"] in ("WriteNameless", "DeliverLogs"), f"{s['Sid']} could name a resource"
        if "s3:DeleteObject" in writes or "s3:GetObject" in as_list(s["Action"]):
            own = (made["bucket"], "/weights/none/", "/classes/none/", "/tested/none/")
            assert all(any(o in r for o in own) for r in as_list(s["Resource"]))


def test_main_cannot_make_a_role_that_may_more_than_the_platform(made):
    "Every way to give a role permissions needs the boundary, and no role of GitHub's may be changed."
    giving = {"iam:CreateRole", "iam:PutRolePolicy", "iam:PutRolePermissionsBoundary"}
    refused = {
        "iam:AttachRolePolicy",
        "iam:CreatePolicy",
        "iam:CreatePolicyVersion",
        "iam:DeleteRolePermissionsBoundary",
    }
    found = statements(made, "deploy")
    assert not actions(found) & refused
    for s in found:
        if giving & set(as_list(s["Action"])):
            assert s["Condition"]["StringEquals"]["iam:PermissionsBoundary"].endswith(":policy/skin-lesion-boundary")
        if any(a.startswith("iam:") and not a.split(":")[1].startswith(READS) for a in as_list(s["Action"])):
            assert not any(
                fnmatch.fnmatch("arn:aws:iam::123456789012:role/github-skin-lesion-deploy", r)
                for r in as_list(s["Resource"])
            )


def test_the_boundary_leaves_the_platforms_roles_what_they_need(made, plans):
    allowed = [a for s in made["boundary"]["Statement"] for a in as_list(s["Action"])]
    for plan in plans.values():
        for r in resources(plan, "aws_iam_role_policy"):
            policy = json.loads(r["values"].get("policy") or '{"Statement": []}')
            for a in actions(policy["Statement"]):
                assert any(fnmatch.fnmatch(a, pattern) for pattern in allowed), f"{r['address']}: {a}"
    assert "iam:PutRolePolicy" not in str(allowed) and "iam:*" not in allowed


def test_policies_fit_and_parliament_knows_every_action(made):
    lint = None
    for role in made["roles"].values():
        for name, policy in role["policies"].items():
            assert len(json.dumps(policy, separators=(",", ":"))) < 6144 - 45 * 9, f"{name}: no room for a longer name"
            lint = lint or tool("parliament")
            done = subprocess.run([lint, "--json", "--string", json.dumps(policy)], capture_output=True, text=True)
            issues = [f for f in map(json.loads, done.stdout.splitlines()) if f["issue"] not in JUDGED]
            assert not [f for f in issues if not any(k in str(f["detail"]) for k in UNKNOWN)], (name, issues)


# What AWS's reference has and parliament has not: a condition of KMS, and listeners of an application's load balancer
UNKNOWN = ("kms:ResourceAliases", "listener/net/")
JUDGED = {
    "RESOURCE_STAR",  # settings are read everywhere; what is written is judged above
    "RESOURCE_POLICY_PRIVILEGE_ESCALATION",  # who sets a bucket's policy can reach what is in it
    "MISMATCHED_TYPE_BUT_USABLE",  # the boundary's ARN is compared as it is
}


def test_a_change_of_a_setting_needs_the_permission_to_put_it():
    assert action("S3", "DeleteBucketEncryption") == "s3:PutEncryptionConfiguration"
    assert (
        action("S3", "HeadBucket") == "s3:ListBucket" and action("S3", "DeleteBucketPolicy") == "s3:DeleteBucketPolicy"
    )
    assert action("Budgets", "CreateBudget") == "budgets:ModifyBudget"
    assert action("CloudWatch Logs", "PutRetentionPolicy") == "logs:PutRetentionPolicy"


# ---- the way to GitHub


def test_the_output_sets_the_variables_that_the_readme_marks(made):
    readme = (REPO / "infra" / "README.md").read_text()
    marked = set(re.findall(r"^\| `([A-Z_]+)` \* \|", readme, re.M))
    assert set(re.findall(r"^gh variable set (\w+) ", made["github"], re.M)) == marked
