"""Each role allows what its function really calls: no less, and no more.

`tests/calls.json` is what the functions called when `tests/test_faults.py` ran them; the policies are those that
Terraform would write. Some permissions belong to a call without being one; `BELONGS` says which, and to what.
"""

import json
from pathlib import Path

import pytest

from tests.test_infra import as_list, resources

CALLS = json.loads((Path(__file__).parent / "calls.json").read_text())
FUNCTIONS = sorted(set(CALLS) - {"states"})
# permission -> the calls that need it
BELONGS = {
    "s3:ListBucket": {"s3:GetObject"},  # without it a missing object is "denied" and not "missing"
    "kms:Decrypt": {"s3:GetObject", "s3:PutObject", "secretsmanager:GetSecretValue", "sns:Publish"},
    "kms:GenerateDataKey": {"s3:PutObject", "sns:Publish"},  # AWS encrypts in the caller's name
    "iam:PassRole": {"sagemaker:CreateModel"},  # which hands SageMaker the endpoint's role
}
# What Lambda does in every function's name: its log, its dead letters, its environment, its traces
RUNTIME = {
    *("logs:CreateLogStream", "logs:PutLogEvents", "sqs:SendMessage", "kms:Decrypt", "kms:GenerateDataKey"),
    *("xray:PutTelemetryRecords", "xray:PutTraceSegments"),
}
NETWORK = {  # in a private network
    *("ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"),
    *("ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses"),
}
# What SageMaker and Application Auto Scaling do in the name of who deploys
DEPLOYING = {
    *("iam:CreateServiceLinkedRole", "kms:CreateGrant", "kms:DescribeKey", "sagemaker:AddTags"),
    *("sagemaker:UpdateEndpointWeightsAndCapacities", "cloudwatch:PutMetricAlarm"),
    *("cloudwatch:DescribeAlarms", "cloudwatch:DeleteAlarms"),
}
# What Step Functions does in the machine's name: it delivers logs and traces
DELIVERY = {
    *("logs:CreateLogDelivery", "logs:DeleteLogDelivery", "logs:DescribeLogGroups", "logs:DescribeResourcePolicies"),
    *("logs:GetLogDelivery", "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:UpdateLogDelivery"),
    *("xray:GetSamplingRules", "xray:GetSamplingTargets", "xray:PutTelemetryRecords", "xray:PutTraceSegments"),
}


@pytest.fixture(scope="module")
def allowed(plans):
    "Actions of each role's policy, by address; the example with everything switched on."
    found = {}
    for r in resources(plans["hipaa"], "aws_iam_role_policy"):
        policy = json.loads(r["values"].get("policy") or '{"Statement": []}')
        assert all(s["Effect"] == "Allow" for s in policy["Statement"])
        found[r["address"]] = {a for s in policy["Statement"] for a in as_list(s["Action"])}
    return found


def needed(calls):
    "The calls and what belongs to them."
    return set(calls) | {permission for permission, by in BELONGS.items() if by & set(calls)}


def test_what_belongs_to_a_call_belongs_to_no_other():
    assert needed(["sagemaker:DescribeModel"]) == {"sagemaker:DescribeModel"}
    assert needed(["secretsmanager:GetSecretValue"]) == {"secretsmanager:GetSecretValue", "kms:Decrypt"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_may_call_what_it_calls(allowed, name):
    found = allowed[f'module.identity.aws_iam_role_policy.function["{name}"]']
    assert found - needed(CALLS[name]) == set(), "too broad"
    assert needed(CALLS[name]) - found == set(), "too narrow"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_lambda_may_do_what_it_does_in_a_functions_name(allowed, name):
    outside = name == "slack_notifier"  # it speaks to the internet
    more = (set() if outside else NETWORK) | (DEPLOYING if name == "deploy_model" else set())
    assert allowed[f'module.identity.aws_iam_role_policy.runtime["{name}"]'] == RUNTIME | more


def test_the_machine_may_call_what_it_calls(allowed):
    assert allowed["module.identity.aws_iam_role_policy.state_machine"] == needed(CALLS["states"]) | DELIVERY


def test_every_function_of_the_platform_is_compared(allowed):
    found = {a.split('"')[1] for a in allowed if a.startswith("module.identity.aws_iam_role_policy.function[")}
    assert found == set(FUNCTIONS)
