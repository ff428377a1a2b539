"Runs mirrored to a real MLflow server on this machine, and what happens where there is none."

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest

from skin_lesion_mlops.core import SkinLesionError, write_json
from skin_lesion_mlops.pipeline import tracking
from skin_lesion_mlops.pipeline.runs import list_runs
from tests import forks
from tests.test_cli import command, environment, run_small, skin_lesion, small_pipeline
from tests.test_local import training

TRAIN = """
import os
print("epoch=1 loss=0.9"); print("epoch=2 loss=0.4")
open(os.path.join(os.environ["SM_MODEL_DIR"], "model.pt"), "w").write("weights")
"""


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def _serving(uri, *line, cwd):
    "A server, from its first answer on."
    quiet = dict(os.environ, MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
    with forks.Popen(line, cwd=cwd, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(1200):
                try:
                    urllib.request.urlopen(f"{uri}/health", timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None, "mlflow server did not start"
                    time.sleep(0.05)
            yield uri
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    "A real MLflow server with its SQLite store."
    pytest.importorskip("mlflow.server", reason="mlflow is not installed: pip install '.[mlflow]'")
    folder, port = tmp_path_factory.mktemp("mlflow"), _free_port()
    line = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    line += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder)]
    with _serving(f"http://127.0.0.1:{port}", *line, cwd=folder) as uri:
        yield uri


@pytest.fixture
def client(server, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return MlflowClient(tracking_uri=server)


@pytest.fixture
def place(tmp_path):
    "A folder with data, a pipeline that trains, evaluates and registers, and an empty home."
    small = small_pipeline()
    small["Steps"].insert(0, training(TRAIN, dict(arch="tiny")))
    (tmp_path / "lesions").mkdir()
    (tmp_path / "lesions" / "one.jpg").write_bytes(b"an image")
    write_json(tmp_path / "small.json", small)
    return tmp_path


def _mirrored(client, run):
    "What the server has of a run: the run and those nested in it, by name."
    experiment = client.get_experiment_by_name(run.pipeline).experiment_id
    mine = client.search_runs([experiment], f"tags.page = '{run.page}'")
    assert len(mine) == 1
    nested = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{mine[0].info.run_id}'")
    return mine[0], {r.info.run_name: r for r in nested}


def test_a_run_is_mirrored_to_a_server_while_it_goes_on(place, client, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    said = run_small(place, "-p", "CodeVersion=v9", "--json")
    assert json.loads(said.stdout)["status"] == "Succeeded"  # and nothing else was printed
    run = list_runs(place / "home")[0]
    there, steps = _mirrored(client, run)
    assert f"tracking  {server}, run {there.info.run_id}" in said.stderr
    assert there.info.status == "FINISHED" and there.data.tags["data_hash"] == "abc"
    assert {r.info.status for r in steps.values()} == {"FINISHED"}
    assert set(steps) == {"Train", "Evaluate", "Gate", "Register"}
    assert there.data.params == {k: str(v) for k, v in run.parameters.items()} and steps["Train"].data.params
    figures = {n: there.data.metrics[n] for n in ("accuracy", "accuracy.low", "accuracy.high")}
    assert figures == {"accuracy": 0.9, "accuracy.low": 0.88, "accuracy.high": 0.92}
    assert there.data.tags["code_version"] == "v9" and there.data.tags["registered_version"].endswith("/1")
    assert there.inputs.dataset_inputs[0].dataset.digest == "abc"
    losses = client.get_metric_history(steps["Train"].info.run_id, "loss")
    assert [(m.step, m.value) for m in sorted(losses, key=lambda m: m.step)] == [(1, 0.9), (2, 0.4)]
    assert steps["Evaluate"].data.tags["output.evaluation"] == f"s3://models/runs/{run.id}/evaluation"
    assert not client.list_artifacts(there.info.run_id)  # by reference: nothing was copied


@pytest.mark.parametrize("silent", [False, True], ids=["not there", "never answers"])
def test_a_failing_tracker_fails_no_run(place, monkeypatch, silent):
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install '.[mlflow]'")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        if silent:
            deaf.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:secret@127.0.0.1:{deaf.getsockname()[1]}")
        done = run_small(place)
        assert "registered  version 1" in done.stdout
        assert "not sent" in done.stderr and "runs sync" in done.stderr and "secret" not in done.stderr
        failed = skin_lesion(place, "runs", "sync", status=1) if not silent else done
        assert "has not taken run" in failed.stderr and "secret" not in failed.stderr


def test_what_was_run_without_a_tracker_is_sent_later(place, client, server, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run_small(place)
    assert "no tracker is named" in skin_lesion(place, "runs", "sync", status=1).stderr
    assert skin_lesion(place, "runs", "sync", "--to", server).stdout.endswith(": 1 sent, 0 there already\n")
    assert skin_lesion(place, "runs", "sync", "--to", server).stdout.endswith(": 0 sent, 1 there already\n")
    there, steps = _mirrored(client, list_runs(place / "home")[0])
    assert there.info.status == "FINISHED" and len(steps) == 4


def test_a_run_that_is_continued_stays_one_run(place, client, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    run_small(place)
    run = list_runs(place / "home")[0]
    id = _mirrored(client, run)[0].info.run_id
    client.set_terminated(id, "KILLED")  # as after Ctrl-C
    run.status = "Running"
    assert tracking.send_run(run, server) == id and client.get_run(id).info.status == "RUNNING"
    run.status = "Succeeded"
    tracking.send_run(run, server)
    there, steps = _mirrored(client, run)
    assert there.info.status == "FINISHED" and len(steps) == 4
    assert len(client.get_metric_history(steps["Train"].info.run_id, "loss")) == 2
    assert len(client.get_metric_history(id, "accuracy")) == 1


@pytest.mark.parametrize("uri", ["", "sqlite:///mlflow.db"])
def test_without_mlflow_nothing_is_imported_and_a_run_succeeds(place, uri):
    block = "import sys\nsys.modules['mlflow'] = None\nfrom skin_lesion_mlops.cli.app import app\n"
    line = command("run", "--data", "lesions", "--definition", "small.json")[3:]
    env = {**environment(place), "MLFLOW_TRACKING_URI": uri}
    done = subprocess.run(
        [sys.executable, "-c", block + f"app({line})"], cwd=place, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert ("not sent" in done.stderr) == bool(uri) and "mlflow" in done.stderr or not uri
    assert not list(place.glob("home/runs/*/mlflow.json")) and not (place / "mlflow.db").exists()


def test_sagemakers_tracker_needs_its_plugin(monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: name == "mlflow")
    with pytest.raises(SkinLesionError, match="sagemaker-mlflow"):
        tracking._client("arn:aws:sagemaker:eu-central-1:123456789012:mlflow-tracking-server/team")
