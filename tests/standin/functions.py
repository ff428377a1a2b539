"""Lambda: the uploaded zip, in a subprocess of its own, warm from the second call on.

moto runs a function in Docker. A subprocess per function and configuration is what Lambda's execution environment is to
a function: modules are imported once, and nothing but the zip, the environment and boto3 is there.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from moto.awslambda.models import LambdaFunction

from tests.standin import faults

HERE = Path(__file__).resolve().parent
_idle: dict[str, list[Worker]] = defaultdict(list)
_folders: dict[str, str] = {}
_guard = threading.Lock()
_tmp = tempfile.TemporaryDirectory(prefix="functions-")


class TimedOut(Exception):
    "A function took longer than its time limit."


class Died(Exception):
    "A function's process ended in the middle of an invocation."


class Worker:
    "One warm process of one function."

    def __init__(self, folder: str, environment: dict[str, str]):
        self.log = tempfile.TemporaryFile("w+", dir=_tmp.name)
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(HERE / "_worker.py")],  # -P: our folder has a `platform` of its own
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment,
            cwd=folder,
            text=True,
        )

    def call(
        self,
        message: dict,  # {event, faults, context}
        seconds: float,
    ) -> dict:  # {ok | error, calls, hits}
        "One invocation; a function that takes too long is killed, as Lambda does."
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            self.stop()
            raise TimedOut
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise Died(self.log.read()[-2000:])
        return json.loads(line)

    def stop(self) -> None:
        "End the process."
        self.process.kill()
        self.process.wait()


def install() -> None:
    "Put `invoke` into moto."
    LambdaFunction._invoke_lambda = invoke


def stop() -> None:
    "End every process."
    with _guard:
        for worker in [w for workers in _idle.values() for w in workers]:
            worker.stop()
        _idle.clear()


def invoke(
    self: Any,  # moto's function
    event: Any = None,
) -> tuple[str, bool, str]:  # answer, did it fail, log
    "Run the function in a warm process, or a new one."
    environment = _environment(self)
    key = hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()
    with _guard:
        worker = _idle[key].pop() if _idle[key] else None
    worker = worker or Worker(environment["LAMBDA_TASK_ROOT"], environment)
    wanted = faults.pending(self.function_name)
    context = dict(function_name=self.function_name, memory_limit_in_mb=self.memory_size, aws_request_id=_next_id())
    message = dict(event=event or {}, faults=[f.wanted() for f in wanted], context=context)
    try:
        answer = worker.call(message, float(self.timeout))
    except TimedOut:
        text = f"Task timed out after {self.timeout}.00 seconds"
        return json.dumps(dict(errorMessage=text, errorType="Sandbox.Timedout")), True, text
    except Died as e:
        text = f"RequestId: {context['aws_request_id']} Error: Runtime exited: {e}"
        return json.dumps(dict(errorMessage=text, errorType="Lambda.Unknown")), True, text
    for call in answer["calls"]:
        faults.note(self.function_name, call)
    for f in wanted:
        f.hits += f.operation in answer["hits"]
    with _guard:
        _idle[key].append(worker)
    return json.dumps(answer.get("ok", answer.get("error"))), "error" in answer, ""


def _environment(
    function: Any,  # moto's
) -> dict[str, str]:
    "What a function finds in its environment."
    account = dict(AWS_ENDPOINT_URL=faults.url, AWS_ACCESS_KEY_ID="function", AWS_SECRET_ACCESS_KEY="standin")
    return {
        **{k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "HOME")},
        **account,
        "AWS_REGION": function.region,
        "AWS_DEFAULT_REGION": function.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_LAMBDA_FUNCTION_NAME": function.function_name,
        "LAMBDA_TASK_ROOT": _unpacked(function.code_bytes),
        "_HANDLER": function.handler,
        **(function.environment_vars or {}),
    }


def _unpacked(code: bytes) -> str:
    "Unpack a zip, once."
    key = hashlib.sha256(code).hexdigest()
    with _guard:
        if key not in _folders:
            folder = tempfile.mkdtemp(dir=_tmp.name)
            zipfile.ZipFile(io.BytesIO(code)).extractall(folder)
            _folders[key] = folder
    return _folders[key]


_count = 0


def _next_id() -> str:
    "A request id."
    global _count
    _count += 1
    return f"request-{_count}"
