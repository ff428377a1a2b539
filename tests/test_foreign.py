"Definitions that this package has not written, run as their authors would type it."

import json
import sys
import tarfile
from pathlib import Path

import pytest

from skin_lesion_mlops.core import SkinLesionError
from tests import forks
from skin_lesion_mlops.pipeline.local import explain_step, list_runs, load_run, run_pipeline

BUCKET = "sagemaker-eu-central-1-111122223333"
ML = "/opt/ml"
PREPROCESS = """
import pathlib
rows = [r.split(",") for r in pathlib.Path("/opt/ml/processing/input/abalone.csv").read_text().split()]
for name, part in (("train", rows[::2]), ("test", rows[1::2])):
    out = pathlib.Path(f"/opt/ml/processing/{name}"); out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.csv").write_text("\\n".join(",".join(r) for r in part))
"""
TRAIN = """
import argparse, os, pathlib, helper
cli = argparse.ArgumentParser()
cli.add_argument("--scale", type=float); cli.add_argument("--model-dir", default=os.environ["SM_MODEL_DIR"])
args = cli.parse_args()
rows = [[float(v) for v in r.split(",")] for r in open("/opt/ml/input/data/train/train.csv").read().split()]
slope = helper.slope(rows) * args.scale
code = pathlib.Path(args.model_dir, "code"); code.mkdir(parents=True)
pathlib.Path(args.model_dir, "slope.txt").write_text(str(slope))
(code / "inference.py").write_text(pathlib.Path("inference.py").read_text())
print(f"slope={slope};")
"""
HELPER = "def slope(rows):\n    return sum(y for y, x in rows) / sum(x for y, x in rows)\n"
INFERENCE = """
def model_fn(model_dir): return float(open(model_dir + "/slope.txt").read())
def predict_fn(rows, slope): return [slope * float(row[-1]) for row in rows]
"""
EVALUATE = """
import json, pathlib, tarfile
tarfile.open("/opt/ml/processing/model/model.tar.gz").extract("slope.txt", "/opt/ml/processing")
slope = float(open("/opt/ml/processing/slope.txt").read())
rows = [[float(v) for v in r.split(",")] for r in open("/opt/ml/processing/test/test.csv").read().split()]
mse = sum((y - slope * x) ** 2 for y, x in rows) / len(rows)
pathlib.Path("/opt/ml/processing/evaluation/evaluation.json").write_text(
    json.dumps({"regression_metrics": {"mse": {"value": mse}}}))
"""


def written(name):
    "A definition as SageMaker's SDK 2 has written it."
    return json.loads((Path(__file__).parent / "definitions" / f"{name}.json").read_text())


@pytest.fixture
def place(tmp_path):
    "A folder with code and data, and a home in which a stand-in for the author's bucket shows them."
    code = tmp_path / "code"
    code.mkdir()
    files = dict(preprocess=PREPROCESS, evaluate=EVALUATE, train=TRAIN, helper=HELPER, inference=INFERENCE)
    for name, text in files.items():
        (code / f"{name}.py").write_text(text)
    (code / "requirements.txt").write_text("a-package-that-nobody-has==1")
    with tarfile.open(code / "sourcedir.tar.gz", "w:gz") as tar:
        for name in ("train.py", "helper.py", "inference.py", "requirements.txt"):
            tar.add(code / name, name)
    (tmp_path / "abalone.csv").write_text("\n".join(f"{3 * x},{x}" for x in range(1, 9)))
    return tmp_path


def typed(place, d, *words, status=0):
    "What a user types: the definition, and where its data is."
    (place / "d.json").write_text(json.dumps(d))
    shown = [f"s3://{BUCKET}/code={place / 'code'}", f"s3://{BUCKET}/abalone/abalone.csv={place / 'abalone.csv'}"]
    options = [w for s in shown for w in ("--s3", s)]
    command = [sys.executable, "-m", "skin_lesion_mlops.cli.app", "run", "--definition", str(place / "d.json")]
    command += [*options, "--home", str(place / "home"), *map(str, words)]
    done = forks.run(command, capture_output=True, text=True, cwd=place)
    assert done.returncode == status and "Traceback" not in done.stderr, (done.stdout, done.stderr)
    return done


