"""Captured answers by the thousand, as `serve --capture` writes them, and what it costs to judge them.

`write` writes N requests of one picture each, spread over a day; `judge` reads them and asks a monitor.
`apart` judges in a process of its own, and adds the most memory that it and its helpers held.
`python captures.py write N FOLDER`; `python captures.py judge FOLDER KIND`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from skin_lesion_mlops.data.statistics import STATISTICS, dataset_statistics, suggest_constraints
from skin_lesion_mlops.monitor.captures import ANSWER_FEATURES, Baseline, read_captures, wanted_columns
from skin_lesion_mlops.monitor.drift import check_data
from skin_lesion_mlops.monitor.estimate import estimate
from skin_lesion_mlops.taxonomy import HAM10000

WIDTH = 1280  # of an embedding, as EfficientNet-B0 and Lite0 have it
FILE = 16 << 20  # bytes at which the server begins another file
END = np.datetime64("2026-01-31T12:00:00")
MODEL = dict(version="7", engine="onnxruntime", threshold=0.2, image_size=224, classes="ham10000")


def side(mode: str, content: dict) -> dict:
    "A side of a request, as serve/03_capture records it."
    data = json.dumps(content, separators=(",", ":"))
    return dict(observedContentType="application/json", mode=mode, data=data, encoding="JSON")


def line(i: int, n: int, rng: np.random.Generator, embeddings: list[str]) -> str:
    "A request."
    statistics = dict(zip(STATISTICS, rng.normal(0.5, 0.1, len(STATISTICS)).round(6).tolist()))
    image = dict(
        sha256=f"{rng.integers(1 << 62):016x}" * 4, width=600, height=450, statistics=statistics, embedding="@"
    )
    p = rng.dirichlet((0.3, 0.5, 1, 0.2, 1, 6, 0.2)).round(6)
    odd = dict(flag=bool(rng.random() < 0.03), score=0.7, reasons=[])
    answer = dict(probabilities=dict(zip(HAM10000.codes, p.tolist())), threshold=0.2, out_of_distribution=odd)
    sides = dict(endpointInput=side("INPUT", dict(images=[image])))
    sides["endpointInput"]["data"] = sides["endpointInput"]["data"].replace('"@"', embeddings[i % len(embeddings)])
    sides["endpointOutput"] = side("OUTPUT", dict(model=MODEL, predictions=[answer]))
    at = END - np.timedelta64(int(86400 * (n - i) / n), "s")
    event = dict(eventId=f"e{i:012}-4a5b-6c7d-8e9f", inferenceTime=f"{at}Z", customAttributes=[f"lesion=L{i // 2}"])
    record = dict(captureData=sides, eventMetadata=dict(event, inferenceId=f"visit-{i}"), eventVersion="0")
    return json.dumps(record, separators=(",", ":")) + "\n"


def write(n: int, folder: Path) -> None:
    "N requests in files of 16 MB, in folders of hours."
    rng = np.random.default_rng(0)
    embeddings = [json.dumps([float(f"{v:.5g}") for v in rng.gamma(0.3, 0.5, WIDTH)]) for _ in range(64)]
    file, size = None, 0
    for i in range(n):
        text = line(i, n, rng, embeddings)
        if file is None or size > FILE:
            stamp = str(END - np.timedelta64(int(86400 * (n - i) / n), "s"))
            place = folder / stamp[:13].replace("-", "/").replace("T", "/")
            place.mkdir(parents=True, exist_ok=True)
            if file:
                file.close()
            file, size = open(place / f"{stamp[14:16]}-{stamp[17:19]}-{i:07}.jsonl", "w"), 0
        size += file.write(text)
    if file:
        file.close()


def judge(folder: Path, kind: str) -> dict:
    "Read a day and judge it: by the drift of its pictures, or by the estimate from its answers."
    began, spent = time.time(), time.process_time()
    end = pd.Timestamp(str(END), tz="UTC")
    rows = read_captures(folder, end - pd.Timedelta(hours=24), end, columns=wanted_columns(kind, HAM10000)).rows
    read = time.time() - began
    if kind == "data_quality":
        statistics = dataset_statistics(rows[[*STATISTICS, *ANSWER_FEATURES]][:7000])
        check_data(rows, Baseline({f["name"]: f for f in statistics["features"]}, suggest_constraints(statistics)))
    estimate(rows)
    child = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = time.process_time() - spent + child.ru_utime + child.ru_stime
    return dict(rows=len(rows), seconds=time.time() - began, reading=read, cpu_seconds=cpu)


def held(pid: int) -> float:
    "Megabytes that a process and its children hold; what they share counts once (PSS)."
    total = 0.0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        with suppress(psutil.Error):
            total += process.memory_full_info().pss / 2**20
    return total


def apart(folder: Path, kind: str, every: float = 0.25) -> dict:
    "Judge in a process of its own, and look every so many seconds what it holds."
    command = [sys.executable, __file__, "judge", str(folder), kind]
    done, most = subprocess.Popen(command, stdout=subprocess.PIPE, text=True), 0.0
    while done.poll() is None:
        with suppress(psutil.Error):
            most = max(most, held(done.pid))
        time.sleep(every)
    return dict(json.loads(done.communicate()[0]), peak_mb=most)


if __name__ == "__main__":
    verb, first, second = sys.argv[1:]
    if verb == "write":
        write(int(first), Path(second))
    else:
        print(json.dumps(judge(Path(first), second)))
