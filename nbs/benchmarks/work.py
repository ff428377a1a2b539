"Pieces of work of a given size, for `scale.ipynb`: each says what it cost, in a process of its own."

import contextlib
import csv
import hashlib
import importlib.util
import io
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import captures
import numpy as np
import pandas as pd
from PIL import Image

from skin_lesion_mlops.core import SPLITS, hash_file
from skin_lesion_mlops.aws.upload import upload
from skin_lesion_mlops.data.check import check
from skin_lesion_mlops.data.crew import create_crew
from skin_lesion_mlops.data.duplicates import near_duplicates
from skin_lesion_mlops.data.shards import Shards, write_dataset, write_shards
from skin_lesion_mlops.data.sources import survey
from skin_lesion_mlops.data.split import assign_groups, split
from skin_lesion_mlops.evaluation.conclusion import evaluate
from skin_lesion_mlops.evaluation.predictions import simulate
from skin_lesion_mlops.model.hyperparameters import Hyperparameters
from skin_lesion_mlops.model.networks import create_contract, create_model, save_bundle
from skin_lesion_mlops.model.train import fit
from skin_lesion_mlops.pipeline.launch import launch
from skin_lesion_mlops.pipeline.registry import create_registry
from skin_lesion_mlops.pipeline.runs import create_run, finish_run, list_runs
from skin_lesion_mlops.taxonomy import HAM10000

THRESHOLDS = dict(accuracy=0.85, balanced_accuracy=0, malignant_sensitivity=0, ece=1, champion_difference=-1)


