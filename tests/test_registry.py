"The registry: two backends with one face, versions that are never lost, decisions that are never unmade."

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from skin_lesion_mlops.core import GUARDS, Files, SkinLesionError, hash_file, read_json, s3_path, write_json
from skin_lesion_mlops.pipeline.registry import (
    APPROVED,
    FIELDS,
    GROUP,
    PENDING,
    REJECTED,
    TRANSITIONS,
    champion,
    create_registry,
    lineage,
)

REGION = "eu-central-1"


def evaluation(value=0.71, se=0.012, reasons=()):
    "The part of an evaluation that the registry reads."
    metric = {"value": value, "standard_deviation": se}
    decision = {"passed": not reasons, "failed": len(reasons), "reasons": list(reasons)}
    metrics = {"balanced_accuracy": metric}
    return {"multiclass_classification_metrics": metrics, "decision": decision, "lineage": {"data_hash": "abc"}}


def request(run="r1", **more):
    "What the RegisterModel step asks for."
    base = f"s3://models/runs/{run}"
    return {
        "ModelPackageGroupName": GROUP,
        "ModelPackageDescription": f"run {run}",
        "InferenceSpecification": {
            "Containers": [{"Image": "image", "ModelDataUrl": f"{base}/model.tar.gz"}],
            "SupportedContentTypes": ["image/jpeg"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
        "ModelMetrics": {
            "ModelQuality": {
                "Statistics": {"ContentType": "application/json", "S3Uri": f"{base}/evaluation/evaluation.json"}
            }
        },
        "CustomerMetadataProperties": {"pipeline_execution": f"arn:x/execution/{run}", "code_version": "v1"},
        **more,
    }


def stage(home, run="r1", value=0.71):
    "Put the files of a finished run where S3 would have them."
    base = f"s3://models/runs/{run}"
    model = s3_path(home, f"{base}/model.tar.gz")
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(b"weights " * 1000 + run.encode())
    write_json(s3_path(home, f"{base}/evaluation/evaluation.json"), evaluation(value))
    s3_path(home, f"{base}/evaluation/{Files.PREDICTIONS}").write_text("image_id\n")
    return request(run)


@pytest.fixture
def sagemaker(monkeypatch):
    "A SageMaker registry on moto, whose bucket holds evaluations r1 to r3."
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with moto.mock_aws():
        s3 = boto3.client("s3", region_name=REGION)
        s3.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": REGION})
        for run in ("r1", "r2", "r3"):
            body = json.dumps(evaluation()).encode()
            s3.put_object(Bucket="models", Key=f"runs/{run}/evaluation/evaluation.json", Body=body)
        yield create_registry(region=REGION)


# --- both backends


@pytest.fixture(params=["local", "sagemaker"])
def registry(request, tmp_path):
    "Each backend in turn, with the files of three runs."
    if request.param == "sagemaker":
        return request.getfixturevalue("sagemaker")
    for run in ("r1", "r2", "r3"):
        stage(tmp_path, run)
    return create_registry(home=tmp_path)


def test_versions_count_up_and_begin_pending(registry):
    assert registry.list(GROUP) == []
    packages = [registry.register(request(r)) for r in ("r1", "r2", "r3")]
    assert [p["ModelPackageVersion"] for p in packages] == [1, 2, 3]
    assert {p["ModelApprovalStatus"] for p in packages} == {PENDING}
    assert [p["ModelPackageVersion"] for p in registry.list(GROUP)] == [3, 2, 1]
    assert registry.describe(GROUP, "latest")["ModelPackageDescription"] == "run r3"
    assert registry.describe(GROUP, "2") == registry.describe(GROUP, 2)


def test_every_transition_is_allowed_or_refused_as_in_the_table(registry):
    paths = {PENDING: [], APPROVED: [APPROVED], REJECTED: [REJECTED]}  # how a fresh version gets there
    for start, path in paths.items():
        for target in TRANSITIONS:
            version = registry.register(request("r1"))["ModelPackageVersion"]
            for status in path:
                registry.set_status(GROUP, version, status, "ada", "to get there")
            if target in TRANSITIONS[start]:
                assert registry.set_status(GROUP, version, target, "ada", "x")["ModelApprovalStatus"] == target
            else:
                with pytest.raises(SkinLesionError, match=rf"version {version} is {start}"):
                    registry.set_status(GROUP, version, target, "ada", "x")
                assert registry.describe(GROUP, version)["ModelApprovalStatus"] == start


@pytest.mark.parametrize("by,reason", [("", "because"), ("  ", "because"), ("ada", ""), ("ada", "\n")])
def test_a_decision_needs_a_name_and_a_reason(registry, by, reason):
    registry.register(request("r1"))
    with pytest.raises(SkinLesionError, match="needs a name and a reason"):
        registry.set_status(GROUP, 1, APPROVED, by, reason)


def test_the_history_keeps_every_decision(registry):
    registry.register(request("r1"))
    registry.set_status(GROUP, 1, APPROVED, "ada", "criteria met")
    registry.set_status(GROUP, 1, REJECTED, "grace", "recall")
    package = registry.set_status(GROUP, 1, APPROVED, "ada", "recall was of another model")
    told = [(e["Status"], e["By"], e["Reason"]) for e in package["ApprovalHistory"][1:]]
    assert told == [
        (APPROVED, "ada", "criteria met"),
        (REJECTED, "grace", "recall"),
        (APPROVED, "ada", "recall was of another model"),
    ]
    assert package["ApprovalHistory"][0]["Status"] == PENDING
    assert package["ApprovalDescription"] == "ada: recall was of another model"
    assert package["CustomerMetadataProperties"]["code_version"] == "v1"  # deciding does not lose what was there
    assert registry.describe(GROUP, 1) == package


REASON = "malignant sensitivity 0.880 is below 0.900"


def judged(registry, written, run="r1"):
    "A version whose evaluation holds just that."
    key = f"runs/{run}/evaluation/evaluation.json"
    if hasattr(registry, "s3"):
        registry.s3.put_object(Bucket="models", Key=key, Body=json.dumps(written).encode())
    else:
        write_json(s3_path(registry.home, f"s3://models/{key}"), written)
    return registry.register(request(run))["ModelPackageVersion"]


def test_an_approval_against_the_gate_needs_a_reason_of_its_own(registry):
    version = judged(registry, evaluation(reasons=[REASON]))
    for override in ("", "  "):
        with pytest.raises(SkinLesionError, match=rf"version {version} cannot be approved.*{REASON}(.|\n)*--override"):
            registry.set_status(GROUP, version, APPROVED, "ada", "read the report", override=override)
    assert registry.describe(GROUP, version)["ModelApprovalStatus"] == PENDING
    package = registry.set_status(GROUP, version, APPROVED, "ada", "read the report", override="two readers agree")
    assert package["ApprovalHistory"][-1]["Override"] == "two readers agree"
    assert package["ApprovalDescription"] == "ada: read the report (override: two readers agree)"
    assert registry.describe(GROUP, "approved") == package
    assert "override" not in json.dumps(lineage(package, {})).lower()
    package = registry.set_status(GROUP, version, REJECTED, "ada", "second thoughts")
    assert [e.get("Override") for e in package["ApprovalHistory"]] == [None, "two readers agree", None]
    with pytest.raises(SkinLesionError, match="cannot be approved"):  # an override counts once
        registry.set_status(GROUP, version, APPROVED, "ada", "third thoughts")


def test_rejecting_needs_no_override_and_a_passed_gate_takes_none(registry):
    turned_away = judged(registry, evaluation(reasons=[REASON]))
    assert registry.set_status(GROUP, turned_away, REJECTED, "ada", "as the gate")["ModelApprovalStatus"] == REJECTED
    good = registry.register(request("r2"))["ModelPackageVersion"]
    with pytest.raises(SkinLesionError, match="nothing to override"):
        registry.set_status(GROUP, good, APPROVED, "ada", "ok", override="to be sure")


@pytest.mark.parametrize("guards, failed, may", [(5, "", True), (5, "ece", False), (4, "", False), (0, "", False)])
def test_a_version_of_before_is_what_its_guards_say(registry, guards, failed, may):
    "Evaluations once recorded no decision."
    written = evaluation()
    del written["decision"]
    written["gate"] = {n: {"value": 0.5, "passed": n != failed} for n in list(GUARDS)[:guards]}
    version = judged(registry, written)
    if may:
        assert registry.set_status(GROUP, version, APPROVED, "ada", "ok")["ModelApprovalStatus"] == APPROVED
        return
    with pytest.raises(
        SkinLesionError, match="guard of calibration error was not passed" if failed else "records no decision"
    ):
        registry.set_status(GROUP, version, APPROVED, "ada", "ok")
    assert registry.set_status(GROUP, version, APPROVED, "ada", "ok", override="of old, seen by two")["ApprovalHistory"]


def test_without_an_evaluation_an_override_is_needed(registry):
    plain = {k: v for k, v in request("r1").items() if k != "ModelMetrics"}
    version = registry.register(plain)["ModelPackageVersion"]
    with pytest.raises(SkinLesionError, match="nothing says that it passed its gate"):
        registry.set_status(GROUP, version, APPROVED, "ada", "ok")
    assert (
        registry.set_status(GROUP, version, APPROVED, "ada", "ok", override="an import")["ModelApprovalStatus"]
        == APPROVED
    )


def test_an_evaluation_that_is_gone_speaks_for_nobody(sagemaker):
    sagemaker.register(request("r1"))
    sagemaker.s3.delete_object(Bucket="models", Key="runs/r1/evaluation/evaluation.json")
    with pytest.raises(SkinLesionError, match="records no decision"):
        sagemaker.set_status(GROUP, 1, APPROVED, "ada", "ok")


def test_approved_means_the_newest_approved(registry):
    for r in ("r1", "r2", "r3"):
        registry.register(request(r))
    with pytest.raises(SkinLesionError, match="has no approved version"):
        registry.describe(GROUP, "approved")
    for version in (2, 1):  # in this order: the number decides, not the date of the approval
        registry.set_status(GROUP, version, APPROVED, "ada", "ok")
    assert registry.describe(GROUP, "approved")["ModelPackageVersion"] == 2


def test_champion_fills_the_pipeline_parameters(registry):
    nobody = dict(ChampionVersion="", ChampionBalancedAccuracy=0.0, ChampionStandardError=0.0)
    assert champion(registry) == nobody
    registry.register(request("r1"))
    assert champion(registry) == nobody
    registry.set_status(GROUP, 1, APPROVED, "ada", "ok")
    assert champion(registry) == dict(ChampionVersion="1", ChampionBalancedAccuracy=0.71, ChampionStandardError=0.012)


def test_lineage_joins_what_was_known_and_what_was_measured(registry):
    known = {**request("r2")["CustomerMetadataProperties"], "champion": f"{GROUP}/7", "arch": "tiny"}
    package = registry.register(request("r2", CustomerMetadataProperties=known))
    found = lineage(package, registry.evaluation(package))
    assert found["parent"] == "7" and found["parameters"] == {"arch": "tiny"}
    assert lineage({"CustomerMetadataProperties": {"champion": f"{GROUP}/"}}, {})["parent"] == ""
    assert (found["data_hash"], found["code_version"], found["execution"]) == ("abc", "v1", "r2")


@pytest.mark.parametrize("version", [7, "7", "first", "-1", "../1"])
def test_a_wrong_version_is_refused_with_the_ones_there_are(registry, version):
    registry.register(request("r1"))
    with pytest.raises(SkinLesionError, match="has no version.*\n.*it has 1"):
        registry.describe(GROUP, version)


def test_a_wrong_request_is_refused_before_anything_is_written(registry):
    for wrong in (
        {"ModelAprovalStatus": APPROVED},
        {"ModelPackageGroupName": "a/../b"},
        {"ModelApprovalStatus": "Yes"},
    ):
        with pytest.raises(SkinLesionError):
            registry.register({**request("r1"), **wrong})
    assert registry.list(GROUP) == []


def test_both_backends_answer_in_the_same_shape(sagemaker, tmp_path):
    "The same script on both; the same keys, types and values, but for what names the account."

    def script(registry):
        registry.register(request("r1"))
        registry.register(request("r2"))
        registry.set_status(GROUP, 2, APPROVED, "ada", "criteria met")
        answers = [registry.describe(GROUP, v) for v in (1, 2, "approved")]
        return {"describe": answers, "list": registry.list(GROUP)[:2], "champion": champion(registry)}

    stage(tmp_path, "r1"), stage(tmp_path, "r2")
    there, here = script(sagemaker), script(create_registry(home=tmp_path))
    json.dumps([there, here])  # plain JSON on both sides
    arn = ("ModelPackageArn", "CreatedBy", "LastModifiedBy", "CreationTime", "LastModifiedTime", "ApprovalHistory")
    own = {*arn, "ModelPackageStatusDetails", "CustomerMetadataProperties", "ModelPackageRegistrationType"}
    for a, b in zip(there["describe"] + there["list"], here["describe"] + here["list"]):
        assert set(a) - set(b) == set(), "SageMaker says something that the local registry does not"
        # moto leaves out the registration type, which SageMaker says
        assert set(b) - set(a) <= {"ModelPackageRegistrationType"}
        assert {k: v for k, v in a.items() if k not in own} == {k: b[k] for k in a if k not in own}
        assert {k: type(v) for k, v in a.items()} == {k: type(b[k]) for k in a}
        if "ApprovalHistory" in a:
            assert [e["Status"] for e in a["ApprovalHistory"]] == [e["Status"] for e in b["ApprovalHistory"]]
            assert [set(e) for e in a["ApprovalHistory"]] == [set(e) for e in b["ApprovalHistory"]]
    assert there["champion"] == here["champion"]


def test_fields_are_those_of_the_api():
    botocore = pytest.importorskip("botocore.session")
    model = botocore.get_session().get_service_model("sagemaker")
    known = set(model.operation_model("CreateModelPackage").input_shape.members)
    assert FIELDS == known - {"ModelPackageName"}  # an unversioned package, which this project never makes


def test_a_local_answer_has_only_fields_of_the_api(tmp_path):
    botocore = pytest.importorskip("botocore.session")
    model = botocore.get_session().get_service_model("sagemaker")
    stage(tmp_path)
    registry = create_registry(home=tmp_path)
    package = registry.register(request())
    package = registry.set_status(GROUP, 1, APPROVED, "ada", "ok")
    assert set(package) - {"ApprovalHistory"} <= set(model.operation_model("DescribeModelPackage").output_shape.members)
    assert set(registry.list()[0]) <= set(model.shape_for("ModelPackageSummary").members)


# --- folders


REGISTER = """
import json, sys
from skin_lesion_mlops.pipeline.registry import create_registry
home, run = sys.argv[1:]
print("ready", flush=True), sys.stdin.readline()
for i in range(5):
    r = json.loads(open(f"{home}/{run}.json").read())
    print(create_registry(home=home).register(r)["ModelPackageVersion"])
"""


def at_once(programs):
    "Processes that have all been started before the first goes on from its `readline`."
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    jobs = [subprocess.Popen([sys.executable, "-c", *words], **pipes) for words in programs]
    for job in jobs:
        assert job.stdout.readline() == b"ready\n"
    for job in jobs:
        job.stdin.write(b"go\n")
        job.stdin.flush()
    return jobs


def test_eight_processes_register_forty_versions(tmp_path):
    for i in range(8):
        write_json(tmp_path / f"p{i}.json", stage(tmp_path, f"p{i}"))
    jobs = at_once([REGISTER, str(tmp_path), f"p{i}"] for i in range(8))
    said = [(i, int(v)) for i, job in enumerate(jobs) for v in job.communicate(timeout=120)[0].split()]
    assert all(job.returncode == 0 for job in jobs)
    assert sorted(v for _, v in said) == list(range(1, 41))
    registry = create_registry(home=tmp_path)
    for i, v in said:  # each number holds what its process registered
        assert registry.describe(GROUP, v)["ModelPackageDescription"] == f"run p{i}"
    assert not list((tmp_path / "registry" / GROUP).glob(".new-*"))


DECIDE = """
import sys
from skin_lesion_mlops.core import SkinLesionError
from skin_lesion_mlops.pipeline.registry import create_registry, GROUP
home, who = sys.argv[1:]
print("ready", flush=True), sys.stdin.readline()
try:
    create_registry(home=home).set_status(GROUP, 1, "Approved", who, "ok")
except SkinLesionError as e:
    sys.exit("is Approved already" not in str(e) or 3)
"""


def test_of_four_approvals_in_one_instant_one_counts(tmp_path):
    stage(tmp_path)
    registry = create_registry(home=tmp_path)
    registry.register(request())
    jobs = at_once([DECIDE, str(tmp_path), f"person {i}"] for i in range(4))
    assert sorted(job.wait(timeout=120) for job in jobs) == [0, 3, 3, 3]
    assert len(registry.describe(GROUP, 1)["ApprovalHistory"]) == 2


CRASH = """
import json, os, sys
from skin_lesion_mlops.pipeline import registry
real, victim, n = getattr(os, sys.argv[3]), sys.argv[3], int(sys.argv[4])
def die(*a, **k):
    global n
    n -= 1
    if n < 0: os.kill(os.getpid(), 9)
    return real(*a, **k)
setattr(os, victim, die)
registry.create_registry(home=sys.argv[1]).register(json.loads(sys.argv[2]))
"""


@pytest.mark.parametrize(
    "call,nth",
    [("link", 0), *(("replace", n) for n in range(8)), ("rename", 0)],
)
def test_killed_at_any_step_it_leaves_no_half_version(tmp_path, call, nth):
    "Steps: write artefacts, package, first entry, its seal and its token; link the entry; rename."
    arguments = [str(tmp_path), json.dumps(dict(stage(tmp_path), ClientToken="once")), call, str(nth)]
    killed = subprocess.run([sys.executable, "-c", CRASH, *arguments])
    assert killed.returncode == -9
    registry = create_registry(home=tmp_path)
    assert registry.list() == []
    assert registry.register(request(ClientToken="once"))["ModelPackageVersion"] == 1
    assert registry.verify(GROUP, 1) == []


def test_leftovers_of_a_crash_are_swept_after_a_day(tmp_path):
    stage(tmp_path)
    registry = create_registry(home=tmp_path)
    old, young = (tmp_path / "registry" / GROUP / n for n in (".new-old", ".new-young"))
    for p in (old, young):
        p.mkdir(parents=True)
    os.utime(old, (time.time() - 90000,) * 2)
    registry.register(request())
    assert not old.exists() and young.exists()


SAME = """
import json, sys
from skin_lesion_mlops.pipeline.registry import create_registry
print("ready", flush=True), sys.stdin.readline()
print(create_registry(home=sys.argv[1]).register(json.loads(sys.argv[2]))["ModelPackageVersion"])
"""


def test_one_token_is_one_version_however_many_ask_at_once(tmp_path):
    asked = json.dumps(dict(stage(tmp_path), ClientToken="same"))
    s3_path(tmp_path, "s3://models/runs/r1/model.tar.gz").write_bytes(b"w" * 20_000_000)  # copying takes a while
    jobs = at_once([SAME, str(tmp_path), asked] for _ in range(6))
    assert {job.communicate(timeout=120)[0].strip() for job in jobs} == {b"1"}
    assert len(create_registry(home=tmp_path).list()) == 1


def test_a_client_token_registers_once(tmp_path):
    stage(tmp_path)
    registry = create_registry(home=tmp_path)
    versions = [registry.register(request(ClientToken=t))["ModelPackageVersion"] for t in ("a", "a", "b", "a")]
    assert versions == [1, 1, 2, 1]


def _damage(name):
    "Ways to tamper with version 1."
    return {
        "model": lambda d: (d / "model.tar.gz").write_bytes(b"other"),
        "evaluation": lambda d: write_json(d / "evaluation/evaluation.json", evaluation(0.99)),
        "gone": lambda d: (d / "evaluation" / Files.PREDICTIONS).unlink(),
        "added": lambda d: (d / "model.onnx").write_bytes(b"unasked"),
        "package": lambda d: write_json(d / "package.json", {**read_json(d / "package.json"), "Domain": "x"}),
        "list": lambda d: write_json(d / "artefacts.json", {}),
        "history": lambda d: write_json(
            d / "approvals/0001.json", {**read_json(d / "approvals/0001.json"), "Status": APPROVED}
        ),
        "newest decision": lambda d: write_json(
            d / "approvals/0002.json", {**read_json(d / "approvals/0002.json"), "Status": APPROVED}
        ),
        "newest decision gone": lambda d: (d / "approvals/0002.json").unlink(),
        "a decision more": lambda d: write_json(
            d / "approvals/0003.json",
            dict(read_json(d / "approvals/0002.json"), Status=APPROVED, Previous=hash_file(d / "approvals/0002.json")),
        ),
    }[name]


DAMAGES = ("model", "evaluation", "gone", "added", "package", "list", "history")
DECISIONS = ("newest decision", "newest decision gone", "a decision more")


@pytest.mark.parametrize("what", [*DAMAGES, *DECISIONS])
def test_tampering_is_detected_and_bars_approval(tmp_path, what):
    stage(tmp_path)
    registry = create_registry(home=tmp_path)
    package = registry.register(request())
    registry.set_status(GROUP, 1, REJECTED, "ada", "not yet")  # so that there is a chain to break
    _damage(what)(registry.folder(package))
    assert registry.verify(GROUP, 1)
    with pytest.raises(SkinLesionError, match="not what was registered"):
        registry.describe(GROUP, 1)
    with pytest.raises(SkinLesionError, match="not what was registered|is Approved already"):
        registry.set_status(GROUP, 1, APPROVED, "ada", "ok")


@pytest.mark.parametrize("what", DECISIONS[:1] + DECISIONS[2:])
def test_a_forged_approval_approves_nothing_and_is_not_forgotten(tmp_path, what):
    stage(tmp_path)
    registry = create_registry(home=tmp_path)
    package = registry.register(request())
    registry.set_status(GROUP, 1, REJECTED, "ada", "not yet")
    _damage(what)(registry.folder(package))
    with pytest.raises(SkinLesionError, match="approval . (has changed|was added)"):
        registry.describe(GROUP, "approved")
    registry.set_status(GROUP, 1, REJECTED, "ada", "somebody edited it")
    assert registry.verify(GROUP, 1), "the decision that follows does not launder the forged one"


def test_a_registry_of_before_is_sealed_when_it_is_first_used(tmp_path):
    import shutil

    stage(tmp_path)
    registry = create_registry(home=tmp_path)
    registry.register(request(ClientToken="old"))
    shutil.rmtree(tmp_path / "registry" / GROUP / ".heads"), shutil.rmtree(tmp_path / "registry" / GROUP / ".tokens")
    assert registry.register(request(ClientToken="old"))["ModelPackageVersion"] == 1
    assert registry.verify(GROUP, 1) == []
    _damage("history")(tmp_path / "registry" / GROUP / "1")
    assert registry.verify(GROUP, 1)


def test_a_broken_package_spoils_only_itself(tmp_path):
    registry = create_registry(home=tmp_path)
    for run in ("r1", "r2", "r3"):
        stage(tmp_path, run)
        registry.register(request(run, ClientToken=run))
    (tmp_path / "registry" / GROUP / "2" / "package.json").write_text('{"half')
    assert [p["ModelApprovalStatus"] for p in registry.list()] == [PENDING, "Unreadable", PENDING]
    assert registry.describe(GROUP, 1) and registry.evaluation(registry.list()[1]) == {}
    assert registry.register(request("r1", ClientToken="r1"))["ModelPackageVersion"] == 1
    with pytest.raises(SkinLesionError, match="package.json"):
        registry.describe(GROUP, 2)


def test_an_inference_pipeline_keeps_both_models(tmp_path):
    asked = stage(tmp_path)
    stage(tmp_path, "r2")
    second = dict(Image="image", ModelDataUrl="s3://models/runs/r2/model.tar.gz")
    asked["InferenceSpecification"]["Containers"].append(second)
    registry = create_registry(home=tmp_path)
    folder = registry.folder(registry.register(asked))
    assert (folder / "model.tar.gz").read_bytes().endswith(b"r1") and (folder / "2/model.tar.gz").read_bytes().endswith(
        b"r2"
    )
    assert registry.verify(GROUP, 1) == []


def test_the_300th_version_takes_what_the_first_took(tmp_path):
    asked, registry = stage(tmp_path), create_registry(home=tmp_path)

    def seconds(n):
        start = time.process_time()
        for i in range(n):
            registry.register(dict(asked, ClientToken=f"{time.monotonic_ns()}-{i}"))
        return (time.process_time() - start) / n

    first = seconds(10)
    seconds(280)
    assert seconds(10) < 3 * first + 0.005


def test_a_tampered_champion_is_not_compared_with(tmp_path):
    stage(tmp_path)
    registry = create_registry(home=tmp_path)
    package = registry.register(request())
    registry.set_status(GROUP, 1, APPROVED, "ada", "ok")
    write_json(registry.folder(package) / "evaluation/evaluation.json", evaluation(0.1))
    with pytest.raises(SkinLesionError, match="evaluation.json has changed"):
        champion(registry)


def test_a_version_outlives_its_run(tmp_path):
    import shutil

    stage(tmp_path)
    registry = create_registry(home=tmp_path)
    package = registry.register(request())
    shutil.rmtree(tmp_path / "s3")
    assert registry.verify(GROUP, 1) == []
    assert registry.evaluation(package)["lineage"] == {"data_hash": "abc"}


def test_nobodys_append_changes_a_version(tmp_path):
    stage(tmp_path)
    registry = create_registry(home=tmp_path)
    original = s3_path(tmp_path, "s3://models/runs/r1/model.tar.gz")
    copy = registry.folder(registry.register(request())) / "model.tar.gz"
    with open(original, "ab") as f:
        f.write(b"more")
    assert not copy.samefile(original) and registry.verify(GROUP, 1) == []


def test_a_missing_artefact_is_named(tmp_path):
    with pytest.raises(SkinLesionError, match="s3://models/runs/r1/model.tar.gz does not exist"):
        create_registry(home=tmp_path).register(request())
    assert create_registry(home=tmp_path).list() == []


@pytest.mark.parametrize(
    "uri", ["s3://models/../../etc/passwd", "/etc/passwd", "s3://", "file:///etc/passwd", "s3:///x"]
)
def test_a_uri_cannot_leave_home(tmp_path, uri):
    with pytest.raises(SkinLesionError):
        s3_path(tmp_path, uri)


def test_reading_while_others_write_never_fails(tmp_path):
    for i in range(4):
        stage(tmp_path, f"r{i}")
    registry = create_registry(home=tmp_path)
    registry.register(request("r0"))
    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(registry.register, request(f"r{i % 4}")) for i in range(20)]
        reads = [pool.submit(lambda: (registry.list(), registry.describe(GROUP, "latest"))) for _ in range(40)]
        assert all(f.result() for f in writes + reads)
    assert len(registry.list()) == 21


def test_the_local_registry_needs_no_boto3(tmp_path):
    code = "import sys; sys.modules['boto3'] = None; from skin_lesion_mlops.pipeline.registry import create_registry; "
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code + f"print(create_registry(home={str(tmp_path)!r}).list()); create_registry(region='x')",
        ],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[]\n" and "pip install 'skin_lesion_mlops[aws]'" in done.stderr
