"The pipeline definition: rebuilt byte for byte, acceptable to AWS, and in agreement with what it starts."

import json
import re
import subprocess
import sys

import pytest

from skin_lesion_mlops.core import METRIC_DEFINITIONS, Files
from skin_lesion_mlops.pipeline import definition as pipeline
from skin_lesion_mlops.pipeline.launch import parameters_of

OPERATIONS = {
    "Processing": ("CreateProcessingJob", {"ProcessingJobName": "job"}),
    "Training": ("CreateTrainingJob", {"TrainingJobName": "job"}),
    "RegisterModel": ("CreateModelPackage", {}),
}
# Left to the notebook on purpose: how many cores it may use and how many bootstrap samples it draws.
NOT_PASSED = {"workers", "bootstrap"}


@pytest.fixture(scope="module")
def definition():
    return pipeline.definition()


def all_steps(steps):
    "Every step, also those in the branches of a condition."
    for s in steps:
        yield s
        yield from all_steps(s["Arguments"].get("IfSteps", []) + s["Arguments"].get("ElseSteps", []))


def resolve(x, values):
    "Parameters by their defaults; everything only a run knows by something of the right type."
    if isinstance(x, list):
        return [resolve(v, values) for v in x]
    if not isinstance(x, dict):
        return x
    if set(x) == {"Get"}:
        head, _, name = x["Get"].partition(".")
        return values[name] if head == "Parameters" else "s3://bucket/key"
    if set(x) == {"Std:Join"}:
        return x["Std:Join"]["On"].join(str(resolve(v, values)) for v in x["Std:Join"]["Values"])
    if set(x) == {"Std:JsonGet"}:
        return "0.9"
    return {k: resolve(v, values) for k, v in x.items()}


def step(definition, name):
    return next(s for s in all_steps(definition["Steps"]) if s["Name"] == name)


def notebook_arguments(s):
    "The `-p NAME VALUE` of a notebook step."
    a = s["Arguments"]["AppSpecification"]["ContainerArguments"]
    return {a[i + 1]: a[i + 2] for i, v in enumerate(a) if v == "-p"}


def test_rebuilding_gives_the_committed_bytes(repo):
    pytest.importorskip("sagemaker", reason="authoring needs the aws extra")
    committed = (repo / "skin_lesion_mlops" / "pipeline.json").read_text()
    assert (
        pipeline.to_json(pipeline.build_definition()) == committed
    ), "run nbs/pipeline/01_definition.ipynb and commit the file"


def test_building_calls_no_one(tmp_path):
    "No credentials, no region, no home, no socket; and another user's SDK defaults change nothing."
    pytest.importorskip("sagemaker", reason="authoring needs the aws extra")
    defaults = tmp_path / "config.yaml"
    defaults.write_text("SchemaVersion: '1.0'\nSageMaker:\n  TrainingJob:\n    EnableNetworkIsolation: true\n")
    program = """
import socket, sys
sys.modules["rfc3987_syntax"] = None  # see conftest.py
def refuse(*args, **kwargs): raise AssertionError(f"a connection was asked for: {args}")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from skin_lesion_mlops.pipeline import definition as pipeline
assert pipeline.build_definition() == pipeline.definition()
"""
    import os

    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    env.update(HOME=str(tmp_path), SAGEMAKER_USER_CONFIG_OVERRIDE=str(defaults))
    r = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr[-2000:]


def test_building_leaves_the_environment_as_it_was(monkeypatch):
    import os

    pytest.importorskip("sagemaker", reason="authoring needs the aws extra")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.delenv("SAGEMAKER_VALIDATE_ROLE", raising=False)
    before = dict(os.environ)
    pipeline.build_definition()
    assert dict(os.environ) == before