def test_abalone_in_script_mode_registers(place):
    done = typed(place, written("abalone"))
    assert "registered  version 1 of AbaloneGroup" in done.stdout and "requirements.txt was left alone" in done.stderr
    assert "models approve 1 --group AbaloneGroup" in done.stdout and " of d\n" in done.stderr  # the file's name
    assert "Abalone-RegisterModel done" in done.stderr
    r = load_run(place / "home")
    assert float(r.step("Train").properties["FinalMetricDataList"]["slope"]["Value"]) == 3
    refused = typed(place, written("abalone"), "-p", "Scale=9.0", status=3)
    assert "mse" in refused.stdout
    again = load_run(place / "home")
    assert again.step("Preprocess").cached == r.id and not again.step("Train").cached
    why = "\n".join(explain_step(place / "home", again.id, "Train"))
    assert "no CacheConfig" in why and 'HyperParameters.scale: "1.0" -> "9.0"' in why


def test_a_tuning_step_is_named_with_all_else_that_cannot_run(place):
    d = written("tuning")
    d["Steps"].append(dict(Name="Notify", Type="Lambda", Arguments={}, FunctionArn="x"))
    d["Steps"][2]["Arguments"]["AlgorithmSpecification"]["TrainingInputMode"] = "Pipe"
    done = typed(place, d, status=1)
    for word in ("step Tune", "type Tuning", "step Notify", "TrainingInputMode is Pipe", "tune in SageMaker"):
        assert word in done.stderr
    assert not (place / "home" / "runs").exists()
    typed(place, d, "--only", "Preprocess")  # what is not selected need not be able to run


def test_batch_transform(place):
    typed(place, written("transform"))
    assert (place / f"home/s3/{BUCKET}/answers/test.csv.out").read_text().split() == ["6.0", "12.0", "18.0", "24.0"]


def test_a_model_that_brings_no_server_is_refused_by_name(place):
    (place / "code" / "train.py").write_text(TRAIN.replace('"inference.py").write', '"nothing.py").write'))
    with tarfile.open(place / "code" / "sourcedir.tar.gz", "w:gz") as tar:
        for name in ("train.py", "helper.py", "inference.py"):
            tar.add(place / "code" / name, name)
    typed(place, written("transform"), status=1)
    assert "model.tar.gz brings no server for /invocations" in load_run(place / "home").reason


def test_an_inference_pipeline_registers_both_models(place):
    typed(place, written("inference_pipeline"))
    folder = place / "home/registry/AbaloneGroup/1"
    assert (folder / "model.tar.gz").is_file() and (folder / "2/model.tar.gz").is_file()


def test_nested_conditions_and_the_branch_not_taken_needs_no_input(place):
    typed(place, written("nested"))
    assert [s.name for s in load_run(place / "home").steps] == ["Outer", "Inner", "Innermost", "Preprocess"]


def script(name, code, **more):
    arguments = dict(AppSpecification=dict(ImageUri="i", ContainerEntrypoint=["python3", "-c", code]), **more)
    return dict(Name=name, Type="Processing", Arguments=arguments)


