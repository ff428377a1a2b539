"The command as a user and as a script meet it: in a process of its own, with its exit status, stdout and stderr."

import json
import os
import pty
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from skin_lesion_mlops.cli.app import app
from skin_lesion_mlops.cli.run import DEMO, take_weights
from skin_lesion_mlops.core import Files, s3_path, write_json
from skin_lesion_mlops.model.bundle import ARCHITECTURES
from skin_lesion_mlops.pipeline.registry import GROUP, create_registry
from tests import forks

LOW = "accuracy {:.3f} is below 0.850"


def evaluation(accuracy, threshold=0.85):
    "What an evaluate step writes, as far as anybody here reads it."
    guard = dict(value=accuracy, low=accuracy - 0.02, high=accuracy + 0.02, threshold=threshold)
    guard.update(direction="at least", blocks=True, passed=accuracy >= threshold, note="")
    figures = {
        "accuracy": {"value": accuracy, "standard_deviation": 0.01},
        "balanced_accuracy": {"value": accuracy - 0.1, "standard_deviation": 0.02},
    }
    ends = {n: [v["value"] - 0.02, v["value"] + 0.02] for n, v in figures.items()}
    return {
        "multiclass_classification_metrics": figures,
        "intervals": ends,
        "gate": {"accuracy": guard},
        "decision": {"passed": guard["passed"], "reasons": [] if guard["passed"] else [LOW.format(accuracy)]},
        "lineage": {"data_hash": "abc"},
    }


# --- a pipeline of three steps that takes a second

STEP = """
import json, pathlib, sys, time
accuracy, seconds, data = float(sys.argv[1]), float(sys.argv[2]), pathlib.Path("/opt/ml/processing/input/raw")
time.sleep(seconds)
if not sorted(p.name for p in data.iterdir()): sys.exit("no data")
if accuracy < 0: sys.exit("accuracy cannot be negative")
e = json.loads(sys.argv[3])
for v in [e["gate"]["accuracy"], e["multiclass_classification_metrics"]["accuracy"]]: v["value"] = accuracy
e["gate"]["accuracy"]["passed"] = e["decision"]["passed"] = accuracy >= 0.85
e["decision"]["reasons"] = [] if accuracy >= 0.85 else [f"accuracy {accuracy:.3f} is below 0.850"]
pathlib.Path("/opt/ml/processing/evaluation/evaluation.json").write_text(json.dumps(e))
pathlib.Path("/opt/ml/processing/model/model.tar.gz").write_text("weights")
"""


def get(name):
    "A reference to a parameter."
    return {"Get": f"Parameters.{name}"}


def text(*values):
    "Joined strings."
    return {"Std:Join": {"On": "", "Values": list(values)}}


