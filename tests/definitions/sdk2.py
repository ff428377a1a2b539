"""Pipeline definitions as SageMaker's SDK 2 writes them, in the manner of the public examples.

The SDK's versions 2 and 3 cannot be installed side by side, and the tests have 3: what 2 writes lies beside this file.

    python -m venv build/sdk2 && build/sdk2/bin/pip install sagemaker==2.245.0 pytz
    build/sdk2/bin/python tests/definitions/sdk2.py
"""

import json
import os
from pathlib import Path

os.environ.update(AWS_DEFAULT_REGION="eu-central-1", AWS_ACCESS_KEY_ID="none", AWS_SECRET_ACCESS_KEY="none")

from sagemaker.inputs import TrainingInput, TransformInput  # noqa: E402
from sagemaker.model import Model  # noqa: E402
from sagemaker.pipeline import PipelineModel  # noqa: E402
from sagemaker.processing import ProcessingInput, ProcessingOutput, ScriptProcessor  # noqa: E402
from sagemaker.sklearn.estimator import SKLearn  # noqa: E402
from sagemaker.transformer import Transformer  # noqa: E402
from sagemaker.tuner import ContinuousParameter, HyperparameterTuner  # noqa: E402
from sagemaker.workflow.condition_step import ConditionStep  # noqa: E402
from sagemaker.workflow.conditions import (  # noqa: E402
    ConditionEquals,
    ConditionIn,
    ConditionLessThanOrEqualTo,
    ConditionNot,
    ConditionOr,
)
from sagemaker.workflow.execution_variables import ExecutionVariables  # noqa: E402
from sagemaker.workflow.fail_step import FailStep  # noqa: E402
from sagemaker.workflow.functions import Join, JsonGet  # noqa: E402
from sagemaker.workflow.model_step import ModelStep  # noqa: E402
from sagemaker.workflow.parameters import ParameterFloat, ParameterString  # noqa: E402
from sagemaker.workflow.pipeline import Pipeline  # noqa: E402
from sagemaker.workflow.pipeline_context import PipelineSession  # noqa: E402
from sagemaker.workflow.properties import PropertyFile  # noqa: E402
from sagemaker.workflow.steps import CacheConfig, ProcessingStep, TrainingStep, TransformStep, TuningStep  # noqa: E402

ROLE, BUCKET = "arn:aws:iam::111122223333:role/x", "sagemaker-eu-central-1-111122223333"
session = PipelineSession(default_bucket=BUCKET)
session.upload_data = (
    lambda path, bucket=None, key_prefix=None, **more: f"s3://{bucket or BUCKET}/{key_prefix}/{Path(path).name}"
)
data = ParameterString("InputData", default_value=f"s3://{BUCKET}/abalone/abalone.csv")
scale = ParameterFloat("Scale", default_value=1.0)


def below(*parts):
    "A place for a run's outputs."
    return Join(on="/", values=[f"s3://{BUCKET}", ExecutionVariables.PIPELINE_EXECUTION_ID, *parts])


def processing(name, script, inputs, outputs, **more):
    "A step that runs a script."
    worker = ScriptProcessor(
        image_uri="sklearn",
        command=["python3"],
        instance_type="ml.m5.xlarge",
        instance_count=1,
        role=ROLE,
        sagemaker_session=session,
    )
    given = [ProcessingInput(source=s, destination=f"/opt/ml/processing/{n}", input_name=n) for n, s in inputs.items()]
    made = [ProcessingOutput(source=f"/opt/ml/processing/{n}", destination=below(n), output_name=n) for n in outputs]
    return ProcessingStep(
        name, step_args=worker.run(inputs=given, outputs=made, code=f"s3://{BUCKET}/code/{script}"), **more
    )


def training(name="Train", **more):
    "Training in script mode, its code in an archive."
    estimator = SKLearn(
        entry_point="train.py",
        source_dir=f"s3://{BUCKET}/code/sourcedir.tar.gz",
        framework_version="1.2-1",
        image_uri="sklearn",
        instance_type="ml.m5.xlarge",
        role=ROLE,
        output_path=f"s3://{BUCKET}/models",
        hyperparameters=dict(scale=scale),
        metric_definitions=[dict(Name="slope", Regex="slope=(.*?);")],
        sagemaker_session=session,
        **more,
    )
    return estimator, {"train": TrainingInput(output_of(preprocess, "train"), content_type="text/csv")}


