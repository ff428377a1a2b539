"""`make sandbox`: the whole platform on this machine, from `terraform apply` to a model behind an endpoint, and back.

An AWS is started on a loopback port (`tests/standin`). Terraform applies `infra/` to it, twice: `minimal`, in which a
retraining then runs from `POST /retrain` to the alert that the new model serves, and, meanwhile, `hipaa`. Then the
loop is closed twice: a clinic sends pictures to the endpoint, a monitor finds what has changed, and its alarm brings a
version that awaits approval; once its lamp grows weak, once melanomas are missed. Functions, state machine, event
rules, alarms, monitors and the pipeline are the real ones, but for the last training, which is pretended; what takes
minutes on AWS takes seconds. What does not hold ends the program with an error.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import Future, ProcessPoolExecutor
from datetime import datetime, timedelta, timezone
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from PIL import Image

from skin_lesion_mlops.aws.watch import deployed
from skin_lesion_mlops.core import Files
from skin_lesion_mlops.data import synthetic
from skin_lesion_mlops.taxonomy import HAM10000
from tests.standin import pipelines, refusals, sagemaker, server, states
from tests.standin.terraform import Root

BEGAN = time.monotonic()
HURRY = 0.02  # seconds for a second of the state machine's waiting
LESIONS = 240


def tell(who: str, what: str) -> None:
    "A line of the timeline."
    print(f"{time.monotonic() - BEGAN:6.1f} s  {who:15} {what}", flush=True)


def check(holds: Any, what: str) -> None:
    "End the program where something does not hold."
    if not holds:
        raise SystemExit(f"sandbox: {what}")


def main() -> None:
    "The demonstration."
    with tempfile.TemporaryDirectory(prefix="sandbox-") as tmp, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        private = pool.submit(rehearse_hipaa, f"{tmp}/hipaa")
        aws = server.serve()
        try:
            tell("AWS", f"answers at {aws.url}, the HTTP API at {aws.door}")
            sagemaker.executor, states.scale = pipelines.execute, HURRY
            root = create(aws, Path(tmp, "minimal"))
            story = retrain(aws, root, Path(tmp, "lesions"))
            remove(aws, root)
            report_hipaa(private)
        finally:
            aws.stop()
    print(f"\n{story}\n\nall of it held, in {time.monotonic() - BEGAN:.0f} s")


# ---- the platform


def create(aws: server.StandIn, folder: Path) -> Root:
    "Apply `minimal`, and see that a second plan has nothing to do."
    root = Root(folder, aws.url)
    root.given = ["-var-file=examples/minimal.tfvars", "-var-file=examples/sandbox.tfvars"]
    tell("terraform", f"apply, minimal: {root.apply()} resources made")
    check("is up to date" in user("pipeline", "upsert"), "Terraform and the command disagree about the pipeline")
    check(root.settled(), "the second plan is not empty")
    tell("terraform", "plan: no changes")
    return root


def remove(aws: server.StandIn, root: Root) -> None:
    "Take everything away: first what the deployment made, then what Terraform made."
    sm = aws.client("sagemaker")
    for endpoint in sm.list_endpoints()["Endpoints"]:
        sm.delete_endpoint(EndpointName=endpoint["EndpointName"])
    for config in sm.list_endpoint_configs()["EndpointConfigs"]:
        sm.delete_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
    for model in sm.list_models()["Models"]:
        sm.delete_model(ModelName=model["ModelName"])
    for version in sm.list_model_packages(ModelPackageGroupName="skin-lesion-models")["ModelPackageSummaryList"]:
        sm.delete_model_package(ModelPackageName=version["ModelPackageArn"])
    aws.client("cloudwatch").delete_alarms(AlarmNames=["skin-lesion-endpoint-quiet"])
    tell("terraform", f"destroy: {root.destroy()} resources gone")
    check(not remains(aws), f"destroy left {remains(aws)}")


def remains(aws: server.StandIn) -> list[str]:
    "What is still in the account."
    c = aws.client
    found = [b["Name"] for b in c("s3").list_buckets()["Buckets"]]
    found += [f["FunctionName"] for f in c("lambda").list_functions()["Functions"]]
    found += [r["RoleName"] for r in c("iam").list_roles()["Roles"]]
    found += [g["logGroupName"] for g in c("logs").describe_log_groups()["logGroups"]]
    found += [a["AlarmName"] for a in c("cloudwatch").describe_alarms()["MetricAlarms"]]
    found += [r["Name"] for r in c("events").list_rules()["Rules"]]
    found += [m["name"] for m in c("stepfunctions").list_state_machines()["stateMachines"]]
    found += [t["TopicArn"] for t in c("sns").list_topics()["Topics"]]
    found += [p["PipelineName"] for p in c("sagemaker").list_pipelines()["PipelineSummaries"]]
    vpcs = c("ec2").describe_vpcs(Filters=[dict(Name="is-default", Values=["false"])])["Vpcs"]
    return found + [v["VpcId"] for v in vpcs]


def rehearse_hipaa(folder: str) -> tuple[int, int, float]:
    "Apply, plan and destroy `hipaa` in an account of its own; resources made and gone, seconds. Another process."
    began = time.monotonic()
    aws = server.serve()
    try:
        root = Root(Path(folder), aws.url)
        certificate = aws.client("acm").request_certificate(DomainName="predict.example.org")["CertificateArn"]
        root.given = [f"-var-file=examples/{e}.tfvars" for e in ("hipaa", "sandbox")]
        root.given += [f"-var=certificate_arn={certificate}", "-var=training_instance_type=ml.g5.xlarge"]
        made = root.apply()
        check(root.settled(), "the second plan of hipaa is not empty")
        trains(aws)
        gone = root.destroy()
        check(not remains(aws), f"destroy left {remains(aws)}")
        return made, gone, time.monotonic() - began
    finally:
        aws.stop()


def trains(aws: server.StandIn) -> None:
    "The command agrees with Terraform about the pipeline; its jobs, isolated, with disks of their own, are taken."
    check("is up to date" in user("pipeline", "upsert"), "Terraform and the command disagree about hipaa")
    found = aws.client("sagemaker").describe_pipeline(PipelineName="skin-lesion-training")
    definition, default = json.loads(found["PipelineDefinition"]), dict(Arch="resnet50", Weights="imagenet")
    raw = next(p["DefaultValue"] for p in definition["Parameters"] if p["Name"] == "RawBucket")
    aws.client("s3").put_object(Bucket=raw, Key="ham10000/one.jpg", Body=b"image")
    refused = refusals.first_refusal(definition, default, "run")
    check(not refused, f"SageMaker would refuse a job of hipaa: {refused}")


def report_hipaa(private: Future) -> None:
    "What came of `hipaa`; its error is this program's."
    made, gone, seconds = private.result()
    tell("terraform", f"meanwhile, hipaa: {made} resources made, then no changes, {gone} gone; {seconds:.0f} s")


# ---- the retraining


def retrain(aws: server.StandIn, root: Root, lesions: Path) -> str:
    "From images to a model that serves; the team's last message."
    topic, machine, pipeline = (str(root.output(n)) for n in ("topic_arn", "state_machine_arn", "pipeline"))
    watch = Watch(aws, topic, machine, pipeline)
    user("data", "upload", str(synthetic.create_dataset(lesions, n=LESIONS)))
    request = dict(reason="a season's new images", requested_by="dermatology")
    answer = post(aws, str(root.output("retrain_url")), request)
    tell("POST /retrain", answer["executionArn"].split(":")[-1])
    watch.until("awaiting-approval")
    user("models", "list", "--region", "us-east-1")
    user("models", "approve", "1", "--by", "ada", "--reason", "read the report", "--region", "us-east-1")
    message = watch.until("deployed")
    endpoint = str(root.output("endpoint"))
    serves(aws, endpoint)
    clinic = Clinic(aws, endpoint, lesions.parent / "clinic")
    clinic.sees_through_a_weak_lamp(watch, lesions)
    clinic.misses_melanomas(watch, lesions)
    return message


def learned_from_what_came_later(aws: server.StandIn) -> None:
    "What is uploaded later is learned from: nothing of the first run is taken for it."
    sm, counts = aws.client("sagemaker"), []
    for version in sm.list_model_packages(ModelPackageGroupName="skin-lesion-models")["ModelPackageSummaryList"]:
        package = sm.describe_model_package(ModelPackageName=version["ModelPackageArn"])
        bucket, key = package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"][5:].split("/", 1)
        evaluation = json.load(aws.client("s3").get_object(Bucket=bucket, Key=key)["Body"])
        counts.append((version["ModelPackageVersion"], evaluation["lineage"]["data_hash"]))
    check(len(set(dict(counts).values())) == 2, f"both versions learned from the same images: {counts}")
    tell("registry", "version 2 learned from the images that came later")


def post(aws: server.StandIn, url: str, body: dict) -> dict:
    "Send a signed request to the HTTP API, whose door here is a loopback port."
    data = json.dumps(body)
    signed = AWSRequest("POST", url, data=data, headers={"Content-Type": "application/json"})
    SigV4Auth(Credentials("operator", "standin"), "execute-api", "us-east-1").add_auth(signed)
    host, path = url.split("//")[1].split("/", 1)
    door = f"{aws.door}/{host.split('.')[0]}/{path}"
    with urllib.request.urlopen(urllib.request.Request(door, data.encode(), dict(signed.headers))) as response:
        return json.load(response)


def user(*words: str) -> str:
    "What a person types, and what it says."
    typed = " ".join(w if " " not in w else f'"{w}"' for w in words)
    tell("person", f"$ skin-lesion {typed}")
    command = [sys.executable, "-m", "skin_lesion_mlops.cli.app", *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})
    check(done.returncode == 0, f"skin-lesion {typed}: {done.stdout}{done.stderr}")
    print("".join(f"{'':27}{line}\n" for line in done.stdout.strip().splitlines()), end="", flush=True)
    return done.stdout


def serves(aws: server.StandIn, endpoint: str) -> None:
    "The endpoint runs the version that was approved."
    sm = aws.client("sagemaker")
    found = sm.describe_endpoint(EndpointName=endpoint)
    check(found["EndpointStatus"] == "InService", f"{endpoint} is {found['EndpointStatus']}")
    config = sm.describe_endpoint_config(EndpointConfigName=found["EndpointConfigName"])
    model = sm.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
    containers = model.get("Containers") or [model["PrimaryContainer"]]
    check(containers[0]["ModelPackageName"].endswith("/1"), "the endpoint serves something else")
    tell("endpoint", f"{endpoint} is InService with {found['EndpointConfigName']}")


# ---- the loop: traffic, capture, monitor, violation, metric, alarm, event, retraining


class Clinic:
    "Sends pictures to the endpoint, which answers with the model that it serves, and hands in diagnoses."

    def __init__(self, aws: server.StandIn, endpoint: str, folder: Path):
        from skin_lesion_mlops.serve.app import create_service
        from skin_lesion_mlops.serve.predictor import create_predictor

        self.aws, self.endpoint, self.folder = aws, endpoint, folder
        folder.mkdir()
        package = deployed(aws.client("sagemaker"), endpoint)
        bucket, key = package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"][5:].split("/", 1)
        aws.client("s3").download_file(bucket, key, str(folder / "model.tar.gz"))
        self.service = create_service(create_predictor(folder / "model.tar.gz", "1", "torch"))
        sagemaker.container = self.answer
        self.table = pd.read_csv(
            next(synthetic.create_dataset(folder / "raw", n=LESIONS, seed=77).rglob("*metadata.csv"))
        )
        self.files = {f.stem: f for f in (folder / "raw").rglob("*.jpg")}

    def answer(self, kind: str, body: bytes) -> tuple[int, bytes]:
        "What the container of the version that was approved says: status, JSON."
        from skin_lesion_mlops.serve.app import answer
        from skin_lesion_mlops.serve.messages import content_type, to_json

        said = to_json(answer(self.service, content_type(kind), body), self.service.predictor.facts, "sandbox")
        return 200, json.dumps(said).encode()

    def asks(self, pictures: dict[str, bytes]) -> list[str]:
        "Send pictures, and keep what SageMaker's data capture keeps, which moto has not; those that were not flagged."
        runtime, now = self.aws.client("sagemaker-runtime"), datetime.now(timezone.utc)
        lines: list[str] = []
        harmless = []  # names of those that it did not flag
        for name, data in pictures.items():
            sent = dict(EndpointName=self.endpoint, ContentType="image/jpeg", Body=data, InferenceId=name)
            answered = runtime.invoke_endpoint(**sent)["Body"].read().decode()
            seen = dict(observedContentType="image/jpeg", mode="INPUT", encoding="BASE64")
            said = dict(observedContentType="application/json", mode="OUTPUT", encoding="JSON", data=answered)
            sides = dict(endpointInput=dict(seen, data=base64.b64encode(data).decode()), endpointOutput=said)
            event = dict(eventId=f"event-{name}", inferenceId=name, inferenceTime=f"{now:%Y-%m-%dT%H:%M:%SZ}")
            lines.append(json.dumps(dict(captureData=sides, eventMetadata=event, eventVersion="0")))
            harmless += [name] if json.loads(answered)["predictions"][0]["malignant"] is False else []
        key = f"capture/{self.endpoint}/AllTraffic/{now:%Y/%m/%d/%H/%M-%S}-{len(lines)}.jsonl"
        self.put(key, "\n".join(lines))
        tell("endpoint", f"{len(lines)} pictures answered and captured, {key}")
        return harmless

    def put(self, key: str, text: str) -> None:
        "A file in the bucket that the monitors read."
        self.aws.client("s3").put_object(Bucket=self.job("data-quality")[0], Key=key, Body=text.encode())

    def job(self, kind: str) -> tuple[str, list[str], dict[str, str]]:
        "A monitor's processing job, as its schedule starts it: bucket, arguments, environment."
        name = dict(Name=f"skin-lesion-{kind}", GroupName="skin-lesion-monitor")
        text = self.aws.client("scheduler").get_schedule(**name)["Target"]["Input"]
        until = datetime.now(timezone.utc) + timedelta(seconds=2)
        job = json.loads(text.replace("<aws.scheduler.scheduled-time>", f"{until:%Y-%m-%dT%H:%M:%SZ}"))
        given = job["AppSpecification"]["ContainerArguments"]
        return given[given.index("--capture") + 1].split("/")[2], given, job["Environment"]

    def monitor(self, kind: str, alarm: str) -> None:
        "Run a monitor's job here, and see violation, metric and alarm."
        _, given, known = self.job(kind)
        out = self.folder / kind
        given[given.index("--out") + 1] = str(out)
        command = [sys.executable, "-m", "skin_lesion_mlops.aws.watch", *given]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **known})
        check(done.returncode == 0, f"the monitor {kind} failed: {done.stdout}{done.stderr}")
        found = json.loads((out / "monitor" / Files.FINDING).read_text())
        for sentence in found["conclusion"]:
            tell("monitor", sentence)
        check(found["status"] == "CompletedWithViolations", f"{kind} found no violation: {found}")
        bad = json.loads((out / "monitor" / Files.VIOLATIONS).read_text())["violations"]
        tell("violations", ", ".join(dict.fromkeys(v.get("feature_name") or v["metric_name"] for v in bad)))
        tell("metrics", ", ".join(f"{n} {v:.3g}" for n, v in found["metrics"].items()))
        self.rings(f"skin-lesion-{alarm}")

    def rings(self, name: str) -> None:
        "The alarm is in ALARM."
        (alarm,) = self.aws.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
        check(alarm["StateValue"] == "ALARM", f"{name} is {alarm['StateValue']}")
        tell("alarm", f"{name}: {alarm['StateReason']}")

    def awaits(self, watch: Watch, alarm: str, version: int) -> None:
        "The alarm's event starts a retraining, and its version awaits approval."
        watch.until("awaiting-approval")
        sfn = self.aws.client("stepfunctions")
        started = [
            sfn.describe_execution(executionArn=x["executionArn"])["input"]
            for x in sfn.list_executions(stateMachineArn=watch.machine)["executions"]
        ]
        check(any(f"skin-lesion-{alarm}" in text for text in started), f"no execution was started by {alarm}")
        group = dict(ModelPackageGroupName="skin-lesion-models")
        found = self.aws.client("sagemaker").list_model_packages(**group)["ModelPackageSummaryList"]
        status = {v["ModelPackageVersion"]: v["ModelApprovalStatus"] for v in found}
        check(status.get(version) == "PendingManualApproval", f"version {version} does not await approval: {status}")
        tell("registry", f"version {version} awaits approval; {alarm} asked for it")

    def sees_through_a_weak_lamp(self, watch: Watch, lesions: Path) -> None:
        "The pictures grow dark: drift. The training that follows is a real one."
        user("data", "upload", str(synthetic.create_dataset(lesions, n=LESIONS + 60)))
        dark = {}
        for name in self.table.image_id[:130]:
            pixels, file = np.asarray(Image.open(self.files[name]), float) * 0.75, io.BytesIO()
            Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=95)
            dark[f"dark-{name}"] = file.getvalue()
        self.asks(dark)
        self.monitor("data-quality", "data-drift")
        self.awaits(watch, "data-drift", 2)
        learned_from_what_came_later(self.aws)

    def misses_melanomas(self, watch: Watch, lesions: Path) -> None:
        "Harmless, it says, and some turn out to be melanomas: sensitivity falls. The training is pretended."
        t = self.table[~self.table.dx.isin(HAM10000.malignant)]
        pictures = {f"benign-{n}": self.files[n].read_bytes() for n in t.image_id}
        missed = self.asks(pictures)[:25]
        truth = [f"{n},{'mel' if n in missed else dx}" for n, dx in zip(pictures, t.dx)]
        self.put("monitor/labels/histology.csv", "\n".join(["inference_id,dx", *truth]))
        tell("person", f"hands in {len(truth)} diagnoses: {len(missed)} melanomas were not flagged")
        user("data", "upload", str(synthetic.create_dataset(lesions, n=LESIONS + 120)))
        tell("sandbox", "the training that follows is pretended")
        sagemaker.executor = pipelines.pretend
        pipelines.scores.update(accuracy=0.95, balanced_accuracy=0.95)  # better than any champion
        self.monitor("model-quality", "sensitivity-drop")
        self.awaits(watch, "sensitivity-drop", 3)


class Watch:
    "Looks at state machine, pipeline and topic, and tells what is new."

    def __init__(self, aws: server.StandIn, topic: str, machine: str, pipeline: str):
        self.aws, self.machine, self.pipeline = aws, machine, pipeline
        self.told: set[tuple[str, str]] = set()
        sqs = aws.client("sqs")
        self.mailbox = sqs.create_queue(QueueName="team")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=self.mailbox, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    def steps(self) -> None:
        "What the steps of the pipeline's executions do."
        sm = self.aws.client("sagemaker")
        executions = sm.list_pipeline_executions(PipelineName=self.pipeline)["PipelineExecutionSummaries"]
        for x in (x["PipelineExecutionArn"] for x in executions):
            for step in sm.list_pipeline_execution_steps(PipelineExecutionArn=x)["PipelineExecutionSteps"]:
                self.once("pipeline", x, f"{step['StepName']} {step['StepStatus']}")

    def once(self, who: str, whose: str, what: str) -> None:
        "Tell it, unless it has been told."
        if (whose, what) not in self.told:
            self.told.add((whose, what))
            tell(who, what)

    def states(self) -> None:
        "The states that the machine's executions have entered."
        sfn = self.aws.client("stepfunctions")
        for x in sfn.list_executions(stateMachineArn=self.machine)["executions"]:
            pages = sfn.get_paginator("get_execution_history").paginate(executionArn=x["executionArn"])
            for event in (e for page in pages for e in page["events"] if "stateEnteredEventDetails" in e):
                self.once("state machine", x["name"], event["stateEnteredEventDetails"]["name"])

    def messages(self) -> dict[str, str]:
        "What the topic has sent since the last look: outcome -> text."
        sqs, found = self.aws.client("sqs"), {}
        for m in sqs.receive_message(QueueUrl=self.mailbox, MaxNumberOfMessages=10).get("Messages", []):
            body = json.loads(m["Body"])
            sqs.delete_message(QueueUrl=self.mailbox, ReceiptHandle=m["ReceiptHandle"])
            outcome = body.get("MessageAttributes", {}).get("outcome", {}).get("Value", "")
            tell("SNS", f"{outcome}: {body['Subject']}" if outcome else body["Subject"])
            if outcome or not body["Subject"].startswith(("ALARM", "OK")):
                found[outcome] = f"{body['Subject']}\n\n{body['Message']}"
        return found

    def until(self, outcome: str, seconds: float = 420) -> str:
        "Look until this message comes; its text. Any other is an error."
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.states()
            self.steps()
            if found := self.messages():
                check(set(found) == {outcome}, f"not {outcome}, but " + "\n".join(found.values()))
                self.states()
                return found[outcome]
            time.sleep(0.2)
        raise SystemExit(f"sandbox: no message {outcome} in {seconds:.0f} s")


if __name__ == "__main__":
    main()
