"The local runner, on small hand-written definitions: expressions, jobs, caching, failure, interruption, concurrency."

import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from skin_lesion_mlops.core import SkinLesionError, read_json, try_lock
from skin_lesion_mlops.pipeline import cache, definition as pipeline, jobs, local, processes, steps
from skin_lesion_mlops.pipeline.cache import step_key
from skin_lesion_mlops.pipeline.expressions import Scope, resolve
from skin_lesion_mlops.pipeline.local import compare_runs, link_data, list_runs, load_run, run_pipeline

WRITE = """
import json, os, sys
out, *values = sys.argv[1:]
given = os.path.join(os.environ["SAGEMAKER_BASE_DIR"], "processing", "input")
files = {p: open(os.path.join(d, p)).read() for d, _, ps in os.walk(given, followlinks=True) for p in ps}
json.dump({"values": values, "files": files, "label": os.environ.get("LABEL", "")}, open(out + "/result.json", "w"))
"""
GET = {"Get": "Parameters.Value"}
RUN_ID = {"Get": "Execution.PipelineExecutionId"}


def s3(*parts):
    return {"Std:Join": {"On": "/", "Values": ["s3:/", *parts]}}


def text(name):
    return {"Std:Join": {"On": "", "Values": [{"Get": f"Parameters.{name}"}]}}


def processing(name, code=WRITE, arguments=(), inputs=None, environment=None, **more):
    "A step that runs Python code and leaves `result.json` in s3://out/<run>/<name>."
    folder = "/opt/ml/processing"
    return dict(
        Name=name,
        Type="Processing",
        Arguments=dict(
            AppSpecification=dict(
                ImageUri="image",
                ContainerEntrypoint=["python3", "-c", code] if isinstance(code, str) else code,
                ContainerArguments=[f"{folder}/out", *arguments],
            ),
            Environment=environment or {},
            ProcessingInputs=[
                dict(InputName=n, S3Input=dict(S3Uri=uri, LocalPath=f"{folder}/input/{n}"))
                for n, uri in (inputs or {}).items()
            ],
            ProcessingOutputConfig=dict(
                Outputs=[
                    dict(
                        OutputName="out",
                        S3Output=dict(
                            S3Uri=s3("out", RUN_ID, name),
                            LocalPath=f"{folder}/out",
                            S3UploadMode=more.pop("mode", "EndOfJob"),
                        ),
                    )
                ]
            ),
        ),
        CacheConfig=dict(Enabled=True, ExpireAfter="P30D"),
        PropertyFiles=[dict(PropertyFileName="Result", OutputName="out", FilePath="result.json")],
        **more,
    )


def training(code, hyperparameters=None, inputs=None, **more):
    return dict(
        Name="Train",
        Type="Training",
        Arguments=dict(
            AlgorithmSpecification=dict(
                TrainingImage="image",
                ContainerEntrypoint=["python3", "-c", code],
                MetricDefinitions=[dict(Name="loss", Regex="loss=([0-9.]+)")],
            ),
            HyperParameters=hyperparameters or {},
            InputDataConfig=[
                dict(ChannelName=n, DataSource=dict(S3DataSource=dict(S3DataType="S3Prefix", S3Uri=uri)))
                for n, uri in (inputs or {}).items()
            ],
            OutputDataConfig=dict(S3OutputPath=s3("models", RUN_ID)),
            CheckpointConfig=dict(S3Uri=s3("checkpoints", RUN_ID), LocalPath="/opt/ml/checkpoints"),
        ),
        CacheConfig=dict(Enabled=True),
        **more,
    )


def result(path, step="A"):
    return {"Std:JsonGet": {"PropertyFile": {"Get": f"Steps.{step}.PropertyFiles.Result"}, "Path": path}}


def fail(name="Refused", message="no"):
    return dict(Name=name, Type="Fail", Arguments=dict(ErrorMessage=message))


def condition(conditions, if_steps=(), else_steps=(), name="Gate"):
    a = dict(Conditions=conditions, IfSteps=list(if_steps), ElseSteps=list(else_steps))
    return dict(Name=name, Type="Condition", Arguments=a)


def definition(*steps, **parameters):
    kinds = {str: "String", int: "Integer", float: "Float", bool: "Boolean"}
    declared = [dict(Name=n, Type=kinds[type(v)], DefaultValue=v) for n, v in parameters.items()]
    return dict(Version="2020-12-01", Parameters=declared, Steps=list(steps))


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def data(home, tmp_path):
    "A folder of two old files, as a location in S3."
    folder = tmp_path / "data"
    folder.mkdir()
    for n in ("a", "b"):
        (folder / f"{n}.txt").write_text(n)
        os.utime(folder / f"{n}.txt", (1e9, 1e9))
    return folder, f"s3://raw/{link_data(home, folder, 'raw')}"


def run(d, home, parameters=None, **more):
    events = []
    more.setdefault("on_event", lambda e, r: events.append(e))
    r = run_pipeline(d, parameters, home, **more)
    return r, events


def written(r, step="A"):
    return read_json(r.home / "s3" / "out" / (r.step(step).cached or r.id) / step / "result.json")


# ---- expressions, as the runner sees them -----------------------------------------------------------------------


def test_arguments_are_resolved(home):
    a = processing("A", arguments=["x", text("Value"), {"Get": "Execution.PipelineName"}], environment=dict(LABEL=GET))
    b = processing("B", arguments=[result("values[1]"), {"Get": "Steps.A.ProcessingJobStatus"}])
    b["Arguments"]["ProcessingInputs"] = [
        dict(
            InputName="in",
            S3Input=dict(
                S3Uri={"Get": "Steps.A.ProcessingOutputConfig.Outputs['out'].S3Output.S3Uri"},
                LocalPath="/opt/ml/processing/input/in",
            ),
        )
    ]
    r, _ = run(definition(b, a, Value="7"), home, dict(Value="8"), name="demo")
    assert r.status == "Succeeded", r.reason
    assert [s.name for s in r.steps] == ["A", "B"]  # B comes first in the definition and waits
    assert written(r)["values"] == ["x", "8", "demo"] and written(r)["label"] == "8"
    assert written(r, "B")["values"] == ["8", "Completed"]
    assert "result.json" in written(r, "B")["files"]


