"""Evidently asked about windows: `python evidently_drift.py FOLDER`, in an environment that has it (pandas < 3).

FOLDER holds `tables.npz`: the names of the `columns`, reference tables `r0`, `r1` ... and windows `w0`, `w1` ..., each
(pictures, columns), and `of`: which reference each window is compared with. It writes `evidently.json`: the share of
columns that have drifted in each window, by the tests and limits that Evidently chooses by itself, and its version.
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
from evidently.metrics import DriftedColumnsCount


def shares(folder: Path) -> list[float]:
    "The share of drifted columns, window by window."
    given = np.load(folder / "tables.npz")
    names, found = [str(c) for c in given["columns"]], []
    for i, r in enumerate(given["of"]):
        now, then = (pd.DataFrame(given[n], columns=names) for n in (f"w{i}", f"r{r}"))
        (count,) = Report([DriftedColumnsCount()]).run(now, then).dict()["metrics"]
        found.append(float(count["value"]["share"]))
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    (folder / "evidently.json").write_text(json.dumps(dict(version=evidently.__version__, shares=shares(folder))))
