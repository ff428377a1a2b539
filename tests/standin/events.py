"EventBridge: rules that reach functions, state machines, topics and pipelines. moto serves queues and logs only."

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID
from moto.events.models import Rule, events_backends
from moto.events.utils import EventTemplateParser

from tests.standin import faults

REACHED = ("lambda", "states", "sns", "sagemaker")
_installed = False


def install() -> None:
    "Put the targets into moto, once."
    global _installed
    if _installed:
        return
    _installed = True
    send = Rule.send_to_targets

    def send_to_targets(self: Any, original_event: Any, transform_input: bool = True) -> None:
        if (
            self.state != "ENABLED" or not self.event_pattern.get_pattern()
        ):  # moto: no pattern, a schedule's rule, fits all
            return
        if not self.event_pattern.matches_event(original_event):
            return
        all_targets = self.targets
        ours = [t for t in all_targets if t["Arn"].split(":")[2] in REACHED]
        for target in ours:
            deliver(target, original_event, self.region_name)
        self.targets = [t for t in all_targets if t not in ours]
        try:
            send(self, original_event, transform_input)
        finally:
            self.targets = all_targets

    Rule.send_to_targets = send_to_targets


def deliver(
    target: dict,  # as PutTargets takes it
    event: Any,
    region: str,
) -> None:
    "Bring an event to a target, a moment later and from outside, as EventBridge does."
    sent = {k: v for k, v in dict(event).items() if k != "ingestion-time"}
    if isinstance(sent["time"], float):  # moto: seconds; EventBridge: ISO 8601
        sent["time"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(sent["time"]))
    body = _transformed(target, sent)

    def go() -> None:
        try:
            bring(target["Arn"])
        except faults.ClientError as e:  # the account may have been emptied meanwhile
            print(f"stand-in: an event for {target['Arn']} was not delivered: {e}", file=sys.stderr)

    def bring(arn: str) -> None:
        service = arn.split(":")[2]
        if service == "states":
            faults.client("stepfunctions", "events").start_execution(stateMachineArn=arn, input=body)
        if service == "lambda":
            faults.client("lambda", "events").invoke(FunctionName=arn, InvocationType="Event", Payload=body)
        if service == "sns":
            faults.client("sns", "events").publish(TopicArn=arn, Message=body)
        if service == "sagemaker":
            given = target.get("SageMakerPipelineParameters", {}).get("PipelineParameterList", [])
            faults.client("sagemaker", "events").start_pipeline_execution(
                PipelineName=arn.split("/")[-1], PipelineParameters=given
            )

    threading.Thread(target=go, daemon=True).start()


def _transformed(
    target: dict,  # as PutTargets takes it
    event: dict,
) -> str:  # JSON
    "What a target is sent: its fixed input, its template filled in, or the event."
    if "Input" in target:
        return target["Input"]
    if "InputPath" in target:  # moto sends the whole event
        for part in target["InputPath"].split(".")[1:]:
            event = event[part]
    if "InputTransformer" in target:
        t = target["InputTransformer"]
        timed: Any = {**event, "ingestion-time": time.time()}  # moto looks for it
        filled = EventTemplateParser.parse(t["InputTemplate"], t.get("InputPathsMap", {}), timed)
        return filled if isinstance(filled, str) else json.dumps(filled)
    return json.dumps(event)


def report(
    source: str,  # of AWS, e.g. "aws.sagemaker"
    kind: str,
    detail: dict,
    arn: str,
) -> None:
    "Put an event of AWS on the default bus, as AWS does: a moment later, from outside."
    entry = dict(Source=source, DetailType=kind, Detail=json.dumps(detail), Resources=[arn])

    def put() -> None:
        time.sleep(0.05)
        faults.client("events", "aws").put_events(Entries=[entry])

    threading.Thread(target=put, daemon=True).start()


def tick(
    rule_name: str,  # a rule with a schedule
    region: str = "us-east-1",
) -> None:
    "Let a schedule's time come; moto's clock never strikes."
    rule = events_backends[DEFAULT_ACCOUNT_ID][region].describe_rule(rule_name, None)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    event = {"version": "0", "id": "tick", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}
    event.update(account=DEFAULT_ACCOUNT_ID, time=now, region=region, resources=[rule.arn])
    for target in rule.targets:
        deliver(target, event, region)
