"""Evidently asked about windows: `python evidently_drift.py FOLDER`, in an environment that has it (pandas < 3).

FOLDER holds `tables.npz`: the names of the `columns`, reference tables `r0`, `r1` ... and windows `w0`, `w1` ..., each
(pictures, columns), `of`: which reference each window is compared with, and what is asked for. It writes
`evidently.json`: its version, and, window by window,

- `shares`, of the columns that have drifted, by the tests and limits that Evidently chooses by itself;
- `beyond`, where `limits` are given, (windows, columns): how many columns have a Wasserstein distance beyond those;
- `scores` in place of both, where `scores` is true: the Wasserstein distance of each column, in standard deviations.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import evidently
import numpy as np
import pandas as pd
from evidently import Report
from evidently.metrics import DriftedColumnsCount, ValueDrift

METHOD = "wasserstein"  # what it chooses by itself for numbers, from 1,000 reference rows on


def ask(metrics: list, now: pd.DataFrame, then: pd.DataFrame) -> list:
    "The values of some metrics."
    return [m["value"] for m in Report(metrics).run(now, then).dict()["metrics"]]


def answers(folder: Path) -> dict[str, list]:
    "What was asked for, window by window."
    given = np.load(folder / "tables.npz")
    names = [str(c) for c in given["columns"]]
    told: dict[str, list] = dict(shares=[], beyond=[], scores=[])
    for i, r in enumerate(given["of"]):
        now, then = (pd.DataFrame(given[n], columns=names) for n in (f"w{i}", f"r{r}"))
        if given["scores"]:
            told["scores"].append(
                [float(v) for v in ask([ValueDrift(column=c, method=METHOD) for c in names], now, then)]
            )
            continue
        metrics = [DriftedColumnsCount()]
        if "limits" in given:
            limits = dict(zip(names, map(float, given["limits"][i])))
            metrics.append(DriftedColumnsCount(num_method=METHOD, per_column_threshold=limits))
        found = ask(metrics, now, then)
        told["shares"].append(float(found[0]["share"]))
        told["beyond"] += [int(f["count"]) for f in found[1:]]
    return told


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    place = Path(sys.argv[1])
    (place / "evidently.json").write_text(json.dumps(dict(version=evidently.__version__, **answers(place))))
