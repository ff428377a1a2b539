"Steps that do nothing in the local mode of SageMaker's SDK 2, with a process where it would start a container."

import json
import os
import resource
import subprocess
import sys
import time

os.environ.update(AWS_DEFAULT_REGION="eu-central-1", AWS_ACCESS_KEY_ID="none", AWS_SECRET_ACCESS_KEY="none")

from sagemaker.local import image, local_session  # noqa: E402
from sagemaker.processing import Processor  # noqa: E402
from sagemaker.telemetry import telemetry_logging  # noqa: E402
from sagemaker.workflow.pipeline import Pipeline  # noqa: E402
from sagemaker.workflow.pipeline_context import LocalPipelineSession  # noqa: E402
from sagemaker.workflow.steps import ProcessingStep  # noqa: E402


class Process(image._SageMakerContainer):
    "A container without Docker."

    def __init__(self, kind, count, uri, container_entrypoint=None, **kwargs):
        "Keep what the job's description asks for."
        self.instance_type, self.instance_count, self.image = kind, count, uri
        self.container_entrypoint, self.container_arguments = container_entrypoint, None

    def process(self, *args, **kwargs):
        "Run the command to its end."
        subprocess.run(self.container_entrypoint, check=True)


local_session._SageMakerContainer = Process
telemetry_logging._send_telemetry_request = lambda *args: None  # each job would be reported to AWS
session = LocalPipelineSession(default_bucket="none")
rows = []
for n in map(int, sys.argv[1].split(",")):
    steps = []
    for i in range(n):
        worker = Processor(
            "arn:aws:iam::111122223333:role/r", "i", 1, "local", ["python3", "-c", "pass"], sagemaker_session=session
        )
        steps.append(ProcessingStep(f"S{i}", step_args=worker.run()))
    pipeline = Pipeline("none", steps=steps, sagemaker_session=session)
    pipeline.create("arn:aws:iam::111122223333:role/r")
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used, start = [sum(resource.getrusage(w)[:2]) for w in whose], time.monotonic()
    done = pipeline.start()
    took = time.monotonic() - start
    assert done.status == "Succeeded", done.describe()
    rows.append([n, took, *(sum(resource.getrusage(w)[:2]) - u for w, u in zip(whose, used))])
print(json.dumps(rows))