def output_of(step, name):
    "Where a processing step puts an output."
    return step.properties.ProcessingOutputConfig.Outputs[name].S3Output.S3Uri


preprocess = processing(
    "Preprocess",
    "preprocess.py",
    dict(input=data),
    ("train", "test"),
    cache_config=CacheConfig(enable_caching=True, expire_after="30d"),
)
estimator, channels = training()
train = TrainingStep("Train", step_args=estimator.fit(channels))
artefacts = train.properties.ModelArtifacts.S3ModelArtifacts
report = PropertyFile("EvaluationReport", output_name="evaluation", path="evaluation.json")
evaluate = processing(
    "Evaluate",
    "evaluate.py",
    dict(model=artefacts, test=output_of(preprocess, "test")),
    ("evaluation",),
    property_files=[report],
)
mse = JsonGet("Evaluate", report, "regression_metrics.mse.value")


def model(at=artefacts, **environment):
    "What is served."
    return Model("sklearn", model_data=at, env=environment, role=ROLE, sagemaker_session=session)


def gate(what):
    "Register a model when it is good."
    words = dict(
        content_types=["text/csv"],
        response_types=["text/csv"],
        inference_instances=["ml.t2.medium"],
        transform_instances=["ml.m5.xlarge"],
        model_package_group_name="AbaloneGroup",
        approval_status="PendingManualApproval",
    )
    register = ModelStep("Abalone", step_args=what.register(**words))
    bad = FailStep("Bad", error_message=Join(on=" ", values=["mse", mse]))
    return ConditionStep(
        "CheckMse", conditions=[ConditionLessThanOrEqualTo(mse, 6.0)], if_steps=[register], else_steps=[bad]
    )


def transform():
    "The model is made, and the test file is sent through it."
    made = ModelStep("Abalone", step_args=model(SAGEMAKER_PROGRAM="inference.py").create(instance_type="ml.m5.large"))
    worker = Transformer(
        made.properties.ModelName,
        1,
        "ml.m5.xlarge",
        output_path=f"s3://{BUCKET}/answers",
        accept="text/csv",
        assemble_with="Line",
        sagemaker_session=session,
    )
    source = TransformInput(output_of(preprocess, "test"), content_type="text/csv", split_type="Line")
    score = TransformStep("Score", step_args=worker.transform(source.data, content_type="text/csv", split_type="Line"))
    return [preprocess, train, made, score]


def tuning():
    "A search over the scale."
    ranges = dict(scale=ContinuousParameter(0.5, 2.0))
    search = HyperparameterTuner(estimator, "slope", ranges, [dict(Name="slope", Regex="slope=(.*?);")])
    return [preprocess, TuningStep("Tune", step_args=search.fit(channels)), train, evaluate, gate(model())]


def inference_pipeline():
    "Two models behind one endpoint."
    second, given = training()
    again = TrainingStep("Scale", step_args=second.fit(given))
    both = PipelineModel(
        [model(), model(again.properties.ModelArtifacts.S3ModelArtifacts)], ROLE, sagemaker_session=session
    )
    return [preprocess, train, again, evaluate, gate(both)]


def nested():
    "A condition in a condition's branch; the branch that is not taken lacks its input."
    absent = processing("NotTaken", "preprocess.py", dict(input=f"s3://{BUCKET}/nothing"), ("train",))
    innermost = ConditionStep(
        "Innermost", conditions=[ConditionIn("b", ["a", "b"])], if_steps=[preprocess], else_steps=[]
    )
    some = ConditionOr([ConditionEquals(scale, 2.0), ConditionEquals(scale, 1.0)])
    inner = ConditionStep("Inner", conditions=[some], if_steps=[innermost], else_steps=[])
    return [
        ConditionStep(
            "Outer", conditions=[ConditionNot(ConditionEquals(scale, 1.0))], if_steps=[absent], else_steps=[inner]
        )
    ]


definitions = dict(
    abalone=[preprocess, train, evaluate, gate(model())],
    transform=transform(),
    tuning=tuning(),
    inference_pipeline=inference_pipeline(),
    nested=nested(),
)
for name, steps in definitions.items():
    made = Pipeline(name, parameters=[data, scale], steps=steps, sagemaker_session=session).definition()
    (Path(__file__).parent / f"{name}.json").write_text(json.dumps(json.loads(made), indent=1) + "\n")