def test_nested_conditions_of_sdk_3(tmp_path):
    "Conditions made by SageMaker's SDK itself, in a branch of a branch."
    conditions = pytest.importorskip("sagemaker.core.workflow.conditions")
    one = conditions.ConditionEquals(left=1, right=1)
    never = conditions.ConditionNot(expression=one).to_request()
    some = conditions.ConditionOr(conditions=[conditions.ConditionGreaterThan(left=1, right=2), one]).to_request()
    member = conditions.ConditionIn(value="b", in_values=["a", "b"]).to_request()

    def gate(name, c, yes=(), no=()):
        return dict(Name=name, Type="Condition", Arguments=dict(Conditions=[c], IfSteps=[*yes], ElseSteps=[*no]))

    absent = dict(InputName="i", S3Input=dict(S3Uri="s3://b/nothing", LocalPath=f"{ML}/processing/i"))
    not_taken = script("NotTaken", "", ProcessingInputs=[absent])
    inner = gate("Inner", some, [gate("Innermost", member, [script("Reached", "print(1)")])])
    r = run_pipeline(dict(Steps=[gate("Outer", never, [not_taken], [inner])]), {}, tmp_path, on_event=lambda e, r: None)
    assert r.status == "Succeeded" and [s.name for s in r.steps] == ["Outer", "Inner", "Innermost", "Reached"]


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "is not JSON"),
        ("[1]", "no pipeline definition"),
        ('{"Version": "2020-12-01"}', "no list of Steps"),
        ('{"Steps": [1]}', "cannot be read"),
        ('{"Steps": [{"Name": "A"}]}', "step A: it has no Type and no Arguments"),
        ('{"Parameters": [{"Type": "String"}], "Steps": []}', "no pipeline definition"),
        (b"\xff\xfe", "no pipeline definition"),
        ('{"Steps": [{"Name": "A", "Type": "Processing", "Arguments": {}}]}', "step A: it lacks 'AppSpecification'"),
    ],
)
def test_no_definition_gives_a_traceback(tmp_path, text, why):
    (tmp_path / "d.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    command = [sys.executable, "-m", "skin_lesion_mlops.cli.app", "run", "--definition", str(tmp_path / "d.json")]
    done = forks.run([*command, "--home", str(tmp_path / "home")], capture_output=True, text=True)
    assert done.returncode == 1 and why in done.stderr and "Traceback" not in done.stderr, done.stderr


# ---- hosts, times, some of the steps -----------------------------------------------------------------------------


def test_each_host_has_its_share(tmp_path):
    (tmp_path / "s3/raw").mkdir(parents=True)
    for n in "abcde":
        (tmp_path / "s3/raw" / n).write_text(n)
    code = (
        "import json, os; h = json.load(open(os.environ['SAGEMAKER_BASE_DIR'] + '/config/resourceconfig.json'))\n"
        "base = os.environ['SAGEMAKER_BASE_DIR'] + '/processing/'\n"
        "open(base + 'o/' + h['current_host'], 'w').write(''.join(sorted(os.listdir(base + 'i'))))"
    )
    given = dict(S3Uri="s3://raw", LocalPath=f"{ML}/processing/i", S3DataDistributionType="ShardedByS3Key")
    out = dict(OutputName="o", S3Output=dict(S3Uri="s3://out", LocalPath=f"{ML}/processing/o"))
    step = script(
        "P",
        code,
        ProcessingInputs=[dict(InputName="i", S3Input=given)],
        ProcessingOutputConfig=dict(Outputs=[out]),
        ProcessingResources=dict(ClusterConfig=dict(InstanceCount=3)),
    )
    r = run_pipeline(dict(Steps=[step]), {}, tmp_path, on_event=lambda e, r: None)
    assert r.status == "Succeeded", r.reason
    assert {p.name: p.read_text() for p in (tmp_path / "s3/out").iterdir()} == {
        "algo-1": "ad",
        "algo-2": "be",
        "algo-3": "c",
    }


def test_a_job_ends_when_its_time_is_over(tmp_path):
    step = script("P", "import time; time.sleep(60)", StoppingCondition=dict(MaxRuntimeInSeconds=1))
    r = run_pipeline(dict(Steps=[step]), {}, tmp_path, on_event=lambda e, r: None)
    assert r.status == "Failed" and "MaxRuntimeExceeded" in r.reason and r.seconds < 30


@pytest.mark.parametrize("most, together", [(dict(jobs=2), True), (dict(jobs=1), False)])
def test_steps_run_side_by_side_as_far_as_allowed(tmp_path, most, together):
    "Each waits a while for the other; alone it gives up."
    code = (
        "import pathlib, sys, time; here = pathlib.Path({0!r}); (here / '{1}').touch()\n"
        "for _ in range(300 if {3} else 10):\n"
        "    if (here / '{2}').exists(): sys.exit()\n"
        "    time.sleep(0.05)\n"
        "sys.exit('alone')"
    )
    steps = [script(a, code.format(str(tmp_path), a, b, together)) for a, b in (("A", "B"), ("B", "A"))]
    r = run_pipeline(dict(Steps=steps), {}, tmp_path / "home", on_event=lambda e, r: None, **most)
    assert (r.status == "Succeeded") is together


def test_selected_steps_take_what_they_need_from_the_last_run(place):
    with pytest.raises(SkinLesionError, match="no step Evaluat"):
        run_pipeline(written("abalone"), {}, place / "home", only=["Evaluat"])
    typed(place, written("abalone"))
    first = load_run(place / "home")
    typed(place, written("abalone"), "--from", "Evaluate")
    later = load_run(place / "home")
    assert {s.name: bool(s.cached) for s in later.steps} == dict(
        **dict(Preprocess=True, Train=True, Evaluate=False, CheckMse=False), **{"Abalone-RegisterModel": False}
    )
    assert later.step("Train").cached == first.id and later.model["ModelPackageVersion"] == 2
    done = typed(place, dict(written("abalone"), Steps=written("abalone")["Steps"][:1]), "--no-cache")
    assert "Preprocess" in done.stdout and not list_runs(Path(place / "home"))[0].step("Preprocess").cached