NUMBER = result("number")


@pytest.mark.parametrize(
    "c, passes",
    [
        (dict(Type="Equals", LeftValue=NUMBER, RightValue=3), True),
        (dict(Type="Equals", LeftValue=NUMBER, RightValue=4), False),
        (dict(Type="GreaterThan", LeftValue=NUMBER, RightValue=3), False),
        (dict(Type="GreaterThanOrEqualTo", LeftValue=NUMBER, RightValue=3.0), True),
        (dict(Type="LessThan", LeftValue=NUMBER, RightValue={"Get": "Parameters.Limit"}), True),
        (dict(Type="LessThanOrEqualTo", LeftValue=NUMBER, RightValue=2.9), False),
        (dict(Type="In", QueryValue={"Get": "Parameters.Word"}, Values=["a", "b"]), True),
        (dict(Type="In", QueryValue={"Get": "Parameters.Word"}, Values=["c"]), False),
        (dict(Type="Not", Expression=dict(Type="Equals", LeftValue=NUMBER, RightValue=3)), False),
        (
            dict(
                Type="Or",
                Conditions=[
                    dict(Type="Equals", LeftValue=NUMBER, RightValue=9),
                    dict(Type="Not", Expression=dict(Type="GreaterThan", LeftValue=NUMBER, RightValue=9)),
                ],
            ),
            True,
        ),
    ],
)
def test_operators_choose_the_branch(home, monkeypatch, c, passes):
    monkeypatch.setattr(steps, "run_process", lambda job, watch, **more: _pretend(job, dict(number=3)))
    d = definition(
        processing("A"),
        condition([c], [processing("Yes")], [processing("No")]),
        Limit=3.5,
        Word="b",
    )
    r, _ = run(d, home)
    assert r.status == "Succeeded", r.reason
    assert [s.name for s in r.steps] == ["A", "Gate", "Yes" if passes else "No"]


def _pretend(job, content):
    "Stands for a job that writes a result."
    (job.ml / "processing" / "out" / "result.json").write_text(json.dumps(content))
    job.log.write_text("")
    return 0


def test_conditions_are_anded_and_all_are_kept(home):
    yes, no = (dict(Type="Equals", LeftValue=text("N"), RightValue=v) for v in ("1", "2"))
    r, _ = run(definition(condition([yes, no], [], [fail()]), N=1), home)
    assert r.status == "NotRegistered" and [c["passed"] for c in r.gate] == [True, False]


def test_a_json_path_that_leads_nowhere_is_explained(home):
    c = dict(Type="Equals", LeftValue=result("metrics.accuracy.value"), RightValue=1)
    r, _ = run(definition(processing("A"), condition([c])), home)
    assert r.status == "Failed" and r.step("Gate").status == "Failed"
    assert "result.json of step A has no 'metrics.accuracy.value': no 'metrics' at the top" in r.reason
    assert "values, files, label" in r.reason  # what there is instead


def test_json_straight_from_s3(home):
    place = home / "s3" / "config" / "x.json"
    place.parent.mkdir(parents=True)
    place.write_text('{"deep": [{"key": "v"}]}')
    get = {"Std:JsonGet": {"S3Uri": s3("config", "x.json"), "Path": "deep[0]['key']"}}
    r, _ = run(definition(processing("A", arguments=[get])), home)
    assert written(r)["values"] == ["v"]


# ---- refusing ----------------------------------------------------------------------------------------------------


def test_unknown_parameters_are_refused_with_the_nearest_name(home):
    with pytest.raises(SkinLesionError, match="unknown parameter AccuracyTreshold\n.*did you mean AccuracyThreshold"):
        run_pipeline(pipeline.definition(), dict(AccuracyTreshold=0.9), home)
    assert not home.exists()  # nothing was begun


@pytest.mark.parametrize("given", [dict(Epochs="many"), dict(Weights="hub"), dict(ModelApprovalStatus="yes")])
def test_values_are_checked(home, given):
    with pytest.raises(SkinLesionError, match=next(iter(given))):
        run_pipeline(pipeline.definition(), given, home)


def test_missing_data_is_told_before_anything_runs(home):
    with pytest.raises(SkinLesionError, match="nothing at s3://skin-lesion-raw/ham10000"):
        run_pipeline(pipeline.definition(), {}, home)


def test_what_cannot_be_started_fails_the_step(home):
    r, _ = run(definition(processing("A", ["no-such-program"]), processing("B")), home)
    assert r.status == "Failed" and "cannot start" in r.step("A").reason and r.step("B").status == "Succeeded"


def test_a_step_without_an_entry_point_is_told_before_anything_runs(home):
    with pytest.raises(SkinLesionError, match="step A: it has no ContainerEntrypoint"):
        run(definition(processing("B"), processing("A", [])), home)
    assert not (home / "runs").exists()


# ---- jobs --------------------------------------------------------------------------------------------------------

TRAIN = """
import json, os, pathlib
ml = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"])
assert os.environ["SM_MODEL_DIR"] == str(ml / "model")
assert os.environ["SM_CHANNEL_TRAIN"] == str(ml / "input/data/train")
assert os.environ["SM_HP_LEARNING_RATE"] == "0.001" and json.loads(os.environ["SM_HPS"])["learning_rate"] == 0.001
assert json.load(open(ml / "input/config/hyperparameters.json")) == {"learning_rate": "0.001"}
assert "train" in json.load(open(ml / "input/config/inputdataconfig.json"))
assert json.load(open(ml / "input/config/resourceconfig.json"))["hosts"] == ["algo-1"]
names = sorted(os.listdir(os.environ["SM_CHANNEL_TRAIN"]))
pathlib.Path(os.environ["SM_MODEL_DIR"], "model.txt").write_text(" ".join(names))
print("loss=2.5"); print("loss=0.25")
"""


