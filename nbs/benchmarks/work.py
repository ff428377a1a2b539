"Pieces of work of a given size, for `scale.ipynb`: each says what it cost, in a process of its own."

import contextlib
import io
import json
import resource
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from skin_lesion_mlops.core import SPLITS
from skin_lesion_mlops.data.check import check
from skin_lesion_mlops.data.duplicates import near_duplicates
from skin_lesion_mlops.data.shards import Shards, write_dataset
from skin_lesion_mlops.data.split import assign_groups, split
from skin_lesion_mlops.evaluation.conclusion import evaluate
from skin_lesion_mlops.evaluation.predictions import simulate
from skin_lesion_mlops.pipeline.registry import create_registry
from skin_lesion_mlops.pipeline.runs import create_run, finish_run, list_runs
from skin_lesion_mlops.taxonomy import HAM10000

THRESHOLDS = dict(accuracy=0.85, balanced_accuracy=0, malignant_sensitivity=0, ece=1, champion_difference=-1)


class Cost:
    "Processor seconds and the growth of memory of what is done inside."

    def __enter__(self) -> "Cost":
        "Begin."
        self.begun, self.least = self._used(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return self

    def __exit__(self, *error: object) -> None:
        "End."
        self.seconds = self._used() - self.begun
        self.megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.least) / 1024

    @staticmethod
    def _used() -> float:
        "Processor seconds of this process and of those that it started and that have ended."
        return sum(sum(resource.getrusage(w)[:2]) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    def row(self, work: str, n: int) -> dict:
        "What it cost."
        return dict(work=work, n=n, seconds=self.seconds, megabytes=self.megabytes)


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
        found = check(folder / "raw", workers=1).rows
    rows.append(c.row("data check", n))
    parts = split(found.assign(group=found.lesion_id))
    with Cost() as c:
        write_dataset(parts, {s: folder / s for s in SPLITS}, size=64, workers=1)
    rows.append(c.row("shards of 64 px", n))
    assert len(Shards(folder / "train")) > n // 2
    shutil.rmtree(folder)
    return rows


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
    print(json.dumps([evaluating(1000), *preparing(70), dividing(1000), comparing(1000), *registering(20), listing(5)]))