class Cost:
    "Processor seconds and the growth of memory of what is done inside."

    def __enter__(self) -> "Cost":
        "Begin."
        self.begun, self.least = self._used(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.own, self.clock = time.process_time(), time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        "End."
        self.seconds = self._used() - self.begun
        self.own, self.clock = time.process_time() - self.own, time.monotonic() - self.clock
        self.megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.least) / 1024

    @staticmethod
    def _used() -> float:
        "Processor seconds of this process and of those that it started and that have ended."
        return sum(sum(resource.getrusage(w)[:2]) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    def row(self, work: str, n: int) -> dict:
        "What it cost."
        return dict(work=work, n=n, unit="s", cost=self.seconds, megabytes=self.megabytes)


def apart(f, *args):
    "Call a function in a process of its own, so that its memory is its own."
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(f, *args).result()


def table(n: int) -> pd.DataFrame:
    "Rows as a check leaves them: one or two pictures of a lesion, random fingerprints."
    r = np.random.default_rng(n)
    lesions = np.sort(r.integers(0, max(2, n * 3 // 4), n))
    label = np.random.default_rng(0).choice(
        HAM10000.codes, max(2, n * 3 // 4), p=[0.033, 0.051, 0.110, 0.011, 0.111, 0.670, 0.014]
    )
    names = dict(image_id=[f"I{i:07}" for i in range(n)], lesion_id=[f"L{i:07}" for i in lesions], dx=label[lesions])
    bits = r.integers(0, 256, (n, 32), dtype=np.uint8)
    bits[:, 0] &= 127  # the first sign of a fingerprint is always 0
    return pd.DataFrame(names).assign(patient_id="", phash=[b.tobytes().hex() for b in bits])


def preparing(n: int) -> list[dict]:
    "A folder per class of small pictures of noise: checked, then decoded into shards."
    folder, r = Path(tempfile.mkdtemp()), np.random.default_rng(n)
    for i in range(n):
        place = folder / "raw" / HAM10000.codes[i % 7]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(r.integers(0, 256, (75, 100, 3), dtype=np.uint8)).save(place / f"{i}.jpg")
    rows = []
    with Cost() as c:
        survey(folder / "raw")
    rows.append(c.row("names and tables, a part of data check", n))
    with Cost() as c:
        found = check(folder / "raw", workers=1).rows
    rows.append(c.row("data check", n))
    parts = split(found.assign(group=found.lesion_id))
    with Cost() as c:
        write_dataset(parts, {s: folder / s for s in SPLITS}, size=64, workers=1)
    rows.append(c.row("shards of 64 px", n))
    train, validation = (Shards(folder / s) for s in ("train", "validation"))
    with Cost() as c:
        fit(train, validation, Hyperparameters(arch="resnet18", weights="none", epochs=1))
    rows.append(c.row("training epoch, ResNet-18 at 64 px", n))
    assert len(train) > n // 2
    shutil.rmtree(folder)
    return rows


def reporting(n: int) -> list[dict]:
    "The evaluation's report on a test set of n small pictures of noise, executed as the pipeline does it."
    folder = photographs(n, 48, 36)
    found = check(folder / "raw", workers=1).rows
    write_shards(found.assign(group=found.lesion_id, split="test"), folder / "test", 32, workers=1)
    model = create_model("tiny")
    save_bundle(folder / "model", model, create_contract(model, 32, thresholds=dict(malignant=0.4)))
    given = dict(input_model=folder / "model", input_test=folder / "test", output_evaluation=folder / "evaluation")
    with Cost() as c, contextlib.redirect_stderr(io.StringIO()):
        launch("evaluate", folder / "report", {k: str(v) for k, v in given.items()})
    c.megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # the notebook's process
    rows = [c.row("evaluation's report", n)]
    rows.append(
        dict(
            rows[0], work="size of the report", unit="kB", cost=(folder / "report/evaluate.html").stat().st_size / 1000
        )
    )
    shutil.rmtree(folder)
    return rows


def judging(n: int) -> dict:
    "A day of n captured answers, read and judged by the monitor of the data."
    folder = Path(tempfile.mkdtemp())
    captures.write(n, folder)
    found = captures.apart(folder, "data_quality")
    shutil.rmtree(folder)
    return dict(work="captures to monitor", n=n, unit="s", cost=found["cpu_seconds"], megabytes=found["peak_mb"])


def photographs(n: int, width: int, height: int) -> Path:
    "A folder per class of pictures of blurred noise, about as hard to decode as dermoscopy; no two files are the same."
    folder, r = Path(tempfile.mkdtemp()), np.random.default_rng(n)
    for i in range(n):
        place = folder / "raw" / HAM10000.codes[i % 7]
        place.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(r.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(place / f"{i}.jpg", quality=90)
    return folder


def sharing(n: int, workers: int, way: str, width: int = 600, height: int = 450) -> dict:
    "The preparation of n photographs by some processes: a pool, or dask; starting them counts."
    folder = photographs(n, width, height)
    size = sum(f.stat().st_size for f in folder.rglob("*.jpg")) / n
    if way == "dask":
        os.environ["OMP_NUM_THREADS"] = "1"
    with Cost() as started:
        crew = create_crew(workers) if way == "dask" else None
    with Cost() as checking, contextlib.redirect_stdout(io.StringIO()):
        found = check(folder / "raw", workers=workers, crew=crew).rows
    parts = split(found.assign(group=found.lesion_id))
    with Cost() as writing, contextlib.redirect_stdout(io.StringIO()):
        write_dataset(parts, {s: folder / s for s in SPLITS}, size=224, workers=workers, crew=crew)
    with Cost() as ended:
        if crew:
            crew.close()
    shards = hashlib.sha256(b"".join(hash_file(p).encode() for p in sorted(folder.glob("t*/*.npy")))).hexdigest()
    shutil.rmtree(folder)
    spent = [started, checking, writing, ended]
    return dict(
        way=way,
        workers=workers,
        n=n,
        kilobytes=size / 1000,
        processor=sum(c.seconds for c in spent),
        own=checking.own + writing.own,
        check=checking.seconds,
        shards=writing.seconds,
        clock=sum(c.clock for c in spent),
        starting=started.clock,
        hash=shards,
    )


def hashing(megabytes: int = 512) -> float:
    "Megabytes that SHA-256 takes in a second."
    data = bytes(2**20)
    begun, h = time.process_time(), hashlib.sha256()
    for _ in range(megabytes):
        h.update(data)
    return megabytes * 2**20 / 1e6 / (time.process_time() - begun)


def shared_out(
    machines: int,
    images: int,
    cores: int,  # of a machine
    network: float,  # MB/s of a machine
    per: dict[str, float],  # processor seconds an image: check, shards, own
    file_mb: float,  # MB
    pixels_mb: float,  # MB an image
    hashed: float,  # MB/s
) -> dict[str, float]:  # seconds
    "What several machines do at the same time."
    decode = images * per["shards"] / cores / machines
    arrive = images * pixels_mb / network * (machines - 1) / machines
    return {
        "download": images * file_mb / network / machines,
        "hash of the files": images * file_mb / hashed / machines,
        "open and check": images * per["check"] / cores / machines,
        "decode, or receive and write": max(decode, arrive, images * per["own"] if machines > 1 else 0.0),
    }


def uploading(n: int) -> dict:
    "Small pictures to the raw bucket of a stand-in for S3, whose own work counts: it is in the same process."
    import boto3
    import moto

    folder, r = Path(tempfile.mkdtemp()), np.random.default_rng(n)
    files = {folder / f"{i}.jpg": HAM10000.codes[i % 7] for i in range(n)}
    for f in files:
        Image.fromarray(r.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(f)
    invented = dict(aws_access_key_id="none", aws_secret_access_key="none", region_name="us-east-1")
    with moto.mock_aws():
        s3 = boto3.client("s3", **invented)
        s3.create_bucket(Bucket="raw")
        with Cost() as c, contextlib.redirect_stdout(io.StringIO()):
            assert upload(folder, files, s3, "raw", workers=4).sent == n
    shutil.rmtree(folder)
    return c.row("upload to the stand-in", n)


class Uploads:
    "An S3 client that answers what `check_data_availability` asks of a bucket of n objects, uploaded 10,000 at a time."

    def __init__(self, n: int) -> None:
        "Make its parts; no object has a body."
        self.bodies, parts = {}, []
        for start in range(0, n, 10_000):
            out = io.StringIO()
            table = csv.writer(out, lineterminator="\n")
            rows = ([f"raw/{i:08}.jpg", 100, "0" * 64, "nv"] for i in range(start, min(n, start + 10_000)))
            table.writerows([["key", "size", "sha256", "label"], *rows])
            body, key = out.getvalue().encode(), f"manifests/raw/{start}.csv"
            self.bodies[key] = body
            counts = dict(objects=min(10_000, n - start), labelled=min(10_000, n - start))
            parts.append(dict(key=key, sha256=hashlib.sha256(body).hexdigest(), completed="2026", **counts))
        self.bodies["manifests/raw/manifest.json"] = json.dumps(dict(parts=parts)).encode()
        self.asked: Counter = Counter()

    def get_object(self, Bucket: str, Key: str) -> dict:
        "A part, or the manifest."
        self.asked["get"] += 1
        return dict(Body=io.BytesIO(self.bodies[Key]))

    def head_object(self, **asked: str) -> dict:
        "An object's size."
        self.asked["head"] += 1
        return dict(ContentLength=100)


def finding_new(n: int) -> dict:
    "The function `check_data_availability`, its manifest and its sample, against a stubbed client."
    folder = next(p / "lambdas" for p in Path(__file__).resolve().parents if (p / "lambdas").is_dir())
    sys.path.insert(0, str(folder))
    place = folder / "check_data_availability" / "handler.py"
    spec = importlib.util.spec_from_file_location("check_data_availability", place)
    f = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(f)
    s3, s = Uploads(n), f.Settings("raw", "raw", "processed", "g", 100, 200, {})
    with Cost() as c:
        parts = f.read_manifest(s3, s)
        assert sum(p["labelled"] for p in parts) == n and f.verify(s3, s, parts, "a draw") == 200
    assert s3.asked["get"] <= 21
    return c.row("function check_data_availability", n)


def comparing(n: int) -> dict:
    "Every fingerprint with every other."
    rows = table(n)
    with Cost() as c:
        near_duplicates(rows)
    return c.row("near-duplicates", n)


def dividing(n: int) -> dict:
    "Groups and split."
    rows = table(n)
    pairs = pd.DataFrame(
        dict(
            image_id_a=rows.image_id[:-1:100].values,
            image_id_b=rows.image_id[1::100].values[: len(rows.image_id[:-1:100])],
        )
    )
    with Cost() as c:
        rows["group"] = assign_groups(rows, pairs)
        split(rows)
    return c.row("groups and split", n)


def evaluating(n: int) -> dict:
    "Figures, 1,000 resamples, subgroups and conclusion."
    p, r = simulate(n), np.random.default_rng(0)
    rows = pd.DataFrame(
        dict(
            sex=r.choice(["male", "female"], len(p)),
            age=r.integers(0, 90, len(p)).astype(float),
            localization=r.choice(["back", "face", "foot"], len(p)),
        )
    )
    with Cost() as c:
        evaluate(p, rows, THRESHOLDS)
    return c.row("evaluation, 1,000 resamples", n)


def registering(n: int) -> list[dict]:
    "The n-th version, and the list of all."
    home = Path(tempfile.mkdtemp())
    (home / "s3/m").mkdir(parents=True)
    (home / "s3/m/model.tar.gz").write_bytes(b"weights" * 100)
    registry, container = create_registry(home=home), dict(Image="i", ModelDataUrl="s3://m/model.tar.gz")
    request = dict(ModelPackageGroupName="g", InferenceSpecification=dict(Containers=[container]))
    for i in range(n - 10):
        registry.register({**request, "ClientToken": f"t{i}"})
    with Cost() as c:
        for i in range(10):
            registry.register({**request, "ClientToken": f"last{i}"})
    c.seconds /= 10
    rows = [c.row("the n-th registration", n)]
    with Cost() as c:
        assert len(registry.list("g")) == n
    shutil.rmtree(home)
    return [*rows, c.row("list of versions", n)]


def listing(n: int) -> dict:
    "A list of runs."
    home = Path(tempfile.mkdtemp())
    for i in range(n):
        run, lock = create_run(home, pipeline="p", parameters=dict(Epochs=i))
        with lock, contextlib.redirect_stdout(io.StringIO()):
            run.status = "Succeeded"
            finish_run(run)
    with Cost() as c:
        assert len(list_runs(home)) == n
    shutil.rmtree(home)
    return c.row("list of runs", n)


if __name__ == "__main__":
    images = [*preparing(70), *reporting(70), comparing(1000), dividing(1000), evaluating(1000), judging(100)]
    print(json.dumps([*images, *registering(20), listing(5)]))