def test_training_job(home, data):
    d = definition(
        training(TRAIN, dict(learning_rate=text("LearningRate")), dict(train=data[1])),
        processing("A", inputs=dict(model={"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"})),
        LearningRate=0.001,
    )
    d["Steps"][1]["Arguments"]["AppSpecification"]["ContainerEntrypoint"][2] = WRITE.replace(".read()", ".name")
    r, _ = run(d, home)
    assert r.status == "Succeeded", r.reason
    model = home / "s3" / "models" / r.id / f"pipelines-{r.id}-Train" / "output" / "model.tar.gz"
    with tarfile.open(model) as tar:
        assert tar.getnames() == ["model.txt"] and tar.extractfile("model.txt").read() == b"a.txt b.txt"
        assert tar.getmembers()[0].mtime == 0
    assert list(written(r)["files"]) == ["model.tar.gz"]
    assert r.step("Train").properties["FinalMetricDataList"]["loss"]["Value"] == 0.25
    assert not list((r.folder / "Train" / "ml" / "input" / "data" / "train").iterdir())  # shown, not copied


def test_training_that_leaves_no_model_fails(home):
    r, _ = run(definition(training("print('done')")), home)
    assert r.status == "Failed" and "left no model" in r.reason


def test_failure_reason_is_the_jobs_own(home):
    code = (
        "import os,sys; open(os.environ['SAGEMAKER_BASE_DIR']+'/output/failure','w').write('loss is nan'); sys.exit(3)"
    )
    r, _ = run(definition(training(code)), home)
    assert r.reason == "Train: AlgorithmError: loss is nan"


def test_only_continuous_outputs_survive_a_failure(home):
    code = "import sys; open(sys.argv[1] + '/evidence.txt', 'w').write('x'); sys.exit(1)"
    for mode, kept in (("Continuous", True), ("EndOfJob", False)):
        r, _ = run(definition(processing("A", code, mode=mode)), home)
        assert r.status == "Failed"
        assert (home / "s3" / "out" / r.id / "A" / "evidence.txt").exists() is kept


def test_a_failing_notebook_points_to_the_cell(home, tmp_path):
    cells = [
        new_code_cell("divisor: int = 0  # what to divide by", metadata=dict(tags=["parameters"])),
        new_code_cell("print('so far so good')"),
        new_code_cell("1 / divisor"),
    ]
    notebook = tmp_path / "halve.ipynb"
    nbformat.write(new_notebook(cells=cells), notebook)
    command = ["python3", "-m", "skin_lesion_mlops.pipeline.launch", str(notebook), "--out"]
    r, events = run(definition(processing("A", command, mode="Continuous")), home)
    assert r.status == "Failed"
    assert "halve.ipynb, cell 2: ZeroDivisionError: division by zero" in r.step("A").reason
    found = local.evidence(r, r.step("A"))
    assert set(found) == {"report", "notebook", "log"} and "ZeroDivisionError" in found["report"].read_text()
    assert any(e.kind == "progress" and e.total == 3 for e in events)  # papermill's cells
    assert "ZeroDivisionError" in r.page.read_text()


# ---- failure and retries ------------------------------------------------------------------------------------------


def test_other_branches_go_on_and_dependents_do_not(home):
    d = definition(
        processing("A", "raise SystemExit(1)"),
        processing("B", DependsOn=["A"]),
        processing("C", DependsOn=["B"]),
        processing("D"),
        condition([dict(Type="Equals", LeftValue=result("label", "A"), RightValue="")], [processing("E")]),
    )
    r, _ = run(d, home)
    assert {s.name: s.status for s in r.steps} == dict(
        A="Failed", D="Succeeded", B="NotStarted", C="NotStarted", Gate="NotStarted"
    )
    assert r.status == "Failed" and r.reason.startswith("A: ") and r.step("B").reason == "needs A"
    assert load_run(home).reason == r.reason


def test_a_fail_step_ends_the_run(home):
    late = processing("Late", DependsOn=["Gate"])
    r, _ = run(definition(condition([], [fail(message=s3("b", RUN_ID))]), late), home)
    assert r.status == "NotRegistered" and r.reason == f"s3://b/{r.id}"
    assert r.step("Late").status == "NotStarted"
    r, _ = run(definition(fail(message="never")), home)
    assert r.status == "Failed"  # not the outcome of a condition


FLAKY = """
import os, pathlib, sys
tries = pathlib.Path(os.environ["LABEL"])
n = int(tries.read_text()) if tries.exists() else 0
tries.write_text(str(n + 1))
if n < 2:
    pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "output", "message").write_text(sys.argv[2]); sys.exit(1)
open(sys.argv[1] + "/result.json", "w").write("{}")
"""


@pytest.mark.parametrize(
    "message, attempts, outcome",
    [
        ("CapacityError: none left", 3, "Succeeded"),
        ("ThrottlingException: slow down", 1, "Failed"),
        ("a bug", 1, "Failed"),
    ],
)
def test_retry_policies(home, tmp_path, monkeypatch, message, attempts, outcome):
    monkeypatch.setattr(steps, "MAX_WAIT", 0.01)
    policy = dict(ExceptionType=["SageMaker.CAPACITY_ERROR"], IntervalSeconds=60, BackoffRate=2.0, MaxAttempts=2)
    flaky = processing("A", FLAKY, [message], environment=dict(LABEL=str(tmp_path / "tries")), RetryPolicies=[policy])
    r, events = run(definition(flaky), home)
    assert (r.step("A").attempts, r.status) == (attempts, outcome)
    assert sum(e.kind == "retry" for e in events) == attempts - 1


# ---- caching -----------------------------------------------------------------------------------------------------