def small_pipeline():
    "Evaluate -> Gate -> Register or NotRegistered."
    where = text("s3://", get("ModelsBucket"), "/runs/", {"Get": "Execution.PipelineExecutionId"}, "/")

    def output(name):
        path = f"/opt/ml/processing/{name}"
        uri = text(where, name)
        return {"OutputName": name, "S3Output": {"S3Uri": uri, "LocalPath": path, "S3UploadMode": "EndOfJob"}}

    raw = {"S3Uri": text("s3://", get("RawBucket"), "/", get("RawPrefix")), "LocalPath": "/opt/ml/processing/input/raw"}
    raw.update(S3DataType="S3Prefix", S3InputMode="File")
    accuracy = {
        "Std:JsonGet": {
            "PropertyFile": {"Get": "Steps.Evaluate.PropertyFiles.Report"},
            "Path": "multiclass_classification_metrics.accuracy.value",
        }
    }
    report = text(where, f"evaluation/{Files.EVALUATION}")
    register = {
        "ModelPackageGroupName": get("ModelPackageGroupName"),
        "InferenceSpecification": {
            "Containers": [{"Image": "i", "ModelDataUrl": text(where, "model/model.tar.gz")}],
            "SupportedContentTypes": ["image/jpeg"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
        "ModelMetrics": {"ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": report}}},
        "CustomerMetadataProperties": {
            "code_version": get("CodeVersion"),
            "champion": text("g/", get("ChampionVersion")),
        },
    }
    evaluate = {
        "Name": "Evaluate",
        "Type": "Processing",
        "Arguments": {
            "AppSpecification": {
                "ImageUri": "i",
                "ContainerEntrypoint": ["python3", "-c", STEP],
                "ContainerArguments": [text(get("Accuracy")), text(get("Seconds")), json.dumps(evaluation(0.9))],
            },
            "ProcessingInputs": [{"InputName": "raw", "S3Input": raw}],
            "ProcessingOutputConfig": {"Outputs": [output("evaluation"), output("model")]},
        },
        "PropertyFiles": [{"PropertyFileName": "Report", "OutputName": "evaluation", "FilePath": Files.EVALUATION}],
        "CacheConfig": {"Enabled": True, "ExpireAfter": "P30D"},
    }
    fail = {"Name": "NotRegistered", "Type": "Fail", "Arguments": {"ErrorMessage": text("accuracy ", accuracy)}}
    gate = {
        "Name": "Gate",
        "Type": "Condition",
        "Arguments": {
            "Conditions": [{"Type": "GreaterThanOrEqualTo", "LeftValue": accuracy, "RightValue": 0.85}],
            "IfSteps": [{"Name": "Register", "Type": "RegisterModel", "Arguments": register}],
            "ElseSteps": [fail],
        },
    }
    default = dict(RawBucket="raw", RawPrefix="x", ModelsBucket="models", ModelPackageGroupName=GROUP)
    default.update(CodeVersion="unknown", ChampionVersion="none", Accuracy=0.9, Seconds=0.0, Epochs=50)
    kinds = {str: "String", float: "Float", int: "Integer"}
    parameters = [dict(Name=n, Type=kinds[type(v)], DefaultValue=v) for n, v in default.items()]
    return {"Version": "2020-12-01", "Metadata": {}, "Parameters": parameters, "Steps": [evaluate, gate]}


@pytest.fixture
def place(tmp_path):
    "A folder with data, a pipeline and an empty home."
    (tmp_path / "lesions").mkdir()
    (tmp_path / "lesions" / "one.jpg").write_bytes(b"an image")
    write_json(tmp_path / "small.json", small_pipeline())
    return tmp_path


def environment(place):
    "A plain environment: no colours, this home."
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "FORCE_COLOR")}
    env.update(SKIN_LESION_HOME=str(place / "home"), LOGNAME="marie")
    repo = str(Path(__file__).resolve().parent.parent)
    return {**env, "PYTHONPATH": os.pathsep.join([repo, env.get("PYTHONPATH", "")])}


def command(*arguments):
    "The command line of a verb."
    return [sys.executable, "-m", "skin_lesion_mlops.cli.app", *map(str, arguments)]


def skin_lesion(place, *arguments, status=0, run=forks.run):
    "Run a verb as a process, with what it stands on imported; check its exit status."
    done = run(command(*arguments), cwd=place, env=environment(place), capture_output=True, text=True)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done


def run_small(place, *arguments, **more):
    "Run the small pipeline."
    return skin_lesion(place, "run", "--data", "lesions", "--definition", "small.json", *arguments, **more)


# --- help


def verbs(group, path=()):
    "Every verb: its words and its click command."
    for name, c in sorted(group.commands.items()):
        if hasattr(c, "commands"):
            yield from verbs(c, (*path, name))
        if not hasattr(c, "commands") or c.invoke_without_command:
            yield (*path, name), c


VERBS = dict(verbs(get_command(app)))


def test_the_verbs_that_are_promised_exist():
    promised = "run,demo,runs,runs show,runs compare,models list,models show,models approve,models reject"
    promised += ",data check,data fetch,pipeline definition,pipeline parameters"
    assert {tuple(p.split()) for p in promised.split(",")} <= set(VERBS)


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_verb_explains_itself_in_80_columns(words):
    result = CliRunner(env=dict(COLUMNS="80", TERMINAL_WIDTH="80")).invoke(app, [*words, "--help"])
    assert result.exit_code == 0
    assert "Example:\n" in result.output and f"skin-lesion {' '.join(words)}" in result.output
    assert max(map(len, result.output.splitlines())) <= 80
    assert len(VERBS[words].help.split()) >= 4
    for p in VERBS[words].params:
        assert p.name == "help" or p.help, f"{p.name} is not explained"
        given = p.default is not None and p.default is not False and not p.required
        if given and p.param_type_name == "option":
            assert re.search(r"\[[^]]*default", _help_of(result.output, p.opts[0])), f"{p.opts[0]} hides its default"


