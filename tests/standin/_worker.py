"The process a function runs in: reads an event a line, writes an answer a line. Started by `functions.Worker`."

import importlib
import importlib.util
import json
import os
import sys
import traceback
import types
from pathlib import Path

import boto3

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the function prints is its log, not its answer
spec = importlib.util.spec_from_file_location("faults", Path(__file__).with_name("faults.py"))
faults = importlib.util.module_from_spec(spec)
sys.modules["faults"] = faults
spec.loader.exec_module(faults)

calls, wanted, hits = [], [], []
boto3.setup_default_session()
faults.watch(boto3.DEFAULT_SESSION.events, calls, wanted, hits)
sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
module, _, name = os.environ["_HANDLER"].rpartition(".")
for line in sys.stdin:
    message = json.loads(line)
    for kept in (calls, wanted, hits):
        kept.clear()
    wanted.extend(message["faults"])
    answer = dict()
    try:
        function = getattr(importlib.import_module(module.replace("/", ".")), name)
        answer["ok"] = json.loads(json.dumps(function(message["event"], types.SimpleNamespace(**message["context"]))))
    except BaseException as e:
        lines = traceback.format_exc().splitlines()
        answer["error"] = dict(errorMessage=str(e), errorType=type(e).__name__, stackTrace=lines)
    answers.write(json.dumps(dict(answer, calls=calls, hits=hits)) + "\n")
    answers.flush()