def test_nothing_changed_nothing_runs(home, data):
    d = definition(processing("A", inputs=dict(raw=data[1])), processing("B", arguments=[result("files['a.txt']")]))
    first, _ = run(d, home)
    start = time.process_time()
    second, events = run(d, home)
    assert time.process_time() - start < 2
    assert [s.cached for s in second.steps] == [first.id, first.id] and second.id != first.id
    assert [e.kind for e in events if e.step] == ["started", "cached"] * 2
    assert not (home / "s3" / "out" / second.id).exists()  # nothing is copied, and nothing linked


def test_who_reads_a_cached_result_by_this_runs_path_is_led_to_it(home):
    by_path = processing("B", inputs=dict(of_a=s3("out", RUN_ID, "A")), DependsOn=["A"])
    by_path["CacheConfig"]["Enabled"] = False
    d = definition(processing("A", arguments=["kept"]), by_path)
    first, second = run(d, home)[0], run(d, home)[0]
    assert second.status == "Succeeded", second.reason
    assert second.step("A").cached == first.id and not second.step("B").cached
    assert "kept" in written(second, "B")["files"]["result.json"]


CHANGES = dict(
    value=lambda d, folder: d["Parameters"][0].update(DefaultValue="other"),
    data=lambda d, folder: (folder / "a.txt").write_text("changed"),
    more_data=lambda d, folder: (folder / "c.txt").write_text("c"),
    environment=lambda d, folder: d["Steps"][0]["Arguments"]["Environment"].update(LABEL="x"),
    script=lambda d, folder: (folder.parent / "code.py").write_text(WRITE + "\nprint('and more')"),
    beside=lambda d, folder: (folder.parent / "helper.py").write_text("VALUE = 2"),
    hidden=lambda d, folder: (folder / ".labels").write_text("a,b"),
    image=lambda d, folder: d["Steps"][0]["Arguments"]["AppSpecification"].update(ImageUri="newer"),
    unknown=lambda d, folder: d["Steps"][0]["Arguments"]["ProcessingInputs"][0]["S3Input"].update(Field="new"),
    output=lambda d, folder: d["Steps"][0]["Arguments"]["ProcessingOutputConfig"]["Outputs"][0]["S3Output"].update(
        S3Uri="s3://elsewhere"
    ),
)
SCRIPT = "try:\n    import helper\nexcept ImportError:\n    pass\n" + WRITE
NO_CHANGES = dict(
    machine=lambda d, folder: d["Steps"][0]["Arguments"].update(
        ProcessingResources=dict(ClusterConfig=dict(InstanceType="ml.m5.large", VolumeSizeInGB=30))
    ),
    role=lambda d, folder: d["Steps"][0]["Arguments"].update(RoleArn="other"),
    dates=lambda d, folder: os.utime(folder / "a.txt", (2e9, 2e9)),
    comment=lambda d, folder: (folder.parent / "code.py").write_text("# a comment\n" + SCRIPT),
    noise=lambda d, folder: (folder / ".DS_Store").write_text("noise"),
    not_imported=lambda d, folder: (folder.parent / "other.py").write_text("VALUE = 2"),
)


@pytest.mark.parametrize("change", [*CHANGES, *NO_CHANGES])
def test_what_invalidates_the_cache(home, data, tmp_path, change):
    folder, uri = data
    (tmp_path / "code.py").write_text(SCRIPT)
    (tmp_path / "helper.py").write_text("VALUE = 1")
    command = ["python3", str(tmp_path / "code.py")]
    step = processing("A", command, [GET, {"Get": "Parameters.TriggeredBy"}], dict(raw=uri), dict(B="1"))
    d = definition(step, Value="v", TriggeredBy="manual")
    first, _ = run(d, home)
    assert first.status == "Succeeded", first.reason
    {**CHANGES, **NO_CHANGES}[change](d, folder)
    second, _ = run(d, home)
    assert second.step("A").cached == (first.id if change in NO_CHANGES else "")


def test_no_cache_runs_everything(home):
    d = definition(processing("A"))
    first, _ = run(d, home)
    second, _ = run(d, home, cache=False)
    third, _ = run(d, home)
    assert not second.step("A").cached and third.step("A").cached == second.id  # the newest result


def test_a_step_without_caching_is_never_cached(home):
    a = processing("A")
    a["CacheConfig"]["Enabled"] = False
    assert not [run(definition(a), home)[0].step("A").cached for _ in range(2)][1]


def test_a_tampered_output_is_not_reused(home):
    d = definition(processing("A"))
    first, _ = run(d, home)
    (home / "s3" / "out" / first.id / "A" / "result.json").write_text('{"values": ["forged"]}')
    second, _ = run(d, home)
    assert not second.step("A").cached and written(second)["values"] == []


def test_our_own_code_counts(home, monkeypatch, tmp_path):
    "An edit to a module that the step imports, and one to a module that it does not."
    command = ["python3", "-m", "skin_lesion_mlops.pipeline.launch", "evaluate"]
    files = {p.stem for p in cache.code_of(command)}
    assert {"core", "evaluate", "metrics"} <= files and "runs" not in files and "local" not in files
    key, real = key_of(command, home), cache._meaning
    monkeypatch.setattr(cache, "_meaning", lambda p: real(p) + ("changed" if p.stem == "core" else ""))
    assert key_of(command, home) != key
    monkeypatch.setattr(cache, "_meaning", lambda p: real(p) + ("changed" if p.stem == "local" else ""))
    assert key_of(command, home) == key


def key_of(command, home):
    "The key of a processing step that reads nothing."
    return step_key(dict(Type="Processing"), dict(AppSpecification=dict(ContainerEntrypoint=command)), home, "x")


