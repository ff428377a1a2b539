"Training as a job: killed, stopped, resumed, divided among processes, misconfigured."

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from skin_lesion_mlops.core import METRIC_DEFINITIONS, Files, SkinLesionError, read_json, s3_path, write_json
from skin_lesion_mlops.taxonomy import HAM10000
from skin_lesion_mlops.model import hyperparameters as T_hyperparameters
from skin_lesion_mlops.model import job, train, world
from skin_lesion_mlops.model.bundle import open_bundle, posterior, softmax
from skin_lesion_mlops.model.hyperparameters import Hyperparameters
from skin_lesion_mlops.model.folds import fit_members
from skin_lesion_mlops.model.job import save_fitted
from skin_lesion_mlops.model.networks import create_contract, create_model, load_bundle, predict, save_bundle
from skin_lesion_mlops.model.train import fit, open_split
from skin_lesion_mlops.pipeline.local import run_pipeline
from skin_lesion_mlops.pipeline.runs import Event, Run
from skin_lesion_mlops.pipeline.store import link_data
from tests import forks

TINY = Hyperparameters(arch="tiny", weights="none", epochs=3, batch_size=16, learning_rate=0.01)
JOB = dict(arch="tiny", weights="none", epochs="4", batch_size="16", learning_rate="0.01")


def write_split(folder: Path, labels: np.ndarray, seed: int, size: int = 32, data_hash: str = "generated") -> Path:
    "A split folder as preprocessing writes it: each class a colour, under noise."
    rng = np.random.default_rng(seed)
    colours = np.random.default_rng(0).integers(60, 200, (len(HAM10000.codes), 1, 1, 3))
    images = colours[labels] + rng.normal(0, 40, (len(labels), size, size, 3))
    folder.mkdir(parents=True)
    np.save(folder / Files.SHARD.format(0), images.clip(0, 255).astype(np.uint8))
    table = dict(image_id=[f"G{i}" for i in range(len(labels))], label=labels, shard=0, row=np.arange(len(labels)))
    pd.DataFrame(table).assign(age=50.0).to_csv(folder / Files.INDEX, index=False)
    contract: dict[str, Any] = dict(version=1, image_size=size, mean=[0.5] * 3, std=[0.25] * 3, data_hash=data_hash)
    write_json(folder / Files.DATASET, {**contract, "classes": HAM10000.codes, "split_size": len(labels)})
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "`train` with unequal classes, and `validation`."
    folder = tmp_path_factory.mktemp("data")
    write_split(folder / "train", np.repeat(np.arange(7), [3, 5, 8, 2, 9, 30, 4]), seed=1)
    write_split(folder / "validation", np.arange(35) % 7, seed=2)
    return folder


@pytest.fixture(scope="module")
def splits(data: Path) -> tuple:
    return open_split(data / "train"), open_split(data / "validation")


def job_folder(root: Path, data: Path, **hyperparameters: str) -> Path:
    "What SageMaker mounts at /opt/ml."
    (root / "input").mkdir(parents=True)
    (root / "input" / "data").symlink_to(data)
    write_json(root / "input" / "config" / "hyperparameters.json", {**JOB, **hyperparameters})
    return root