def test_importing_is_cheap():
    program = (
        "import sys, skin_lesion_mlops.pipeline.definition as p; p.definition();"
        "bad = [m for m in ('sagemaker', 'boto3', 'torch', 'pandas') if m in sys.modules]; assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_step_compiles_no_grammar_of_iris():
    "jsonschema does where it finds one, on being imported: half of the time in which a step begins."
    program = """
import contextlib, sys
from skin_lesion_mlops.pipeline.launch import launch
with contextlib.suppress(FileNotFoundError):
    launch("none.ipynb", ".")
assert "papermill" in sys.modules and not sys.modules.get("rfc3987_syntax")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", ["Preprocess", "Train", "Evaluate", "Register"])
def test_aws_would_accept_the_arguments(definition, name):
    "Each resolved step against the service model that boto3 ships."
    botocore = pytest.importorskip("botocore.session", reason="needs the aws extra")
    from botocore.validate import ParamValidator

    model = botocore.get_session().get_service_model("sagemaker")
    s = step(definition, name)
    operation, extra = OPERATIONS[s["Type"]]
    shape = model.operation_model(operation).input_shape
    defaults = {p["Name"]: p["DefaultValue"] for p in definition["Parameters"]}
    arguments = {**resolve(s["Arguments"], defaults), **extra}
    report = ParamValidator().validate(arguments, shape)
    assert not report.has_errors(), report.generate_report()
    arguments["Surprise"] = 1  # the check can fail
    assert ParamValidator().validate(arguments, shape).has_errors()


def test_customer_metadata_is_never_empty(definition):
    "AWS takes 1 to 256 characters; a parameter may be empty."
    defaults = {p["Name"]: p["DefaultValue"] for p in definition["Parameters"]}
    found = resolve(step(definition, "Register")["Arguments"]["CustomerMetadataProperties"], defaults)
    assert found and all(1 <= len(v) <= 256 for v in found.values()), found


def test_spot_training_can_wait_and_resume(definition):
    a = step(definition, "Train")["Arguments"]
    assert a["EnableManagedSpotTraining"] is True
    assert a["StoppingCondition"]["MaxWaitTimeInSeconds"] > a["StoppingCondition"]["MaxRuntimeInSeconds"]
    assert a["CheckpointConfig"]["LocalPath"] == "/opt/ml/checkpoints"
    assert "Execution.PipelineExecutionId" in json.dumps(a["CheckpointConfig"]["S3Uri"])


def test_nothing_in_the_steps_says_where(definition):
    "Buckets, roles, images, keys and machines come from parameters alone."
    text = json.dumps(definition["Steps"])
    assert not re.search(r"arn:aws|\d{12}|dkr\.ecr|us-east-1|ml\.p3", text)
    train = step(definition, "Train")["Arguments"]
    assert train["RoleArn"] == {"Get": "Parameters.RoleArn"}
    assert train["AlgorithmSpecification"]["TrainingImage"] == {"Get": "Parameters.TrainingImage"}
    for s in ("Preprocess", "Evaluate"):
        cluster = step(definition, s)["Arguments"]["ProcessingResources"]["ClusterConfig"]
        assert cluster["VolumeKmsKeyId"] == {"Get": "Parameters.KmsKeyId"}
        assert step(definition, s)["Arguments"]["ProcessingOutputConfig"]["KmsKeyId"] == {"Get": "Parameters.KmsKeyId"}


def test_every_parameter_is_used_and_every_use_is_declared(definition):
    declared = {p["Name"] for p in definition["Parameters"]}
    used = set(re.findall(r'"Parameters\.(\w+)"', json.dumps(definition["Steps"])))
    assert used == declared


def test_types_and_allowed_values(definition):
    kinds = {str: "String", int: "Integer", float: "Float"}
    for p in definition["Parameters"]:
        assert p["Type"] == kinds[type(p["DefaultValue"])], p
        assert p["DefaultValue"] in p.get("EnumValues", [p["DefaultValue"]])
        assert pipeline.PARAMETERS[p["Name"]][1], "every parameter is explained"
    assert next(p for p in definition["Parameters"] if p["Name"] == "AccuracyThreshold")["DefaultValue"] == 0.85


def test_jobs_are_cached_and_retried(definition):
    for name in ("Preprocess", "Train", "Evaluate"):
        s = step(definition, name)
        assert s["CacheConfig"] == {"Enabled": True, "ExpireAfter": "P30D"}
        kinds = {e for r in s["RetryPolicies"] for e in r["ExceptionType"]}
        assert {"Step.THROTTLING", "Step.SERVICE_FAULT", "SageMaker.CAPACITY_ERROR"} <= kinds


def test_the_training_log_reaches_cloudwatch(definition):
    found = step(definition, "Train")["Arguments"]["AlgorithmSpecification"]["MetricDefinitions"]
    assert found == list(METRIC_DEFINITIONS)
    assert all(1 <= len(d["Regex"]) <= 500 for d in found)


def test_a_refusal_is_the_reports_first_sentence(definition):
    "What the evaluation concludes names the guards that were not passed, with their figures and limits."
    message = step(definition, "NotRegistered")["Arguments"]["ErrorMessage"]["Std:Join"]
    get = message["Values"][1]["Std:JsonGet"]
    assert get["Path"] == "conclusion[0]" and "Steps.Evaluate" in json.dumps(get["PropertyFile"])


def test_outputs_of_two_runs_and_of_two_steps_are_apart(definition):
    places = []
    for name in ("Preprocess", "Evaluate"):
        for o in step(definition, name)["Arguments"]["ProcessingOutputConfig"]["Outputs"]:
            text = json.dumps(o["S3Output"]["S3Uri"])
            assert ("Execution.PipelineExecutionId" in text) == (o["OutputName"] != "tested")
            places.append(text)
    assert len(set(places)) == len(places)


def test_what_was_in_test_is_added_to_what_the_next_run_reads(definition):
    a = step(definition, "Preprocess")["Arguments"]
    read = {i["InputName"]: i["S3Input"] for i in a["ProcessingInputs"]}["tested"]
    added = {o["OutputName"]: o["S3Output"] for o in a["ProcessingOutputConfig"]["Outputs"]}["tested"]
    assert read["S3Uri"] == added["S3Uri"] and read["LocalPath"] != added["LocalPath"]
    assert read["S3DataType"] == "S3Prefix" and added["S3UploadMode"] == "EndOfJob"


@pytest.mark.parametrize("name", ["Preprocess", "Evaluate"])
def test_notebook_and_definition_name_the_same_parameters(definition, repo, name):
    notebook = repo / "nbs" / "steps" / f"{name.lower()}.ipynb"
    if not notebook.exists():
        pytest.skip(f"{notebook.name} is not in this checkout")
    schema, passed = parameters_of(notebook), notebook_arguments(step(definition, name))
    assert set(passed) == set(schema) - NOT_PASSED
    defaults = {p["Name"]: p["DefaultValue"] for p in definition["Parameters"]}
    for n, expression in passed.items():
        text = resolve(expression, defaults)
        kind = {"str": str, "int": int, "float": float}[schema[n].type]
        kind(text)  # what the definition passes by default can be read as the notebook's type


def test_inputs_and_outputs_are_where_the_notebook_looks(definition):
    for name in ("Preprocess", "Evaluate"):
        a, passed = step(definition, name)["Arguments"], notebook_arguments(step(definition, name))
        inputs = {i["InputName"]: i["S3Input"]["LocalPath"] for i in a["ProcessingInputs"]}
        outputs = {o["OutputName"]: o["S3Output"]["LocalPath"] for o in a["ProcessingOutputConfig"]["Outputs"]}
        assert outputs.pop("report") == a["AppSpecification"]["ContainerArguments"][1]
        paths = {**{f"input_{n}": p for n, p in inputs.items()}, **{f"output_{n}": p for n, p in outputs.items()}}
        assert paths == {n: v for n, v in passed.items() if n.startswith(("input_", "output_"))}


def test_every_hyperparameter_is_known_to_train(definition):
    import dataclasses

    train = pytest.importorskip("skin_lesion_mlops.model.job", reason="model/11_train is not in this checkout")
    known = {f.name for f in dataclasses.fields(train.Hyperparameters)}
    assert set(step(definition, "Train")["Arguments"]["HyperParameters"]) <= known
    for p in definition["Parameters"]:
        for value in p.get("EnumValues", []):
            if (name := {v: k for k, v in pipeline.HYPERPARAMETERS.items()}.get(p["Name"])) is not None:
                train.read_hyperparameters({name: value})  # train takes whatever the definition allows
    defaults = {p["Name"]: p["DefaultValue"] for p in definition["Parameters"]}
    passed = {h: str(defaults[n]) for h, n in pipeline.HYPERPARAMETERS.items()}
    assert train.read_hyperparameters(passed) == train.Hyperparameters(), "the same defaults here and there"
    assert set(pipeline.HYPERPARAMETERS) == set(step(definition, "Train")["Arguments"]["HyperParameters"])


def test_the_gate_reads_the_evaluation_file(definition):
    (file,) = step(definition, "Evaluate")["PropertyFiles"]
    assert file["FilePath"] == Files.EVALUATION and file["OutputName"] == "evaluation"
    assert len(step(definition, "Gate")["Arguments"]["Conditions"]) == len(pipeline.GATE)