def _help_of(output, option):
    "The lines of a help text that explain one option."
    lines = output.splitlines()
    first = next(i for i, line in enumerate(lines) if line.strip().startswith(option))
    more = [line for line in lines[first + 1 :]]
    end = next((i for i, line in enumerate(more) if line.strip().startswith("-") or not line.strip()), len(more))
    return " ".join(x.strip() for x in [lines[first], *more[:end]])


@pytest.mark.parametrize("group", ["", "runs", "models", "data", "pipeline"])
def test_a_list_of_verbs_cuts_nobody_short(group):
    output = CliRunner(env=dict(COLUMNS="80")).invoke(app, [*group.split(), "--help"]).output
    assert "Commands:" in output and "..." not in output.partition("Commands:")[2]


def test_python_39_reads_the_options_too(monkeypatch):
    from types import SimpleNamespace

    from skin_lesion_mlops.cli import options

    def verb(home: "Home" = "x"):  # noqa: F821, as `from __future__ import annotations` has it
        "A verb."

    monkeypatch.setitem(globals(), "Home", options.Home)
    verbs = options.create_verbs("Verbs.")
    monkeypatch.setattr(options, "sys", SimpleNamespace(version_info=(3, 9, 18)))
    verbs.command("verb")(verb)
    assert verb.__annotations__["home"] == options.Home


@pytest.mark.parametrize("option,parameter", [("--arch", "Arch"), ("--epochs", "Epochs"), ("--weights", "Weights")])
def test_defaults_in_the_help_are_those_of_the_pipeline(option, parameter):
    from skin_lesion_mlops.pipeline.definition import PARAMETERS

    told = _help_of(CliRunner(env=dict(COLUMNS="80")).invoke(app, ["run", "--help"]).output, option)
    assert f"[default: {PARAMETERS[parameter][0]}]" in told


def test_architectures_in_the_help_are_those_of_the_models():
    told = _help_of(CliRunner(env=dict(COLUMNS="300")).invoke(app, ["run", "--help"]).output, "--arch")
    assert ", ".join(ARCHITECTURES) in told and DEMO["Arch"] in ARCHITECTURES


def test_help_is_quick_and_needs_nothing_heavy(tmp_path):
    heavy = ("torch", "numpy", "pandas", "PIL", "boto3", "sagemaker", "papermill")
    block = f"import sys\nfor m in {heavy}: sys.modules[m] = None\nfrom skin_lesion_mlops.cli.app import app\n"
    times = []
    for _ in range(3):
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", block + "app(['--help'])"], capture_output=True, env=environment(tmp_path)
        )
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime)
    assert done.returncode == 0 and b"Commands:" in done.stdout
    assert min(times) < 1.0, times  # seconds of the processor, 0.16 or so, however busy the machine is