TREE = {  # a package in the place of ours
    "__init__.py": "",
    "core.py": "A = 1",
    "data/__init__.py": "from .ready import R",
    "data/ready.py": "R = 1",
    "data/pictures.py": "B = 1",
    "data/check.py": "from ..core import A\nfrom . import pictures\ndef f():\n    from ..model import (\n        late)",
    "data/alone.py": "",
    "model/__init__.py": "",
    "model/late.py": "import json, skin_lesion_mlops.model.deep as deep",
    "model/deep.py": "C = 1",
    "model/alone.py": "",
    "model/broken.py": "def f(:",
    "model/zero.py": "a = '\0'",
    "pipeline/__init__.py": "",
    "pipeline/launch.py": "",
    "pipeline/alone.py": "",
}
CHECK, LAUNCH = ["-m", "skin_lesion_mlops.data.check"], ["-m", "skin_lesion_mlops.pipeline.launch"]
IMPORTED = {
    "from ..core import x": (CHECK, "core.py"),
    "from . import sibling": (CHECK, "data/pictures.py"),
    "through a wing's __init__": (CHECK, "data/ready.py"),
    "the wing's __init__ itself": (CHECK, "data/__init__.py"),
    "the package's __init__": (CHECK, "__init__.py"),
    "inside a function": (CHECK, "model/late.py"),
    "dotted submodule": (CHECK, "model/deep.py"),
    "the module itself": (CHECK, "data/check.py"),
    "a script of the user's": (["script.py"], "data/pictures.py"),
    "a script, at second hand": (["script.py"], "model/deep.py"),
    "a step notebook": ([*LAUNCH, "report"], "data/pictures.py"),
    "a step notebook, by its path": ([*LAUNCH, "steps/report.ipynb"], "data/pictures.py"),
    "a module that cannot be parsed": (["-m", "skin_lesion_mlops.model.broken"], "data/alone.py"),
    "a module with a zero byte": (["-m", "skin_lesion_mlops.model.zero"], "data/alone.py"),
    "a script that cannot be parsed": (["broken.py"], "data/alone.py"),
    "a notebook that cannot be parsed": ([*LAUNCH, "magic"], "data/alone.py"),
}
NOT_IMPORTED = {
    f"{file} by {command[-1]}": (command, file)
    for command in (CHECK, ["script.py"], [*LAUNCH, "report"])
    for file in ("data/alone.py", "model/alone.py", "pipeline/alone.py")
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    "The toy package, scripts and step notebooks; the folder of the package."
    root, steps = tmp_path / "skin_lesion_mlops", tmp_path / "steps"
    for name, text_of in TREE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text_of)
    (tmp_path / "script.py").write_text("def f():\n    from skin_lesion_mlops.data.check import f")
    (tmp_path / "broken.py").write_text("from skin_lesion_mlops import (")
    steps.mkdir()
    for name, code in (("report", "%matplotlib inline\nfrom skin_lesion_mlops.data import pictures"), ("magic", "a b")):
        nbformat.write(new_notebook(cells=[new_code_cell(code)]), steps / f"{name}.ipynb")
    monkeypatch.setattr(cache, "ROOT", root)
    monkeypatch.setattr(cache, "steps_dir", lambda: steps)
    monkeypatch.chdir(tmp_path)
    return root


@pytest.mark.parametrize("how", IMPORTED)
def test_a_change_of_an_imported_module_changes_the_key(home, package, how):
    command, file = IMPORTED[how]
    before = key_of(command, home)
    assert key_of(command, home) == before
    (package / file).write_text((package / file).read_text() + "\nCHANGED = 1\n")
    assert key_of(command, home) != before


@pytest.mark.parametrize("what", NOT_IMPORTED)
def test_a_change_of_another_module_does_not(home, package, what):
    command, file = NOT_IMPORTED[what]
    before = key_of(command, home)
    (package / file).write_text("CHANGED = 1\n")
    assert key_of(command, home) == before


def test_new_versions_of_packages_count(home, monkeypatch):
    d = definition(processing("A"))
    run(d, home)
    monkeypatch.setattr(cache, "versions", lambda: dict(torch="99"))
    assert not run(d, home)[0].step("A").cached


# ---- registering -------------------------------------------------------------------------------------------------


def registering(group="lesions"):
    a = dict(
        ModelPackageGroupName=group,
        ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification=dict(
            Containers=[dict(Image="image", ModelDataUrl={"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"})],
            SupportedContentTypes=["image/jpeg"],
            SupportedResponseMIMETypes=["application/json"],
        ),
        CustomerMetadataProperties=dict(run={"Get": "Execution.PipelineExecutionArn"}, seed=text("Seed")),
    )
    return dict(Name="Register", Type="RegisterModel", Arguments=a)


FIT = "import os; open(os.environ['SM_MODEL_DIR'] + '/m.txt', 'w').write(os.environ['SM_HP_SEED'])"


def test_registering_the_same_model_twice_gives_one_version(home):
    d = definition(training(FIT, dict(seed=text("Seed"))), registering(), Seed=1)
    first, second = run(d, home)[0], run(d, home)[0]
    assert first.status == second.status == "Succeeded", first.reason
    assert first.model["ModelPackageVersion"] == second.model["ModelPackageVersion"] == 1
    other = run(d, home, dict(Seed=2))[0]
    assert other.model["ModelPackageVersion"] == 2
    again = run(d, home, cache=False)[0]
    assert again.model["ModelPackageVersion"] == 3  # asked for anew
    assert first.model["ModelApprovalStatus"] == "PendingManualApproval"


# ---- interruption ------------------------------------------------------------------------------------------------

SLOW = """
import os, pathlib, signal, sys, time
kept = pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "checkpoints")
def save(*_): (kept / "saved").write_text("x"); print("saved", flush=True); sys.exit(1)
signal.signal(signal.SIGTERM, save)
begin = len(list(kept.glob("epoch-*")))
for i in range(begin, 3):
    print(f"epoch={i + 1} loss={1 / (i + 1)}", flush=True)
    while i >= 1 and not pathlib.Path(os.environ["GO"]).exists(): time.sleep(0.05)
    (kept / f"epoch-{i}").write_text("")
pathlib.Path(os.environ["SM_MODEL_DIR"], "m.txt").write_text(f"from epoch {begin}")
"""
RUNNER = """
import json, sys
from skin_lesion_mlops.pipeline.local import run_pipeline
r = run_pipeline(json.load(open(sys.argv[1])), {}, sys.argv[2])
sys.exit({"Succeeded": 0, "Stopped": 130}.get(r.status, 1))
"""


