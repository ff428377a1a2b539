"""Detectors of drift, asked about the same windows: ours, kernel MMD, Evidently, and tests one by one.

`python detectors.py FOLDER FILE` measures the pictures of a folder once, for as many readers of FILE as there are.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from skin_lesion_mlops.data.pictures import read_pixels
from skin_lesion_mlops.data.statistics import STATISTICS, dataset_statistics, image_statistics, suggest_constraints
from skin_lesion_mlops.evaluation.metrics import wilson
from skin_lesion_mlops.monitor.captures import Baseline
from skin_lesion_mlops.monitor.drift import ALPHA, drift_tests

SIDE = 64  # pixels, of the pictures that are measured


def _light(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: (x * factor).clip(0, 255).astype(np.uint8)


def _colours(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: (x * np.array([1 + factor / 2, 1, 1 - factor])).clip(0, 255).astype(np.uint8)


def _smear(times: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(x: np.ndarray) -> np.ndarray:
        y = x.astype(float)
        for _ in range(times):
            y = (y + sum(np.roll(y, s, a) for s in (-1, 1) for a in (1, 2))) / 5
        return y.astype(np.uint8)

    return change


def _some(share: float, of: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    "Only a part of the pictures is changed, as by one lamp of several."

    def change(x: np.ndarray) -> np.ndarray:
        y = of(x).copy()
        keep = np.random.default_rng(0).random(len(x)) >= share
        y[keep] = x[keep]
        return y

    return change


SHIFTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "5 % darker": _light(0.95),
    "10 % darker": _light(0.9),
    "20 % darker": _light(0.8),
    "20 % darker, every third picture": _some(0.33, _light(0.8)),
    "colours off by 6 %": _colours(0.06),
    "colours off by 12 %": _colours(0.12),
    "lens smeared a little": _smear(1),
    "lens smeared": _smear(3),
}
QUIET = "no shift"


def mmd_p(x: np.ndarray, y: np.ndarray, permutations: int, rng: np.random.Generator) -> float:
    "The p value of the maximum mean discrepancy, Gaussian kernel of median width, by permutation."
    z = np.concatenate([x, y])
    square = ((z[:, None] - z[None]) ** 2).sum(-1)
    k = np.exp(-square / np.median(square[square > 0]))
    n, m = len(x), len(y)

    def statistic(w: np.ndarray) -> float:
        return float(w @ k @ w)

    weights = np.concatenate([np.full(n, 1 / n), np.full(m, -1 / m)])
    seen = statistic(weights)
    beyond = sum(statistic(rng.permutation(weights)) >= seen for _ in range(permutations))
    return (beyond + 1) / (permutations + 1)


class Detectors:
    "Three detectors that know the same training images."

    def __init__(
        self,
        then: pd.DataFrame,  # numbers of the training images
        permutations: int,
        seed: int,
        also: float | None = None,  # a second level, at which ours and MMD are asked, too
    ):
        self.then, self.permutations, self.rng, self.also = then, permutations, np.random.default_rng(seed), also
        statistics = dataset_statistics(self.then)
        features = {f["name"]: f for f in statistics["features"]}
        self.baseline = Baseline(features, suggest_constraints(statistics))
        self.mean, self.spread = self.then.mean(), self.then.std()

    def ask(self, window: pd.DataFrame, kernel: bool = True) -> dict[str, bool]:
        "Does each of them raise an alarm? MMD is dear, and may be left out."
        ids = dict(picture=0, lesion_id="", inference_id="", event_id=range(len(window)), image=0)
        rows = window.assign(confidence=0.8, predicted="nv", out_of_distribution=False, **ids)
        t = drift_tests(rows, self.baseline)
        found = dict(ours=bool(t.drift.any()))
        least = max(ALPHA, 1 / (self.permutations + 1))
        if self.also:
            found["ours, laxer"] = bool(((t.p_adjusted <= self.also) & (t.distance > t.limit)).any())
        if kernel:
            some = self.then.sample(min(len(self.then), 300), random_state=int(self.rng.integers(1 << 31)))
            x, y = ((t - self.mean) / self.spread for t in (some, window))
            p = mmd_p(x.to_numpy(), y.to_numpy(), self.permutations, self.rng)
            found.update({"MMD": p <= least, **({"MMD, laxer": p <= self.also} if self.also else {})})
        how = "asymp" if len(self.then) > 2000 else "auto"  # exact takes long there
        each = min(ks_2samp(self.then[c], window[c], method=how).pvalue for c in STATISTICS)
        return dict(found, default=bool(each < 0.05))

    def windows(self, every: pd.DataFrame, size: int, n: int) -> list[pd.DataFrame]:
        "Windows, each drawn from all pictures."
        return [every.sample(size, random_state=int(self.rng.integers(1 << 31))) for _ in range(n)]


def needed(
    table: pd.DataFrame,  # index: shift, pictures; a column for each detector: the share of windows with an alarm
    shift: str,
    detector: str,
    windows: int,  # without a shift, behind each share
    power: float = 0.8,  # share of windows in which the shift is seen
    most: float = 0.05,  # false alarms, beyond which, by more than chance, what a detector sees is not counted
) -> str:
    "The least size of a window at which a detector sees a shift, and is quiet without one."
    quiet, seen = table.loc[QUIET, detector], table.loc[shift, detector]
    usable = [n for n in quiet.index if wilson(quiet[n], windows)[0] <= most]
    enough = [n for n in usable if seen[n] >= power]
    return str(enough[0]) if enough else f"> {usable[-1]}" if usable else "too many false alarms"


def measure(files: list[Path], chunk: int = 500) -> pd.DataFrame:
    "The numbers of pictures, by their names, without holding all of them."
    parts = [files[i : i + chunk] for i in range(0, len(files), chunk)]
    found = [image_statistics(np.stack([read_pixels(f, SIDE) for f in p])) for p in parts]
    return pd.concat(found, ignore_index=True).set_axis([f.stem for f in files])


def ask_evidently(
    python: str,  # that has Evidently
    references: list[pd.DataFrame],
    windows: list[tuple[int, pd.DataFrame]],  # each with the number of its reference
    limits: np.ndarray | None = None,  # (windows, columns), of a verdict beside its own
    scores: bool = False,  # distances of the columns, and no verdict
) -> dict[str, Any]:  # version; shares, beyond and scores, window by window; see `evidently_drift.py`
    "What Evidently says of windows."
    with tempfile.TemporaryDirectory() as folder:
        tables: dict[str, Any] = {f"r{i}": r.to_numpy() for i, r in enumerate(references)}
        tables.update({f"w{i}": w.to_numpy() for i, (_, w) in enumerate(windows)})
        tables.update(dict(limits=limits) if limits is not None else {})
        of, columns = [r for r, _ in windows], list(STATISTICS)
        np.savez(Path(folder, "tables.npz"), of=of, columns=columns, scores=scores, **tables)
        script = Path(__file__).parent / "evidently_drift.py"
        subprocess.run([python, str(script), folder], check=True, capture_output=True)
        return json.loads(Path(folder, "evidently.json").read_text())


def tune_evidently(python: str, then: pd.DataFrame, quiet: list[pd.DataFrame]) -> np.ndarray:  # (columns,)
    "Limits that no column of any window without a shift exceeds, in proportion to the column's usual distance."
    scores = np.array(ask_evidently(python, [then], [(0, w) for w in quiet], scores=True)["scores"])
    usual = scores.mean(0)
    return usual * (scores / usual).max()


if __name__ == "__main__":
    measure(sorted(Path(sys.argv[1]).rglob("*.jpg"))).to_csv(sys.argv[2])
