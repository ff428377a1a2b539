"""Detectors of drift, asked about the same windows: ours, kernel MMD, and tests one by one without correction."""

from __future__ import annotations

from typing import Callable

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from skin_lesion_mlops.data.statistics import STATISTICS, dataset_statistics, image_statistics, suggest_constraints
from skin_lesion_mlops.monitor.captures import Baseline
from skin_lesion_mlops.monitor.drift import ALPHA, drift_tests


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

    def __init__(self, then: np.ndarray, permutations: int, seed: int):
        self.then, self.permutations, self.rng = image_statistics(then), permutations, np.random.default_rng(seed)
        statistics = dataset_statistics(self.then)
        features = {f["name"]: f for f in statistics["features"]}
        self.baseline = Baseline(features, suggest_constraints(statistics))
        self.mean, self.spread = self.then.mean(), self.then.std()

    def ask(self, window: pd.DataFrame) -> dict[str, bool]:
        "Does each of them raise an alarm?"
        ids = dict(picture=0, lesion_id="", inference_id="", event_id=range(len(window)), image=0)
        rows = window.assign(confidence=0.8, predicted="nv", out_of_distribution=False, **ids)
        ours = bool(drift_tests(rows, self.baseline).drift.any())
        some = self.then.sample(min(len(self.then), 300), random_state=int(self.rng.integers(1 << 31)))
        x, y = ((t - self.mean) / self.spread for t in (some, window))
        least = max(ALPHA, 1 / (self.permutations + 1))
        mmd = mmd_p(x.to_numpy(), y.to_numpy(), self.permutations, self.rng) <= least
        each = min(ks_2samp(self.then[c], window[c]).pvalue for c in STATISTICS)
        return dict(ours=ours, MMD=bool(mmd), default=bool(each < 0.05))

    def rates(self, pixels: np.ndarray, size: int, windows: int) -> dict[str, float]:
        "The share of windows with an alarm."
        every = image_statistics(pixels)
        asked = [self.ask(every.sample(size, random_state=int(self.rng.integers(1 << 31)))) for _ in range(windows)]
        return {k: float(np.mean([a[k] for a in asked])) for k in asked[0]}