def start(root: Path, *command: str, how: Any = forks.Popen, **env: str) -> subprocess.Popen:
    "Start a training job as a container would, or all but: with its libraries imported."
    variables = {k: v for k, v in os.environ.items() if not k.startswith("SM_") and k != "IN_TEST"}
    variables.update(SAGEMAKER_BASE_DIR=str(root), OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1", **env)
    module = [*(command or ("-m",)), "skin_lesion_mlops.model.job"]
    return how([sys.executable, *module], env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen) -> str:
    "Wait for a job that must succeed."
    try:
        out = process.communicate(timeout=400)[0]
    finally:
        process.kill()
    assert process.returncode == 0, out
    return out


def wait_for(process: subprocess.Popen, start_of_line: str) -> list[str]:
    "Read the log up to a line."
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        if line.startswith(start_of_line):
            return lines
    raise AssertionError("".join(lines))


def used() -> float:
    "Seconds of the processor that the children of this process used, once they have ended."
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def weights_of(root: Path) -> dict[str, torch.Tensor]:
    "What a job has trained."
    return load_bundle(root / "model").model.state_dict()


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    "Equal in every bit."
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    "A job that nobody disturbed, and its log: Python started as in a container. Long enough to be interrupted."
    root = job_folder(tmp_path_factory.mktemp("job") / "ml", data, epochs="40")
    return root, finish(start(root, how=subprocess.Popen))


# --- SageMaker's contract


def test_a_job_leaves_a_complete_bundle(undisturbed: tuple[Path, str]) -> None:
    root, _ = undisturbed
    contract = load_bundle(root / "model").contract
    assert contract["data_hash"] == "generated" and contract["arch"] == "tiny" and contract["image_size"] == 32
    assert contract["mean"] == [0.5] * 3 and contract["parameters"]["epochs"] == 40
    assert contract["temperature"] > 0 and contract["validation"]["malignant_sensitivity"] >= 0.95
    history = pd.read_csv(root / "model" / Files.HISTORY)
    assert list(history.epoch) == list(range(1, len(history) + 1))
    receipt = read_json(root / "model" / Files.RECEIPT)
    assert receipt["status"] == "Succeeded" and receipt["inputs"]["data"] == "generated"
    assert receipt["results"]["balanced_accuracy"] == contract["validation"]["balanced_accuracy"] > 0.5


def test_cloudwatch_can_read_every_epoch(undisturbed: tuple[Path, str]) -> None:
    import re

    root, log = undisturbed
    history = pd.read_csv(root / "model" / Files.HISTORY)
    for d in METRIC_DEFINITIONS:
        found = [float(v) for v in re.findall(d["Regex"], log)]
        assert np.allclose(found, history[d["Name"]], rtol=1e-3), d["Name"]


def test_environment_and_arguments_win_over_the_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_folder(tmp_path / "ml", data, seed='"7"', sagemaker_program='"train.py"')
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path / "ml"))
    monkeypatch.setenv("SM_HP_EPOCHS", "9")
    p = T_hyperparameters.read_hyperparameters(
        job.gather_hyperparameters(["train", "--batch-size", "8", "--learning_rate=0.5"])
    )
    assert (p.seed, p.epochs, p.batch_size, p.learning_rate, p.arch) == (7, 9, 8, 0.5, "tiny")