@pytest.fixture
def slow(tmp_path, home):
    "A definition whose training hangs until a file appears, and a function that starts a runner on it."
    train = training(SLOW, dict(epochs="3"), Environment=None)
    del train["Environment"]
    train["Arguments"]["Environment"] = dict(GO=str(tmp_path / "go"))
    train["DependsOn"] = ["A"]
    d = definition(processing("A"), train, processing("B", DependsOn=["Train"]))
    (tmp_path / "d.json").write_text(json.dumps(d))

    def start():
        command = [sys.executable, "-c", RUNNER, str(tmp_path / "d.json"), str(home)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    return start, tmp_path / "go"


def until(what, seconds=120.0):
    "Wait for something to be true."
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def training_hangs(home):
    return lambda: any("epoch=2" in p.read_text() for p in home.glob("runs/*/Train/log.txt"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_as_a_job_starts_leaves_nobody_behind(home, monkeypatch, number):
    "The signal comes when the process is there and nothing is written down of it."
    started, start = [], processes._start

    def interrupted(*args):
        started.append(start(*args))
        os.kill(os.getpid(), number)
        return started[-1]

    monkeypatch.setattr(processes, "_start", interrupted)
    r, events = run(definition(processing("A", "import time; time.sleep(60)")), home)
    assert r.status == r.step("A").status == "Stopped" and "stopping" in [e.kind for e in events]
    assert started[0].poll() is not None and (r.folder / "A" / "pid").read_text() == str(started[0].pid)
    assert try_lock(r.folder / "A" / "lock") is not None


def test_an_orphan_nobody_noted_is_waited_for_and_nothing_else_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(processes.os, "killpg", lambda *a: pytest.fail("who is that?"))
    lock = try_lock(tmp_path / "lock")
    threading.Timer(0.3, lock.close).start()
    assert processes.end_orphan(tmp_path)


def test_killed_outright_and_continued(home, slow):
    start, go = slow
    runner = start()
    until(training_hangs(home))
    folder = next(home.glob("runs/*/Train"))
    orphan = (folder / "pid").read_text()
    runner.kill()
    runner.wait()
    assert try_lock(folder / "lock") is None  # the job has outlived its runner
    stopped = load_run(home)
    assert stopped.status == "Stopped" and "run it again" in stopped.reason
    again = start()
    until(lambda: (folder / "pid").read_text() not in (orphan, ""))  # ... and not the runner that takes over
    go.touch()
    assert again.wait(120) == 0
    said = again.stderr.read()
    assert f"run {stopped.id}" in said and "continued" in said and "left behind" in said and "done before" in said
    (r,) = list_runs(home)
    assert r.id == stopped.id and r.status == "Succeeded" and len(r.resumed) == 1
    uri = r.step("Train").properties["ModelArtifacts"]["S3ModelArtifacts"]
    with tarfile.open(home / "s3" / uri[5:]) as tar:
        assert tar.extractfile("m.txt").read() == b"from epoch 1"  # not from the beginning


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_continued(home, slow, sign):
    start, go = slow
    runner = start()
    until(training_hangs(home))
    runner.send_signal(sign)
    assert runner.wait(120) == 130
    (r,) = list_runs(home)
    assert r.status == "Stopped" and r.step("Train").status == "Stopped" and r.step("A").status == "Succeeded"
    assert "saved" in (r.folder / "Train" / "log.txt").read_text()  # the job had time to save its work
    go.touch()
    assert start().wait(120) == 0
    assert [x.status for x in list_runs(home)] == ["Succeeded"] and list_runs(home)[0].id == r.id


def test_a_job_that_does_not_listen_is_killed(home, tmp_path, monkeypatch):
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    job = jobs.Job(
        "A",
        "Processing",
        resolve(processing("A", code)["Arguments"], Scope({}, dict(PipelineExecutionId="x"))),
        tmp_path / "A",
        home,
        "x",
    )
    jobs.prepare(job)
    asked = []

    def ask():
        until(lambda: job.log.exists() and "deaf" in job.log.read_text())
        asked.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=ask).start()
    with pytest.raises(KeyboardInterrupt):
        processes.run_process(job, grace=0.5)
    assert time.monotonic() - asked[0] < 20  # the usual grace is 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "A" / "pid").read_text()), 0)


def test_changed_data_begins_a_new_run(home, data):
    folder, uri = data
    d = definition(processing("A", inputs=dict(raw=uri)))
    values, code = local.signature_of(d, {}, home, True)
    assert local.signature_of(d, {}, home, True) == (values, code)
    assert local.signature_of(d, {}, home, False)[0] != values
    (folder / "a.txt").write_text("changed")
    assert local.signature_of(d, {}, home, True)[0] != values


# ---- concurrency -------------------------------------------------------------------------------------------------


def test_two_runs_at_once_do_not_meet(home, slow):
    "The second does not continue the first, which is alive; both end well."
    start, go = slow
    runners = [start(), start()]
    until(lambda: sum("epoch=2" in p.read_text() for p in home.glob("runs/*/Train/log.txt")) == 2)
    assert {r.status for r in list_runs(home)} == {"Running"}
    go.touch()
    assert [r.wait(120) for r in runners] == [0, 0]
    found = list_runs(home)
    assert len({r.id for r in found}) == 2 and {r.status for r in found} == {"Succeeded"}
    assert len({r.step("Train").outputs["model"] for r in found}) == 2


def test_many_at_once(home, data):
    d = definition(processing("A", arguments=[text("N")], inputs=dict(raw=data[1])), N=0)
    done = []

    def one(n):
        done.append(run(d, home, dict(N=n % 2))[0])

    threads = [threading.Thread(target=one, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [r.status for r in done] == ["Succeeded"] * 6 and len({r.id for r in done}) == 6
    assert all(written(r)["values"] == [str(r.parameters["N"])] for r in done)


# ---- records -----------------------------------------------------------------------------------------------------


MEASURE = """
import json, sys
found = {"m_metrics": {"f1": {"value": float(sys.argv[2])}}, "lineage": {"data_hash": "d"}}
json.dump(found, open(sys.argv[1] + "/result.json", "w"))
"""


def test_records(home):
    d = definition(processing("A", MEASURE, [text("N")]), N=0.5)
    a, b = run(d, home)[0], run(d, home, dict(N=0.75))[0]
    assert a.metrics == {"f1": 0.5} and a.data_hash == "d"
    found = compare_runs(a, b)
    assert found["parameters"] == {"N": (0.5, 0.75)} and found["metrics"] == {"f1": (0.5, 0.75)}
    assert found["run"]["data"] == ("d", "d") and found["versions"] == {}
    assert [r.id for r in list_runs(home)] == [b.id, a.id] and load_run(home, "latest").id == b.id
    stored = read_json(a.folder / "run.json")
    for key in ("status", "parameters", "steps", "definition_hash", "code_hash", "versions", "metrics"):
        assert stored[key] or key == "parameters", key
    assert read_json(a.folder / "definition.json") == d
    page = a.page.read_text()
    assert "0.500" in page and "A/log.txt" in page and "https://" not in page


def test_the_default_install_is_enough():
    "The runner needs neither boto3 nor the SDK, and does not load torch."
    program = (
        "import sys; sys.modules['boto3'] = sys.modules['botocore'] = sys.modules['sagemaker'] = None\n"
        "import skin_lesion_mlops.pipeline.local\n"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_ten_thousand_files_are_looked_at_in_no_time(home, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(10_015):
        (folder / f"{i}.jpg").write_bytes(b"%d" % i)
        os.utime(folder / f"{i}.jpg", (1e9, 1e9))
    d = definition(processing("A", "import sys; open(sys.argv[1] + '/result.json', 'w').write('{}')"))
    d["Steps"][0]["Arguments"]["ProcessingInputs"] = [
        dict(InputName="raw", S3Input=dict(S3Uri=f"s3://raw/{link_data(home, folder, 'raw')}", LocalPath="/opt/ml/x"))
    ]
    run(d, home)
    start = time.process_time()
    assert run(d, home)[0].step("A").cached
    assert time.process_time() - start < 3


# ---- the committed pipeline --------------------------------------------------------------------------------------

PREPROCESS = """
import os, pathlib, sys
given = dict(zip(sys.argv, sys.argv[1:]))
for name in ("train", "validation", "test", "baseline"):
    folder = pathlib.Path(given[f"output_{name}"])
    (folder / "dataset.json").write_text("{}")
    (folder / "statistics.json").write_text("{}"); (folder / "constraints.json").write_text("{}")
pathlib.Path(given["--out"], "preprocess.html").write_text("<h1>Preprocess</h1>")
"""
FIT_LESIONS = """
import os, pathlib, time
for epoch in range(1, int(os.environ["SM_HP_EPOCHS"]) + 1):
    print(f"epoch={epoch} train_loss={1.8 / epoch:.3f} validation_loss={1.9 / epoch + 0.1:.3f} "
          f"validation_balanced_accuracy={0.85 - 0.6 / epoch:.3f}", flush=True)
pathlib.Path(os.environ["SM_MODEL_DIR"], "bundle.json").write_text("{}")
assert os.listdir(os.environ["SM_CHANNEL_TRAIN"]) and os.path.isdir(os.environ["SM_CHANNEL_WEIGHTS"])
"""
EVALUATE = """
import json, pathlib, sys
import pandas as pd
from skin_lesion_mlops.evaluation.conclusion import decide, gate
given = dict(zip(sys.argv, sys.argv[1:]))
assert pathlib.Path(given["input_model"], "model.tar.gz").is_file()
figures = dict(accuracy=0.871, balanced_accuracy=0.742, malignant_sensitivity=0.912, ece=0.031)
rows = {n: dict(value=v, low=v - 0.03, high=v + 0.03, standard_error=0.015) for n, v in figures.items()}
table = pd.DataFrame(rows).T
asked = dict(accuracy="accuracy_threshold", balanced_accuracy="min_balanced_accuracy", ece="max_ece")
asked.update(malignant_sensitivity="min_malignant_sensitivity", champion_difference="min_champion_difference")
guards = gate(table, {n: float(given[p]) for n, p in asked.items()})
decision = decide(guards)
e = {
    "multiclass_classification_metrics": {
        "accuracy": {"value": 0.871, "standard_deviation": 0.012},
        "balanced_accuracy": {"value": 0.742, "standard_deviation": 0.021}, "auc_macro": {"value": 0.958}},
    "intervals": {"accuracy": [0.846, 0.894], "balanced_accuracy": [0.701, 0.782], "auc_macro": [0.94, 0.97]},
    "gate": guards,
    "decision": decision,
    "conclusion": [f"The model does not pass the gate: {'; '.join(decision['reasons'])}."],
    "lineage": {"data_hash": "d" * 64, "model_hash": "e" * 64},
    "model_card_content": json.dumps({"model_overview": {"model_creator": "test"}}),
}
pathlib.Path(given["output_evaluation"], "evaluation.json").write_text(json.dumps(e))
pathlib.Path(given["--out"], "evaluate.html").write_text("<h1>Evaluate</h1>")
"""


@pytest.fixture
def lesions():
    "The committed definition, its three jobs replaced by quick ones; everything around them is as it is."
    d = pipeline.definition()
    jobs = {s["Name"]: s["Arguments"] for s in d["Steps"]}
    for name, code in (("Preprocess", PREPROCESS), ("Evaluate", EVALUATE)):
        jobs[name]["AppSpecification"]["ContainerEntrypoint"] = ["python3", "-c", code]
    jobs["Train"]["AlgorithmSpecification"]["ContainerEntrypoint"] = ["python3", "-c", FIT_LESIONS]
    return d


def test_the_committed_pipeline_registers(home, data, lesions):
    prefix = link_data(home, data[0])
    r, events = run(lesions, home, dict(RawPrefix=prefix, Epochs=4))
    assert r.status == "Succeeded", r.reason
    assert [s.name for s in r.steps] == ["Preprocess", "Train", "Evaluate", "Gate", "Register"]
    assert r.model["ModelPackageVersion"] == 1 and r.model["ModelApprovalStatus"] == "PendingManualApproval"
    about = r.model["CustomerMetadataProperties"]
    assert about["data_hash"] == "d" * 64 and about["accuracy"] == "0.871" and r.id in about["pipeline_execution"]
    assert json.loads(r.model["ModelCard"]["ModelCardContent"])["model_overview"]
    assert any(e.kind == "progress" and e.step == "Train" and e.total == 4 for e in events)
    assert len(r.gate) == 2 and all(c["passed"] for c in r.gate)
    assert r.decision == dict(passed=True, reasons=[]) and len(r.guards) == 5
    labels = dict(
        RawPrefix=prefix, Epochs=4, TriggeredBy="schedule", CodeVersion="abc", TrainingInstanceType="ml.g5.xlarge"
    )
    again, _ = run(lesions, home, labels)
    assert all(s.cached for s in again.steps if s.type != "Condition")
    assert again.model["ModelPackageVersion"] == 1


def test_the_committed_pipeline_refuses(home, data, lesions):
    given = dict(RawPrefix=link_data(home, data[0]), Epochs=1, AccuracyThreshold=0.9, MaxEce=0.05)
    r, _ = run(lesions, home, given)
    assert r.status == "NotRegistered" and not r.model
    assert r.reason == "Not registered. The model does not pass the gate: accuracy 0.871 is below 0.900."
    assert [c["passed"] for c in r.gate] == [False, False]


@pytest.mark.parametrize("least, registered", [(0.912, True), (0.9121, False)])
def test_a_guard_that_accuracy_knows_nothing_of_decides_as_well(home, data, lesions, least, registered):
    given = dict(RawPrefix=link_data(home, data[0]), Epochs=1, MinMalignantSensitivity=least)
    r, _ = run(lesions, home, given)
    assert (r.status == "Succeeded") is registered is bool(r.model) is r.decision["passed"]
    assert [c["passed"] for c in r.gate] == [True, registered]
    page = r.page.read_text()
    assert page.count(">off<") == 6, "three guards are off: no threshold, and nothing passed"
    if not registered:
        assert r.reason.endswith("malignant sensitivity 0.9120 is below 0.9121.") and r.reason[16:] in page


# ---- broken records, clocks, equal steps ---------------------------------------------------------------------------


def test_one_bad_record_spoils_only_itself(home):
    d = definition(processing("A"))
    first, _ = run(d, home)
    for entry in (home / "cache" / "steps").glob("*.json"):
        entry.write_text('{"run": "x"}')
    second, _ = run(d, home)
    assert second.status == "Succeeded" and not second.step("A").cached
    (second.folder / "run.json").write_text('{"id":')
    told = []
    assert [r.id for r in list_runs(home, say=told.append)] == [first.id] and second.id in told[0]
    assert load_run(home).id == first.id
    with pytest.raises(SkinLesionError, match="run.json"):
        load_run(home, second.id)
    third, _ = run(d, home)
    assert third.step("A").cached == second.id and third.id > second.id


def test_equal_steps_are_two_executions(home, tmp_path):
    code = (
        f"import os, time; open({str(tmp_path / 'n')!r}, 'a').write('x'); "
        "open(os.environ['SM_MODEL_DIR'] + '/m', 'w').write(str(time.time_ns()))"
    )
    one, two = training(code), dict(training(code), Name="Again", DependsOn=["Train"])
    for s in (one, two):
        del s["CacheConfig"]
    r, _ = run(definition(one, two), home)
    assert r.status == "Succeeded" and (tmp_path / "n").read_text() == "xx"
    assert r.step("Train").outputs != r.step("Again").outputs


def test_the_latest_run_is_the_last_whatever_the_clock_says(home, monkeypatch):
    d, ids = definition(processing("A")), []
    for zone, ahead in (("Asia/Tokyo", 0), ("America/New_York", 0), ("UTC", -86400)):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        monkeypatch.setattr("skin_lesion_mlops.pipeline.runs.time.time", lambda now=time.time, d=ahead: now() + d)
        ids.append(run(d, home)[0].id)
        monkeypatch.undo()
    time.tzset()
    assert ids == sorted(ids) and load_run(home).id == ids[-1]


def test_a_full_disk_stops_the_run_and_the_same_command_continues_it(home, monkeypatch):
    import errno

    d = definition(processing("A"), processing("B", DependsOn=["A"]))
    real = steps.remember

    def full(file, where, entry):
        if entry["step"] == "B":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, where, entry)

    monkeypatch.setattr(steps, "remember", full)
    r, _ = run(d, home)
    assert r.status == "Stopped" and "No space left" in r.reason and load_run(home).status == "Stopped"
    monkeypatch.setattr(steps, "remember", real)
    again, _ = run(d, home)
    assert again.id == r.id and again.status == "Succeeded" and again.step("A").cached == r.id


@pytest.mark.parametrize("uri", [s3("stage", "x"), s3("stage", RUN_ID), s3("stage", text("Name"))])
def test_a_step_may_read_by_path_what_another_writes(home, uri):
    a, b = processing("A"), processing("B", inputs=dict(of_a=uri), DependsOn=["A"])
    a["Arguments"]["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"] = uri
    r, _ = run(definition(a, b, Name="n"), home)
    assert r.status == "Succeeded" and "result.json" in written(r, "B")["files"], r.reason


def test_a_condition_that_waits_for_its_own_branch_is_an_error(home):
    c = dict(Type="Equals", LeftValue=result("label", "E"), RightValue="")
    with pytest.raises(SkinLesionError, match="Gate, E wait for each other"):
        run(definition(condition([c], [processing("E")])), home)
