"""CloudWatch: a metric sets its alarms off, and an alarm that changes its state acts and says so on the default bus.

moto only notes both. AWS looks once a period; here each datapoint is looked at as it comes.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from moto.cloudwatch.models import CloudWatchBackend

from tests.standin import faults

_installed = False


def install() -> None:
    "Put the actions into moto, once."
    global _installed
    if _installed:
        return
    _installed = True
    set_state = CloudWatchBackend.set_alarm_state

    def set_alarm_state(self: Any, alarm_name: str, reason: str, reason_data: str, state_value: str) -> Any:
        answer = set_state(self, alarm_name, reason, reason_data, state_value)
        if faults.url:
            threading.Thread(target=_act, args=(self.alarms[alarm_name], state_value, reason), daemon=True).start()
        return answer

    CloudWatchBackend.set_alarm_state = set_alarm_state
    put = CloudWatchBackend.put_metric_data

    def put_metric_data(self: Any, namespace: str, metric_data: list[dict[str, Any]]) -> None:
        put(self, namespace, metric_data)
        for metric in metric_data:
            for alarm in [a for a in list(self.alarms.values()) if _watches(a, namespace, metric)]:
                _judge(self, alarm, float(metric.get("Value", 0)))

    CloudWatchBackend.put_metric_data = put_metric_data


def _watches(
    alarm: Any,  # moto's
    namespace: str,
    metric: dict[str, Any],  # a datum, as PutMetricData takes it
) -> bool:
    "Is it this alarm's metric? Its unit and every dimension count, as on AWS."
    dimensions = {d["Name"]: d["Value"] for d in metric.get("Dimensions") or []}
    same = (alarm.namespace, alarm.metric_name) == (namespace, metric["MetricName"])
    same = same and {d.name: d.value for d in alarm.dimensions} == dimensions
    return same and alarm.unit in (None, "", metric.get("Unit", "None"))


def _judge(
    backend: Any,  # moto's
    alarm: Any,  # one that watches the metric
    value: float,  # that was published
) -> None:
    "Change the state, where it changes."
    if alarm.comparison_operator != "GreaterThanThreshold":
        raise NotImplementedError(f"{alarm.name}: {alarm.comparison_operator}")
    over = value > float(alarm.threshold)
    state, word = ("ALARM", "was") if over else ("OK", "was not")
    why = f"Threshold Crossed: 1 datapoint [{value:g}] {word} greater than the threshold ({float(alarm.threshold):g})."
    if state != alarm.state_value:
        backend.set_alarm_state(alarm.name, why, "{}", state)


def _act(
    alarm: Any,  # moto's
    state: str,  # ALARM, OK or INSUFFICIENT_DATA
    reason: str,
) -> None:
    "Do what an alarm does in its new state."
    time.sleep(0.05)
    actions = dict(ALARM=alarm.alarm_actions, OK=alarm.ok_actions, INSUFFICIENT_DATA=alarm.insufficient_data_actions)
    message = json.dumps(dict(AlarmName=alarm.name, NewStateValue=state, NewStateReason=reason))
    for action in actions[state] or []:
        if ":sns:" in action and alarm.actions_enabled in (None, True, "true"):
            subject = f'{state}: "{alarm.name}" in US East (N. Virginia)'
            faults.client("sns", "alarms").publish(TopicArn=action, Subject=subject[:100], Message=message)
    detail = dict(alarmName=alarm.name, state=dict(value=state, reason=reason), previousState=dict(value="OK"))
    entry = dict(Source="aws.cloudwatch", DetailType="CloudWatch Alarm State Change", Detail=json.dumps(detail))
    faults.client("events", "alarms").put_events(Entries=[dict(entry, Resources=[alarm.alarm_arn])])
