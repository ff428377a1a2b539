"CloudWatch: an alarm that changes its state acts, and says so on the default bus. moto only notes the state."

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