def test_channels_and_model_folder_from_the_environment(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    for name in ("train", "validation"):
        monkeypatch.setenv(f"SM_CHANNEL_{name.upper()}", str(data / name))
    monkeypatch.setenv("SM_MODEL_DIR", str(tmp_path / "elsewhere"))
    assert job.train_job([f"--{k}={v}" for k, v in {**JOB, "epochs": 1}.items()]) == tmp_path / "elsewhere"
    assert load_bundle(tmp_path / "elsewhere").contract["parameters"]["epochs"] == 1
    assert list((tmp_path / "checkpoints").glob("checkpoint-*.pt"))


def test_weights_from_their_channel(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = create_model("tiny", num_classes=3)
    (tmp_path / "weights").mkdir()
    torch.save(parent.state_dict(), tmp_path / "weights" / "parent.pt")
    monkeypatch.setenv("SM_CHANNEL_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(job_folder(tmp_path / "ml", data, weights="file", epochs="1")))
    assert "parent.pt" in load_bundle(job.train_job()).contract["parent"]
    (tmp_path / "weights" / "second.pt").touch()
    with pytest.raises(SkinLesionError, match="holds 2 files"):
        job.train_job()


def test_an_unexpected_failure_begins_with_its_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    "However deep it happened: SageMaker shows the first 1,024 characters."

    def fails(argv: Any, stop: Any, deep: int = 40) -> None:
        if deep:
            return fails(argv, stop, deep - 1)
        raise OSError(5, "Input/output error", "/opt/ml/model/model.pt")

    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.setattr(job, "train_job", fails)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert job.main([]) == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    said = (tmp_path / "output" / "failure").read_text()
    assert said.startswith("OSError: [Errno 5] Input/output error: '/opt/ml/model/model.pt'") and len(said) <= 1024


@pytest.mark.parametrize("wrong, message", [(dict(arch="vgg"), "unknown arch"), (dict(epohcs="3"), "unknown hyper")])
def test_a_failure_says_why(wrong: dict, message: str, data: Path, tmp_path: Path) -> None:
    root = job_folder(tmp_path / "ml", data, **wrong)
    process = start(root)
    assert message in process.communicate(timeout=300)[0] and process.returncode == 1
    assert message in (root / "output" / "failure").read_text()
    assert read_json(root / "model" / Files.RECEIPT)["status"] == "Failed"


# --- killed and resumed


def test_kill_9_and_resume(undisturbed: tuple[Path, str], data: Path, tmp_path: Path) -> None:
    root = job_folder(tmp_path / "ml", data, epochs="40")
    for line in ("epoch=3 ", "epoch=17 "):
        process = start(root)
        wait_for(process, line)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not (root / "model" / Files.BUNDLE).exists()
    log = finish(start(root))
    assert "continuing in epoch" in log and "epoch=3 " not in log
    assert_same(weights_of(root), weights_of(undisturbed[0]))


def test_sigterm_and_resume(undisturbed: tuple[Path, str], data: Path, tmp_path: Path) -> None:
    root = job_folder(tmp_path / "ml", data, epochs="40")
    before = used()
    process = start(root)
    wait_for(process, "epoch=5 ")
    spent = sum(psutil.Process(process.pid).cpu_times()[:2])
    process.send_signal(signal.SIGTERM)
    log = process.communicate(timeout=300)[0]
    assert process.returncode == 143 and "stopped in epoch" in log, log
    assert used() - before - spent < 30  # seconds of the processor, however busy the machine is
    assert read_json(root / "model" / Files.RECEIPT)["status"] == "Stopped"
    assert "continuing in epoch" in finish(start(root))
    assert_same(weights_of(root), weights_of(undisturbed[0]))


class After:
    "A stop signal after some batches."

    def __init__(self, batches: int):
        self.left = batches

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("optimizer, freeze", [("adam", "none"), ("sgd", "none"), ("adamw", "backbone")])
def test_stopped_at_any_batch(optimizer: str, freeze: str, splits: tuple, tmp_path: Path) -> None:
    p = replace(TINY, optimizer=optimizer, freeze=freeze)
    whole = fit(*splits, p)
    for batches in (6, 7, 1000):  # within an epoch, then at its end
        try:
            resumed = fit(*splits, p, tmp_path, stop=After(batches))
        except train.Stopped as e:
            assert e.code == 143
    assert_same(whole.model.state_dict(), resumed.model.state_dict())
    columns = ["train_loss", "validation_loss", "learning_rate"]
    assert whole.history[columns].equals(resumed.history[columns])
    assert np.array_equal(whole.logits, resumed.logits)


def test_dropout_is_resumed_too(splits: tuple, tmp_path: Path) -> None:
    p = replace(TINY, arch="mobilenet_v3_small", epochs=2, batch_size=32)
    whole = fit(*splits, p)
    with pytest.raises(train.Stopped):
        fit(*splits, p, tmp_path, stop=After(1))
    assert_same(whole.model.state_dict(), fit(*splits, p, tmp_path).model.state_dict())


def test_a_finished_run_is_not_trained_again(splits: tuple, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    first = fit(*splits, TINY, tmp_path)
    capsys.readouterr()
    assert_same(first.model.state_dict(), fit(*splits, TINY, tmp_path).model.state_dict())
    assert "epoch=" not in capsys.readouterr().out


def test_old_checkpoints_are_removed(splits: tuple, tmp_path: Path) -> None:
    fit(*splits, replace(TINY, epochs=6), tmp_path)
    assert (
        len(list(tmp_path.glob("checkpoint-*.pt"))) == train.KEPT
        and len(list(tmp_path.glob("best-*.pt"))) <= train.KEPT
    )
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "flipped", "best"])
def test_damaged_checkpoints_are_skipped(
    damage: str, splits: tuple, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    whole = fit(*splits, TINY, tmp_path)
    pattern = "best-*.pt" if damage == "best" else "checkpoint-*.pt"
    newest = sorted(tmp_path.glob(pattern))[-1]
    content = newest.read_bytes()
    third = len(content) // 3
    flipped = content[:third] + bytes(b ^ 0xFF for b in content[third : third + 64]) + content[third + 64 :]
    damaged = dict(truncated=content[:third], garbage=b"x" * 999, empty=b"", flipped=flipped, best=content[:-99])
    newest.write_bytes(damaged[damage])
    capsys.readouterr()
    again = fit(*splits, TINY, tmp_path)
    assert "is damaged and is skipped" in capsys.readouterr().out
    assert_same(whole.model.state_dict(), again.model.state_dict())


def test_checkpoints_of_another_run_are_refused(splits: tuple, data: Path, tmp_path: Path) -> None:
    fit(*splits, replace(TINY, epochs=1), tmp_path)
    with pytest.raises(SkinLesionError, match="learning_rate was 0.01, now it is 0.5"):
        fit(*splits, replace(TINY, epochs=1, learning_rate=0.5), tmp_path)
    other = [write_split(tmp_path / s, np.arange(61) % 7, 1, data_hash="other") for s in ("train", "validation")]
    with pytest.raises(SkinLesionError, match="data_hash was 'generated', now it is 'other'"):
        fit(*map(open_split, other), replace(TINY, epochs=1), tmp_path)  # type: ignore[call-arg]


# --- several processes


def curve(root: Path) -> pd.DataFrame:
    "The loss curve of a job."
    return pd.read_csv(root / "model" / Files.HISTORY)


def on_hosts(home: Path, data: Path, count: int, seconds: float = 0, **chosen: Any) -> Run:
    "Run a pipeline of one training step on some machines; after some seconds, kill the last one once it has learned."
    channel = dict(S3DataType="S3Prefix", S3DataDistributionType="FullyReplicated")
    channels = []
    for name in ("train", "validation"):
        link_data(home, data / name, "data", name)
        source = dict(channel, S3Uri=f"s3://data/{name}")
        channels.append(dict(ChannelName=name, DataSource=dict(S3DataSource=source)))
    arguments = dict(
        AlgorithmSpecification=dict(
            TrainingImage="i", ContainerEntrypoint=["python3", "-m", "skin_lesion_mlops.model.job"]
        ),
        HyperParameters={**JOB, "precision": "fp32", "optimizer": "sgd", **{k: str(v) for k, v in chosen.items()}},
        InputDataConfig=channels,
        OutputDataConfig=dict(S3OutputPath="s3://models"),
        CheckpointConfig=dict(S3Uri="s3://checkpoints"),
        ResourceConfig=dict(InstanceCount=count),
    )

    def kill_the_last(e: Event, run: Run) -> None:
        if seconds and e.kind == "progress" and e.done >= 2:
            os.killpg(int((run.folder / "Train" / "pid").read_text().split()[-1]), signal.SIGKILL)

    step = dict(Name="Train", Type="Training", Arguments=arguments)
    return run_pipeline(dict(Steps=[step]), {}, home, on_event=kill_the_last, resume=False)


def curve_of(run: Run) -> pd.DataFrame:
    "The loss curve in the model of a run."
    assert run.status == "Succeeded", run.reason
    with open_bundle(s3_path(run.home, run.step("Train").outputs["model"])) as folder:
        return pd.read_csv(folder / Files.HISTORY)


def test_two_machines_take_the_steps_of_one(data: Path, tmp_path: Path) -> None:
    "Unequal classes, weights, a batch size that does not divide, batch normalisation."
    # plain SGD: Adam's first steps have the size of the learning rate, whichever way a rounding error points
    chosen = dict(epochs=3, batch_size=15)
    asked = dict(precision="fp32", optimizer="sgd", **{k: str(v) for k, v in chosen.items()})
    root = job_folder(tmp_path / "1", data, **asked)
    finish(start(root))
    one, two = curve(root), curve_of(on_hosts(tmp_path / "2", data, 2, **chosen))
    log = next(tmp_path.glob("2/runs/*/Train/log.txt")).read_text()
    assert log.count("epoch=1 ") == 1  # one process speaks
    for column in ("train_loss", "validation_loss"):
        assert np.allclose(one[column], two[column], rtol=1e-3), (one, two)


@pytest.mark.slow
def test_a_machine_is_lost_and_others_go_on(data: Path, tmp_path: Path) -> None:
    "The job fails, its checkpoints stay, and another number of machines continues to the same curve."
    chosen = dict(epochs=40, patience=0)
    whole = curve_of(on_hosts(tmp_path / "whole", data, 2, **chosen))
    failed = on_hosts(tmp_path / "lost", data, 2, seconds=1, **chosen)
    assert failed.status == "Failed"
    later = curve_of(on_hosts(tmp_path / "lost", data, 1, **chosen))
    logs = [p.read_text() for p in sorted(tmp_path.glob("lost/runs/*/Train/log.txt"))]
    assert "continuing in epoch" in logs[-1]
    assert np.allclose(whole.train_loss, later.train_loss, rtol=1e-3)


@pytest.mark.slow
def test_two_processes_are_stopped_and_resumed(data: Path, tmp_path: Path) -> None:
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m")
    one, two = (job_folder(tmp_path / n, data, epochs="60", patience="0") for n in ("one", "two"))
    finish(start(one, *torchrun))
    process = start(two, *torchrun)
    wait_for(process, "epoch=4 ")
    process.send_signal(signal.SIGTERM)
    assert "stopped in epoch" in process.communicate(timeout=300)[0]
    assert "continuing in epoch" in finish(start(two, *torchrun))
    assert np.allclose(curve(one).train_loss, curve(two).train_loss, rtol=1e-5)


# --- learning


def test_early_stopping_keeps_the_best_epoch(splits: tuple, tmp_path: Path) -> None:
    fitted = fit(*splits, replace(TINY, epochs=60, patience=2))
    h = fitted.history
    assert len(h) == fitted.best_epoch + 2 < 60
    assert h.validation_balanced_accuracy[fitted.best_epoch - 1] == h.validation_balanced_accuracy.max()
    assert train.scores(fitted.logits, splits[1].labels)["loss"] == h.validation_loss[fitted.best_epoch - 1]


def test_a_frozen_backbone_does_not_move(splits: tuple, tmp_path: Path) -> None:
    torch.manual_seed(5)
    parent = create_model("resnet18")
    save_bundle(tmp_path / "parent", parent, create_contract(parent, 32))
    p = replace(TINY, arch="resnet18", weights=str(tmp_path / "parent"), freeze="backbone")
    after = fit(*splits, p).model.state_dict()
    before = parent.state_dict()
    moved = {k for k in before if k not in ("mean", "std") and not torch.equal(before[k], after[k])}
    assert moved == {"head.weight", "head.bias"}


@pytest.mark.parametrize("how, favours_rare", [("inverse", True), ("none", False)])
def test_class_weights_reach_the_loss(how: str, favours_rare: bool, splits: tuple) -> None:
    "A head on random features: does the rarest class (2 of 61) get its share of the answers?"
    p = replace(TINY, freeze="backbone", class_weights=how, epochs=20, patience=0, seed=0)
    fitted = fit(*splits, p)  # whose weights are taken back, so they are put on again
    answers = np.bincount((fitted.logits + np.log(fitted.trainer.weights.numpy())).argmax(1), minlength=7)
    assert (answers[5] < 25) == favours_rare, answers


@pytest.mark.parametrize("how", ["inverse", "none"])
def test_class_weights_do_not_reach_the_bundle(how: str, splits: tuple, tmp_path: Path) -> None:
    "A network that was trained with weights estimates weight x probability: what `fit` gives divides by the weight."
    asked = replace(TINY, freeze="backbone", class_weights=how)
    fitted = fit_members(*splits, asked)
    counts = np.bincount(splits[0].labels)
    weights = fitted.trainer.weights.numpy()
    assert np.allclose(weights / weights.max(), counts.min() / counts if how == "inverse" else 1)
    trained = read_checkpoint_of(asked, splits, tmp_path)
    weighted = softmax(predict(trained, splits[1][:])[0]) / weights
    contract = save_fitted(fitted, tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    saved = softmax(predict(bundle.model, splits[1][:])[0])
    assert np.allclose(saved, weighted / weighted.sum(1, keepdims=True), atol=1e-5)
    assert np.allclose(contract["prior"], counts / counts.sum())
    assert np.allclose(posterior(fitted.logits, contract), bundle.probabilities(splits[1][:]), atol=1e-4)


def read_checkpoint_of(asked: Hyperparameters, splits: tuple, tmp_path: Path) -> Any:
    "The network as it was trained, with what class weights did to it."
    fitted = fit(*splits, asked, tmp_path / "checkpoints")
    model = create_model(asked.arch)
    model.load_state_dict(fitted.model.state_dict())
    learned = train.read_checkpoint(train.best_path(tmp_path / "checkpoints", fitted.best_epoch))
    model.head.load_state_dict({k.removeprefix("head."): v for k, v in learned.items()})
    return model


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_every_optimiser_learns(optimizer: str, splits: tuple) -> None:
    h = fit(*splits, replace(TINY, optimizer=optimizer, epochs=8, patience=0)).history
    assert h.train_loss.iloc[-1] < 0.9 * h.train_loss.iloc[0]


def test_it_explains_itself() -> None:
    done = forks.run([sys.executable, "-m", "skin_lesion_mlops.model.job", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("usage")
    for f in fields(Hyperparameters):
        assert f"--{f.name} " in done.stdout and f"[{f.default}]" in done.stdout


# --- what it refuses


def test_nan_stops_training(splits: tuple) -> None:
    with pytest.raises(SkinLesionError, match="the loss is (nan|inf).*\n.*lower learning_rate"):
        fit(*splits, replace(TINY, learning_rate=1e30, optimizer="sgd"))


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(arch="vgg16"), "unknown architecture 'vgg16'"),
        (dict(optimizer="lion"), "unknown optimizer 'lion'"),
        (dict(class_weights="yes"), "unknown class_weights"),
        (dict(augment="mixup"), "unknown augment"),
        (dict(freeze="head"), "unknown freeze"),
        (dict(epochs=0), "epochs=0 is too low"),
        (dict(batch_size=0), "batch_size=0 is too low"),
        (dict(learning_rate=-1.0), "not a positive number"),
        (dict(learning_rate=float("nan")), "not a positive number"),
        (dict(label_smoothing=1.0), "leaves little to learn"),
        (dict(precision="fp16"), "fp16 needs a GPU"),
        (dict(weights="/nowhere/w.pt"), "no weights at /nowhere/w.pt"),
        (dict(weights="imagenet"), "tiny has no pretrained weights"),
    ],
)
def test_senseless_hyperparameters_are_refused(wrong: dict, message: str, splits: tuple) -> None:
    if "fp16" in message and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(SkinLesionError, match=message):
        fit(*splits, replace(TINY, **wrong))


def test_data_that_cannot_be_learned_from_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SkinLesionError, match="no data set at"):
        open_split(tmp_path)
    with pytest.raises(SkinLesionError, match="holds no images"):
        open_split(write_split(tmp_path / "empty", np.zeros(0, int), 1))
    validation = open_split(data / "validation")
    six = open_split(write_split(tmp_path / "six", np.arange(40) % 6, 1))
    with pytest.raises(SkinLesionError, match="no training image shows vasc"):
        fit(six, validation, TINY)
    other = open_split(write_split(tmp_path / "other", np.arange(40) % 7, 1, data_hash="other"))
    with pytest.raises(SkinLesionError, match="different data sets"):
        fit(other, validation, TINY)


def test_arguments_that_are_not_pairs_are_refused() -> None:
    for argv in (["--epochs"], ["epochs", "3"], ["--epochs", "3", "tiny"]):
        with pytest.raises(SkinLesionError, match="cannot read the arguments"):
            job.gather_hyperparameters(argv)


def test_the_log_is_short(undisturbed: tuple[Path, str]) -> None:
    "What is trained, a line per epoch, what was kept, the engines, familiarity: no progress bar in a log."
    root, log = undisturbed
    lines = log.splitlines()
    assert len([w for w in lines if w.startswith("epoch=")]) == len(curve(root))
    refused = [w for w in lines if w.startswith("no ")]
    assert len(lines) - len(refused) == len(curve(root)) + 4, log
    assert json.dumps(log).count("\\r") == 0


@pytest.mark.parametrize("amx, avx512, want", [(False, False, "fp32"), (True, False, "bf16"), (False, True, "bf16")])
def test_bfloat16_where_the_processor_multiplies_it(monkeypatch, amx, avx512, want):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    assert world.choose_precision("auto", "resnet50", torch.device("cpu")) == want
    assert (
        world.choose_precision("auto", "efficientnet_lite0", torch.device("cpu")) == "fp32"
    )  # depthwise: nothing gained
