"""Pass messages of the alerts topic on to a Slack channel. The webhook's address is a secret: it is read from Secrets
Manager, kept for the life of the process and never logged. Raises `SlackRefused`, `SlackBusy` (SNS delivers again).
"""

from __future__ import annotations

import functools
import json
import os
import urllib.error
import urllib.request

from common import client, entry


class SlackRefused(Exception):
    "Slack does not take the message: the webhook is wrong or was withdrawn."


class SlackBusy(Exception):
    "Slack cannot be reached now."


@functools.lru_cache(maxsize=None)
def webhook() -> str:
    "The address to post to."
    return client("secretsmanager").get_secret_value(SecretId=os.environ["SLACK_SECRET_ARN"])["SecretString"].strip()


@entry
def handler(
    event: dict,  # as SNS invokes a function
) -> dict:
    "Post each message."
    for record in event["Records"]:
        post(webhook(), as_text(record["Sns"]))
    return dict(summary=f"{len(event['Records'])} posted")


def as_text(
    notification: dict,  # the `Sns` of a record
) -> str:  # Slack's markup, at most 3,000 characters
    "A notification as a Slack message; an alarm's JSON becomes one sentence."
    subject, body = notification.get("Subject") or "skin-lesion", notification["Message"]
    try:
        alarm = json.loads(body)
        if isinstance(alarm, dict) and "AlarmName" in alarm:
            body = f"{alarm['AlarmName']} is {alarm['NewStateValue']}: {alarm.get('NewStateReason', '')}"
    except ValueError:
        pass
    for character, escape in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        body = body.replace(character, escape)
    return f"*{subject}*\n{body}"[:3000]


def post(url: str, text: str) -> None:
    "Send one message."
    data = json.dumps(dict(text=text)).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5):  # nosec B310: the address is our own secret
            pass
    except urllib.error.HTTPError as e:
        raise (SlackBusy if e.code == 429 or e.code >= 500 else SlackRefused)(f"Slack answered {e.code}") from None
    except OSError as e:
        raise SlackBusy(f"Slack cannot be reached: {type(e).__name__}") from None