def test_models_and_runs_work_without_torch(tmp_path):
    block = (
        "import sys\nsys.modules['torch'] = sys.modules['boto3'] = None\nfrom skin_lesion_mlops.cli.app import app\n"
    )
    for line in (["models", "list"], ["runs"], ["runs", "--json"], ["pipeline", "parameters"]):
        done = subprocess.run(
            [sys.executable, "-c", block + f"app({line})"], env=environment(tmp_path), capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode()


# --- run


def test_a_run_registers_and_says_so(place):
    done = run_small(place, run=subprocess.run)
    assert re.search(r"registered  version 1 of skin-lesion-models, PendingManualApproval", done.stdout)
    assert re.search(r"accuracy +0\.900 +0\.\d+ to 0\.\d+ +at least 0\.85 +passed", done.stdout)
    assert "\x1b[" not in done.stdout + done.stderr  # no colours in a pipe
    page = next(line.split()[-1] for line in done.stdout.splitlines() if line.startswith("the run"))
    assert (place / page).is_file()
    assert create_registry(home=place / "home").verify(GROUP, 1) == []


def on_a_terminal(place, *arguments, **more):
    "What a verb writes to a terminal of eighty columns."
    leader, follower = pty.openpty()
    env = {**environment(place), "TERM": "xterm", **more}
    with subprocess.Popen(command(*arguments), cwd=place, env=env, stdin=follower, stdout=follower) as job:
        os.close(follower)
        written = b""
        while chunk := read_terminal(leader):
            written += chunk
    os.close(leader)
    assert job.returncode == 0
    return written.decode().replace("\r\n", "\n")


def read_terminal(leader):
    "A piece of what was written; empty at the end, which Linux tells by an error."
    try:
        return os.read(leader, 65536)
    except OSError:
        return b""


def test_a_terminal_has_colours_and_a_pipe_the_same_columns(place):
    run_small(place)
    piped = skin_lesion(place, "runs").stdout
    shown = on_a_terminal(place, "runs")
    assert "\x1b[32mSucceeded" in shown and "\x1b[" not in piped and piped.isascii()
    plain = [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", shown).splitlines()]
    assert plain == piped.splitlines()
    assert on_a_terminal(place, "runs", NO_COLOR="1") == piped == on_a_terminal(place, "runs", TERM="dumb")


def test_a_run_for_a_script_prints_json_only(place):
    done = run_small(place, "--json", "--epochs", 7)
    facts = json.loads(done.stdout)
    assert facts["status"] == "Succeeded" and facts["parameters"]["Epochs"] == 7
    assert facts["model"] == dict(group=GROUP, version=1, status="PendingManualApproval")
    assert facts["metrics"]["accuracy"]["value"] == 0.9
    assert "Evaluate" in done.stderr  # progress is told, elsewhere


def test_the_second_run_is_cached_until_told_otherwise(place):
    def cached(*more):
        return {s["name"]: bool(s["cached"]) for s in json.loads(run_small(place, "--json", *more).stdout)["steps"]}

    assert cached()["Evaluate"] is False
    assert cached()["Evaluate"] is True
    assert cached("--no-cache")["Evaluate"] is False
    assert cached("-p", "Accuracy=0.91")["Evaluate"] is False
    (place / "lesions" / "two.jpg").write_bytes(b"another image")
    assert cached()["Evaluate"] is False  # the same folder, with other images in it


def test_the_gate_has_an_exit_status_of_its_own(place):
    done = run_small(place, "-p", "Accuracy=0.5", status=3)
    assert "NotRegistered" in done.stdout and "not registered: accuracy 0.500 is below 0.850" in done.stdout
    assert create_registry(home=place / "home").list() == []
    assert json.loads(run_small(place, "-p", "Accuracy=0.5", "--json", status=3).stdout)["model"] is None


def test_a_broken_step_is_an_error(place):
    done = run_small(place, "-p", "Accuracy=-1", status=1, run=subprocess.run)
    assert "accuracy cannot be negative" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_can_be_continued(place, number):
    line = command("run", "--data", "lesions", "--definition", "small.json", "-p", "Seconds=2.5")
    job = subprocess.Popen(line, cwd=place, env=environment(place), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.time() + 120
    while not list((place / "home").glob("runs/*/Evaluate/log.txt")) and time.time() < deadline:
        time.sleep(0.05)
    job.send_signal(number)
    output = job.communicate(timeout=120)[0].decode()
    assert job.returncode == 130, output
    assert "Traceback" not in output and "same command again" in output
    (stopped,) = json.loads(skin_lesion(place, "runs", "--json").stdout)
    assert stopped["status"] == "Stopped"
    continued = json.loads(run_small(place, "-p", "Seconds=2.5", "--json").stdout)
    assert continued["id"] == stopped["id"] and continued["status"] == "Succeeded"


@pytest.mark.parametrize(
    "more,told",
    [
        (["-p", "Epoch=3"], "did you mean Epochs?"),
        (["-p", "Epochs=many"], "not of type Integer"),
        (["-p", "Epochs"], "write Name=Value"),
        (["--arch", "resnet5"], "did you mean resnet50?"),
        (["--epochs", "0"], "--epochs"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_runs(place, more, told):
    done = run_small(place, *more, status=2)
    assert told in done.stderr and done.stdout == ""
    assert not list((place / "home").glob("runs/*"))


def test_a_missing_folder_and_missing_weights_are_named(place):
    done = skin_lesion(place, "run", "--data", "nowhere", status=1)
    assert (
        re.match("error: .*nowhere is not a folder", done.stderr.splitlines()[0])
        and "-> " in done.stderr.splitlines()[1]
    )
    done = skin_lesion(place, "run", "--data", "lesions", "--weights", "nothing.pt", status=1)
    assert "there are no weights at nothing.pt" in done.stderr
    (place / "empty").mkdir()
    done = skin_lesion(place, "run", "--data", "lesions", "--weights", "empty", status=1)
    assert "there are no weights at empty/model.pt" in done.stderr
    assert "Traceback" in skin_lesion(place, "--debug", "run", "--data", "nowhere", status=1).stderr
    assert "Traceback" in skin_lesion(place, "run", "--data", "nowhere", "--debug", status=1).stderr


@pytest.mark.parametrize("home", ["/proc/home", "lesions/one.jpg/home", "h" * 300])
@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="there is no /proc")
def test_a_home_that_cannot_be_made_is_answered_in_two_lines(place, home):
    done = run_small(place, "--home", home, status=1)
    problem, remedy = done.stderr.splitlines()
    assert problem.startswith("error: ") and home in problem and remedy.startswith("  -> ") and "--home" in remedy


def test_the_version_is_said(place):
    from skin_lesion_mlops import __version__

    assert skin_lesion(place, "--version").stdout == f"skin-lesion {__version__}\n"


def test_training_goes_on_from_a_bundle(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / Files.WEIGHTS).write_bytes(b"weights")
    found = take_weights(tmp_path, str(tmp_path / "bundle"), "models")
    assert found == take_weights(tmp_path, str(tmp_path / "bundle" / Files.WEIGHTS), "models")
    assert (tmp_path / "s3" / "models" / found["WeightsPrefix"] / Files.WEIGHTS).read_bytes() == b"weights"


def test_the_approved_model_becomes_the_champion(place):
    run_small(place)
    assert json.loads(run_small(place, "--json").stdout)["parameters"]["ChampionVersion"] == ""
    skin_lesion(place, "models", "approve", 1, "--reason", "good")
    assert json.loads(run_small(place, "--json").stdout)["parameters"]["ChampionVersion"] == "1"


# --- runs


def test_runs_are_listed_shown_and_compared(place):
    assert "There is no run yet" in skin_lesion(place, "runs", run=subprocess.run).stdout
    assert json.loads(skin_lesion(place, "runs", "--json").stdout) == []
    run_small(place)
    run_small(place, "-p", "Accuracy=0.95")
    b, a = [r["id"] for r in json.loads(skin_lesion(place, "runs", "--json").stdout)]
    listed = skin_lesion(place, "runs").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["RUN", b, a] and max(map(len, listed)) <= 80
    assert json.loads(skin_lesion(place, "runs", "show", a, "--json").stdout)["id"] == a
    assert skin_lesion(place, "runs", "show").stdout.startswith(f"run {b}: Succeeded")  # the latest
    told = skin_lesion(place, "runs", "compare", a, b).stdout
    assert re.search(r"accuracy +0\.900 +0\.950 +\+0\.050", told) and re.search(r"Accuracy +0\.9 +0\.95", told)
    c = json.loads(skin_lesion(place, "runs", "compare", a, "latest", "--json").stdout)
    assert c["parameters"] == {"Accuracy": {"a": 0.9, "b": 0.95}}


def test_ids_may_be_shortened_and_wrong_ones_are_answered(place):
    run_small(place), run_small(place)
    ids = [r["id"] for r in json.loads(skin_lesion(place, "runs", "--json").stdout)]
    short = next(ids[0][:n] for n in range(1, 13) if not ids[1].startswith(ids[0][:n]))
    assert json.loads(skin_lesion(place, "runs", "show", short, "--json").stdout)["id"] == ids[0]
    assert "could be 2 runs" in skin_lesion(place, "runs", "show", ids[0][:4], status=1).stderr
    typo = ids[1][:-2] + ids[1][-2:][::-1] + "x"
    assert "the nearest is" in skin_lesion(place, "runs", "show", typo, status=1).stderr


# --- models


@pytest.fixture
def registered(tmp_path):
    "A home with two pending versions."
    for run, accuracy in (("a", 0.86), ("b", 0.88)):
        base = f"s3://models/{run}"
        model = s3_path(tmp_path / "home", f"{base}/model.tar.gz")
        model.parent.mkdir(parents=True)
        model.write_bytes(b"weights")
        write_json(s3_path(tmp_path / "home", f"{base}/evaluation/{Files.EVALUATION}"), evaluation(accuracy))
        spec = dict(Containers=[dict(Image="i", ModelDataUrl=f"{base}/model.tar.gz")])
        quality = dict(Statistics=dict(S3Uri=f"{base}/evaluation/{Files.EVALUATION}"))
        request = dict(ModelPackageGroupName=GROUP, InferenceSpecification=spec)
        create_registry(home=tmp_path / "home").register({**request, "ModelMetrics": dict(ModelQuality=quality)})
    return tmp_path


def test_models_are_listed_and_shown(registered):
    listed = skin_lesion(registered, "models", "list", run=subprocess.run).stdout.splitlines()
    assert [line.split()[:2] for line in listed[1:]] == [[v, "PendingManualApproval"] for v in ("2", "1")]
    assert max(map(len, listed)) <= 80
    as_json = json.loads(skin_lesion(registered, "models", "list", "--json").stdout)
    assert [m["metrics"]["accuracy"]["value"] for m in as_json] == [0.88, 0.86]
    shown = skin_lesion(registered, "models", "show", 1).stdout
    assert re.search(r"accuracy +0\.860 +0\.840 to 0\.880", shown) and "data hash" in shown
    assert json.loads(skin_lesion(registered, "models", "show", "--json").stdout)["ModelPackageVersion"] == 2


def test_a_decision_records_who_and_why(registered):
    assert "--reason" in skin_lesion(registered, "models", "approve", 1, status=2).stderr
    said = skin_lesion(registered, "models", "approve", 1, "--reason", "the protocol is met").stdout
    assert said == "version 1 of skin-lesion-models is Approved (marie: the protocol is met)\n"
    done = skin_lesion(registered, "models", "reject", "approved", "--by", "Dr. Ada", "--reason", "recall", "--json")
    told = [(e["Status"], e["By"], e["Reason"]) for e in json.loads(done.stdout)["ApprovalHistory"][1:]]
    assert told == [("Approved", "marie", "the protocol is met"), ("Rejected", "Dr. Ada", "recall")]
    assert "is Rejected already" in skin_lesion(registered, "models", "reject", 1, "--reason", "x", status=1).stderr


def test_an_approval_against_the_gate_says_why(place):
    base = f"s3://models/runs/1/evaluation/{Files.EVALUATION}"
    write_json(s3_path(place / "home", base), evaluation(0.84))
    s3_path(place / "home", "s3://models/model.tar.gz").write_text("weights")
    spec = dict(Containers=[dict(Image="i", ModelDataUrl="s3://models/model.tar.gz")])
    quality = dict(ModelQuality=dict(Statistics=dict(S3Uri=base)))
    request = dict(ModelPackageGroupName=GROUP, InferenceSpecification=spec, ModelMetrics=quality)
    create_registry(home=place / "home").register(request)
    assert "not passed: accuracy 0.840 is below 0.850" in skin_lesion(place, "models", "show").stdout
    refused = skin_lesion(place, "models", "approve", 1, "--reason", "read it", status=1).stderr
    assert "accuracy 0.840 is below 0.850" in refused and "--override" in refused
    skin_lesion(place, "models", "approve", 1, "--reason", "read it", "--override", "two readers agree")
    shown = json.loads(skin_lesion(place, "models", "show", "--json").stdout)
    assert shown["ApprovalHistory"][-1]["Override"] == "two readers agree" and shown["decision"]["passed"] is False
    assert "OVERRIDE" in skin_lesion(place, "models", "show").stdout


def test_a_tampered_model_is_not_shown_as_if_it_were_sound(registered):
    (registered / "home/registry" / GROUP / "1/model.tar.gz").write_bytes(b"other")
    for line in (["show", 1], ["approve", 1, "--reason", "x"]):
        done = skin_lesion(registered, "models", *line, status=1)
        assert "model.tar.gz has changed" in done.stderr and done.stdout == ""


def test_the_same_verbs_work_on_sagemaker(monkeypatch):
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with moto.mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="models")
        s3.put_object(Bucket="models", Key="evaluation/evaluation.json", Body=json.dumps(evaluation(0.9)).encode())
        spec = dict(Containers=[dict(Image="i", ModelDataUrl="s3://models/model.tar.gz")])
        quality = dict(Statistics=dict(ContentType="json", S3Uri="s3://models/evaluation/evaluation.json"))
        request = dict(ModelPackageGroupName=GROUP, ModelMetrics=dict(ModelQuality=quality))
        create_registry(region="us-east-1").register({**request, "InferenceSpecification": spec})
        cli = CliRunner()
        there = ["--region", "us-east-1"]
        assert "PendingManualApproval" in cli.invoke(app, ["models", "list", *there]).stdout
        done = cli.invoke(app, ["models", "approve", "1", "--by", "ada", "--reason", "ok", *there])
        assert done.stdout == "version 1 of skin-lesion-models is Approved (ada: ok)\n"
        assert "0.900" in cli.invoke(app, ["models", "show", "approved", *there]).stdout


# --- data, pipeline


def test_data_check_counts_before_anything_is_trained(tmp_path):
    from skin_lesion_mlops.data.synthetic import create_dataset

    create_dataset(tmp_path / "lesions", n=60, bad=1, size=(120, 90))
    done = skin_lesion(tmp_path, "data", "check", "lesions", "--json", "--max-quarantine-share", "0.9")
    facts = json.loads(done.stdout)
    assert facts["usable"] >= 60 and facts["quarantined"] > 0
    assert facts["quarantined"] == sum(facts["reasons"].values()) == len(facts["quarantine"])
    assert all(q["detail"] for q in facts["quarantine"])
    assert sum(c["images"] for c in facts["classes"].values()) == facts["usable"]
    for groups in facts["subgroups"].values():
        assert sum(groups.values()) == facts["usable"]
    told = skin_lesion(tmp_path, "data", "check", "lesions", "--max-quarantine-share", "0.9").stdout
    assert "Melanoma" in told and all(r in told for r in facts["reasons"])
    done = skin_lesion(tmp_path, "data", "check", "lesions", "--max-quarantine-share", "0", status=1)
    assert "cannot be used, more than 0%" in done.stderr and "Melanoma" in done.stdout


def test_a_port_in_use_is_an_error_and_not_a_model_that_was_not_registered(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        words = ["serve", "--home", str(tmp_path), "--port", str(other.getsockname()[1])]
        done = CliRunner().invoke(app, words)
    assert done.exit_code == 1 and "already in use" in done.output


def test_an_unknown_source_is_refused(tmp_path):
    pytest.importorskip("skin_lesion_mlops.data.fetch")
    done = skin_lesion(tmp_path, "data", "fetch", "--source", "attic", "ham", status=1)
    assert "unknown source 'attic'" in done.stderr and not (tmp_path / "ham").exists()


def test_the_definition_is_the_committed_one(tmp_path, repo):
    said = json.loads(skin_lesion(tmp_path, "pipeline", "definition").stdout)
    assert said == json.loads((repo / "skin_lesion_mlops/pipeline.json").read_text())
    listed = json.loads(skin_lesion(tmp_path, "pipeline", "parameters", "--json").stdout)
    assert [p["Name"] for p in listed] == [p["Name"] for p in said["Parameters"]] and all(p["Meaning"] for p in listed)


def test_two_folders_of_the_same_name_do_not_share_a_place(tmp_path):
    from skin_lesion_mlops.pipeline.local import link_data

    for parent in ("x", "y"):
        (tmp_path / parent / "ham").mkdir(parents=True)
    a, b = (link_data(tmp_path / "home", tmp_path / p / "ham", "raw") for p in ("x", "y"))
    assert a != b and a.startswith("ham-")
    assert s3_path(tmp_path / "home", f"s3://raw/{b}").samefile(tmp_path / "y/ham")


# --- the real thing


@pytest.mark.slow
def test_the_demo_registers_a_model_and_is_cached_the_second_time(tmp_path):
    first = json.loads(skin_lesion(tmp_path, "demo", "--json").stdout)
    assert first["status"] == "Succeeded" and first["model"]["version"] == 1
    assert Path(first["report"]).is_file() and Path(first["page"]).is_file()
    second = json.loads(skin_lesion(tmp_path, "demo", "--json").stdout)
    assert all(s["cached"] for s in second["steps"] if s["name"] in ("Preprocess", "Train", "Evaluate"))
    assert second["seconds"] < 15
