"Evaluation: every figure against scikit-learn and against scorers written by others; intervals; the gate."

import json
import math
import random
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from skin_lesion_mlops.core import GUARDS, SkinLesionError
from skin_lesion_mlops.taxonomy import HAM10000
from skin_lesion_mlops.evaluation import conclusion, gate, metrics
from skin_lesion_mlops.evaluation import predictions as ev_predictions

seeds = st.integers(0, 10_000)


def predictions(
    seed: int, n: int = 60, absent: int = 0, coarse: bool = False, sharp: float = 2.0
) -> ev_predictions.Predictions:
    "Random predictions; `absent` classes are missing from the truth, `coarse` makes tied scores."
    rng = np.random.default_rng(seed)
    present = rng.permutation(7)[: 7 - absent]
    labels = np.append(present[:2], rng.choice(present, n - 2))
    logits = rng.normal(size=(n, 7)) + sharp * np.eye(7)[labels] * rng.random((n, 1))
    if coarse:
        logits = np.round(logits)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return ev_predictions.create_predictions(labels, p, rng.integers(0, n // 2 + 1, n), threshold=float(rng.random()))


def value(p: ev_predictions.Predictions) -> dict:
    "Every figure, as plain numbers."
    return {k: float(v[0]) for k, v in metrics.figures(p).items()}


def same(a: float, b: float) -> bool:
    "Equal to rounding, or both undefined."
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, abs_tol=1e-9)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(0, 4), st.booleans())
def test_figures_agree_with_scikit_learn(seed, absent, coarse):
    p = predictions(seed, absent=absent, coarse=coarse)
    v, y, called = value(p), p.labels, p.predicted
    present = sorted(set(y))
    assert same(v["accuracy"], sk.accuracy_score(y, called))
    recall = sk.recall_score(y, called, labels=present, average=None, zero_division=0)
    assert same(v["balanced_accuracy"], recall.mean()) and same(v["macro_recall"], recall.mean())
    for average in ("macro", "weighted"):
        kw = dict(labels=present, average=average, zero_division=0)
        assert same(v[f"{average}_precision"], sk.precision_score(y, called, **kw))
        assert same(v[f"{average}_f1"], sk.f1_score(y, called, **kw))
        assert same(v[f"{average}_f0_5"], sk.fbeta_score(y, called, beta=0.5, **kw))
        assert same(v[f"{average}_f2"], sk.fbeta_score(y, called, beta=2, **kw))
    for c in range(7):
        truth = y == c
        area = sk.roc_auc_score(truth, p.probabilities[:, c]) if c in present else math.nan
        assert same(v[f"auc.{HAM10000.codes[c]}"], area)
        assert math.isnan(v[f"recall.{HAM10000.codes[c]}"]) == (c not in present)
    assert same(v["brier"], sk.brier_score_loss(y, p.probabilities, labels=range(7), scale_by_half=False))


@settings(max_examples=40, deadline=None)
@given(seeds, st.booleans())
def test_operating_points_agree_with_scikit_learn(seed, coarse):
    p = predictions(seed, n=80, coarse=coarse)
    v = value(p)
    if p.malignant.all() or not p.malignant.any():
        return
    fpr, tpr, _ = sk.roc_curve(p.malignant, p.score, drop_intermediate=False)
    assert same(v["auc_malignant"], sk.auc(fpr, tpr))
    for s in (80, 90, 95):
        assert same(v[f"sensitivity_at_specificity_{s}"], tpr[fpr <= 1 - s / 100 + 1e-9].max())
    assert same(v["specificity_at_sensitivity_95"], 1 - fpr[tpr >= 0.95 - 1e-9].min())
    assert same(v["malignant_sensitivity"], sk.recall_score(p.malignant, p.flagged))
    assert same(v["malignant_specificity"], sk.recall_score(~p.malignant, ~p.flagged))
    assert same(v["malignant_ppv"], sk.precision_score(p.malignant, p.flagged, zero_division=np.nan))


def by_hand(labels: list, probabilities: list) -> dict:
    "An independent scorer: plain Python, from the textbook definitions, sharing no code with the library."
    k, n = len(probabilities[0]), len(labels)
    called = [max(range(k), key=lambda c: row[c]) for row in probabilities]
    recalls, areas, f1s = [], [], []
    for c in sorted(set(labels)):
        tp = sum(t == c == a for t, a in zip(labels, called))
        fn = sum(t == c != a for t, a in zip(labels, called))
        fp = sum(a == c != t for t, a in zip(labels, called))
        recalls.append(tp / (tp + fn))
        f1s.append(2 * tp / (2 * tp + fp + fn))
        pairs = [
            (row[c], other[c])
            for row, t in zip(probabilities, labels)
            if t == c
            for other, u in zip(probabilities, labels)
            if u != c
        ]
        areas.append(sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs))  # Mann-Whitney
    bins: dict = {}
    for row, t, a in zip(probabilities, labels, called):
        b = next(i for i in range(15) if row[a] <= (i + 1) / 15 or i == 14)
        bins.setdefault(b, []).append((row[a], t == a))
    ece = sum(abs(sum(p for p, _ in x) - sum(r for _, r in x)) for x in bins.values()) / n
    return dict(
        accuracy=sum(t == a for t, a in zip(labels, called)) / n,
        balanced_accuracy=sum(recalls) / len(recalls),
        macro_f1=sum(f1s) / len(f1s),
        auc_macro=sum(areas) / len(areas),
        ece=ece,
    )


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(0, 5), st.booleans())
def test_figures_agree_with_an_independent_scorer(seed, absent, coarse):
    p = predictions(seed, n=30, absent=absent, coarse=coarse)
    v = value(p)
    for name, expected in by_hand(p.labels.tolist(), p.probabilities.tolist()).items():
        assert same(v[name], expected), name


def test_figures_agree_with_torchmetrics():
    from skin_lesion_mlops.model.networks import create_model

    create_model("resnet18")  # makes torchvision, which torchmetrics imports, work beside a CPU torch
    import torch
    from torchmetrics.functional import classification as tm

    for seed in range(5):
        p = predictions(seed, n=300)
        v, probs, y = value(p), torch.tensor(p.probabilities), torch.tensor(p.labels)
        kw = dict(num_classes=7, average="macro")
        assert abs(v["balanced_accuracy"] - float(tm.multiclass_recall(probs, y, **kw))) < 1e-6
        assert abs(v["macro_precision"] - float(tm.multiclass_precision(probs, y, **kw))) < 1e-6
        assert abs(v["macro_f1"] - float(tm.multiclass_f1_score(probs, y, **kw))) < 1e-6
        assert abs(v["auc_macro"] - float(tm.multiclass_auroc(probs, y, **kw))) < 1e-6
        assert abs(v["ece"] - float(tm.multiclass_calibration_error(probs, y, num_classes=7, n_bins=15))) < 1e-6
        ours = metrics.confusion(p.labels, p.predicted, 7)[0]
        assert (ours == tm.multiclass_confusion_matrix(probs, y, num_classes=7).numpy()).all()


@given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_agrees_with_scipy(n, share):
    hits = round(share * n)
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert np.allclose(metrics.wilson(hits / n, n), (expected.low, expected.high), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_weights_mean_repetition(seed):
    "Weighting an image by 3 is the same as showing it three times: the bootstrap rests on it."
    p = predictions(seed, n=40, coarse=True)
    times = np.random.default_rng(seed).integers(0, 4, len(p))
    repeated = p[np.repeat(np.arange(len(p)), times)]
    if len(set(repeated.labels)) < len(set(p.labels)):
        return
    weighted = metrics.figures(p, times[None].astype(float))
    for name, v in value(repeated).items():
        assert same(float(weighted[name][0]), v), name


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_order_of_images_does_not_matter(seed):
    p = predictions(seed)
    order = np.random.default_rng(seed).permutation(len(p))
    a, b = value(p), value(p[order])
    assert all(same(a[k], b[k]) for k in a)


def test_resamples_keep_lesions_together_and_classes_whole():
    truth = np.repeat([0, 1, 2, 3, 4, 5, 6], 6)
    p = ev_predictions.create_predictions(truth, np.full((42, 7), 1 / 7), np.arange(42) // 2)
    for w in metrics.resamples(p, 50):
        assert (w[:, ::2] == w[:, 1::2]).all()
        assert all((w[:, truth == c].sum(1) == 6).all() for c in range(7))
    a, b = (np.concatenate(list(metrics.resamples(p, 250, seed=s))) for s in (1, 1))
    assert a.shape == (250, 42) and (a == b).all()


def _clinic(rng, lesions=150):
    "A test set drawn from a known world: recall .9 and .6, photographs of one lesion share their fate."
    truth = np.repeat([4, 5], [lesions // 3, lesions - lesions // 3])
    right = rng.random(lesions) < np.where(truth == 4, 0.6, 0.9)
    image = np.repeat(np.arange(lesions), rng.integers(1, 4, lesions))
    answer = np.where(right, truth, 9 - truth)[image]
    return ev_predictions.create_predictions(truth[image], np.eye(7)[answer] * 0.9 + 0.1 / 7, image)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    tables = [metrics.measure(_clinic(rng), bootstrap=200) for _ in range(250)]
    for name, truth in (("balanced_accuracy", 0.75), ("recall.mel", 0.6), ("recall.nv", 0.9), ("accuracy", 0.8)):
        covered = np.mean([t.low[name] <= truth <= t.high[name] for t in tables])
        assert 0.90 <= covered <= 0.985, f"{name}: {covered:.3f}"
    by_image = [metrics.measure(replace(p, lesions=np.arange(len(p))), 200) for p in (_clinic(rng) for _ in range(150))]
    naive = np.mean([t.low["balanced_accuracy"] <= 0.75 <= t.high["balanced_accuracy"] for t in by_image])
    assert naive < 0.90  # what the lesions are for


def test_intervals_stay_honest_for_a_handful_of_lesions():
    "Eight lesions of one class, one of another: resampling alone would be far too sure."
    rng, tables = np.random.default_rng(1), []
    truth = np.repeat([3, 4, 5, 6], [8, 40, 80, 1])
    for _ in range(250):
        right = rng.random(len(truth)) < 0.75
        answer = np.where(right, truth, (truth + 1) % 7)
        tables.append(metrics.measure(ev_predictions.create_predictions(truth, np.eye(7)[answer]), bootstrap=100))
    for name in ("recall.df", "recall.vasc", "recall.mel", "balanced_accuracy"):
        covered = np.mean([t.low[name] <= 0.75 <= t.high[name] for t in tables])
        assert covered >= 0.91, f"{name}: {covered:.3f}"


def test_a_thousand_resamples_of_a_thousand_images_take_seconds():
    import time

    p = predictions(1, n=1000)
    start = time.process_time()
    t = metrics.measure(p, 1000)
    assert time.process_time() - start < 15 and t.loc["accuracy", "low"] < t.loc["accuracy", "high"]


def test_perfect_and_absent_classes_are_not_overstated():
    p = ev_predictions.create_predictions(["mel"] * 10 + ["nv"] * 30, np.eye(7)[[4] * 10 + [5] * 30])
    t = metrics.measure(p, 100)
    assert t.loc["recall.mel", ["value", "high"]].tolist() == [1, 1] and 0.7 < t.low["recall.mel"] < 0.75
    assert t.loc["recall.vasc", ["value", "low", "high"]].isna().all()
    assert "no image of akiec, bcc, bkl, df, vasc" in " ".join(
        conclusion.conclusion(p, t, gate.decide(gate.gate(t, {})))
    )


@pytest.mark.parametrize(
    "labels, probabilities, said",
    [
        (["nv"] * 3, np.full((3, 7), 1 / 7), "holds nv alone"),
        ([], np.zeros((0, 7)), "holds nothing alone"),
        (["nv", "wart"], np.full((2, 7), 1 / 7), "'wart'"),
        (["nv", "mel"], np.full((2, 6), 1 / 6), r"\(2, 6\)"),
        (["nv", "mel"], np.full((2, 7), np.nan), "not probabilities"),
        (["nv", "mel"], np.ones((2, 7)), "softmax"),
    ],
)
def test_bad_input_is_refused_with_a_reason(labels, probabilities, said):
    with pytest.raises(SkinLesionError, match=said):
        ev_predictions.create_predictions(labels, probabilities)


def test_an_unknown_lesion_is_one_of_its_own():
    p = ev_predictions.create_predictions(
        [0, 1, 1, 1, 1], np.full((5, 7), 1 / 7), ["a", "a", "unknown", "unknown", np.nan]
    )
    assert p.lesions.tolist() == [0, 0, 1, 2, 3]


def test_subgroups_add_up_and_withhold_small_ones():
    p = predictions(3, n=200)
    rows = pd.DataFrame(dict(sex=["female"] * 150 + ["male"] * 47 + [np.nan] * 3, age=[35.0] * 100 + [np.nan] * 100))
    g = metrics.subgroups(p, rows.assign(localization="back"), bootstrap=50).set_index(["attribute", "group"])
    assert g.loc[("sex", "unknown"), "images"] == 3 and math.isnan(g.loc[("sex", "unknown"), "accuracy"])
    assert g.loc[("site", "back"), "accuracy"] == pytest.approx(value(p)["accuracy"])
    assert g.loc[("sex", "female"), "accuracy"] == pytest.approx(value(p[np.arange(150)])["accuracy"])
    assert g.loc[("age", "20-39"), "accuracy_low"] < g.loc[("age", "20-39"), "accuracy_high"]


@pytest.fixture(scope="module")
def table():
    return metrics.measure(predictions(5, n=300), 200)


@pytest.mark.parametrize("guard", ["accuracy", "balanced_accuracy", "malignant_sensitivity", "ece"])
def test_each_guard_blocks_on_its_own_side_of_the_threshold(table, guard):
    v, step = table.value[guard], (-0.01 if guard == "ece" else 0.01)
    for limit in (v, v - step):
        assert gate.decide(gate.gate(table, {guard: limit})) == dict(passed=True, failed=0, reasons=[])
    g = gate.gate(table, {guard: v + step})
    assert g[guard]["blocks"] and sum(not x["passed"] for x in g.values()) == 1
    decision = gate.decide(g)
    (reason,) = decision["reasons"]
    assert not decision["passed"] and decision["failed"] == 1
    assert reason.startswith("calibration error" if guard == "ece" else guard.replace("_", " "))
    assert f"{v:.3f} is {'above' if guard == 'ece' else 'below'} {v + step:.3f}" in reason


def test_a_hair_below_the_threshold_is_seen_in_the_reason(table):
    v = table.value["accuracy"]
    (reason,) = gate.decide(gate.gate(table, dict(accuracy=v + 1e-7)))["reasons"]
    shown = [float(x) for x in re.findall(r"0\.\d+", reason)]
    assert shown[0] < shown[1] and shown == pytest.approx([v, v + 1e-7], abs=5e-8)


def test_guards_that_are_off_are_reported_and_never_block(table):
    g = gate.gate(table, {})
    assert set(g) == set(GUARDS) and gate.decide(g)["passed"] and not any(x["blocks"] for x in g.values())
    assert all({"value", "low", "high", "threshold", "passed", "blocks"} <= set(x) for x in g.values())
    json.dumps(g, allow_nan=False)


def test_the_champion_guard_blocks_beyond_noise_only(table):
    mine, error = table.value["balanced_accuracy"], table.standard_error["balanced_accuracy"]
    for ahead, ok in ((-0.1, True), (1.5 * error, True), (3.5 * error, False)):
        g = gate.gate(table, dict(champion_difference=0), gate.Champion("7", mine + ahead, error))
        assert g["champion_difference"]["value"] == pytest.approx(-ahead)
        assert gate.decide(g)["passed"] is ok and g["champion_difference"]["against"] == "7"
        assert ok or gate.decide(g)["reasons"][0].startswith("it is worse than the approved model: -0.")
    none = gate.gate(table, dict(champion_difference=0))["champion_difference"]
    assert (none["value"], none["low"], none["high"], none["passed"]) == (0, -1, 1, True)
    assert none["against"] == ""


def test_the_champion_interval_covers_as_often_as_it_says():
    rng, inside = random.Random(0), 0
    for _ in range(2000):
        a, b = rng.gauss(0.7, 0.03), rng.gauss(0.65, 0.04)
        t = pd.DataFrame(dict(value=[a], standard_error=[0.03]), index=["balanced_accuracy"])
        _, low, high = gate.champion_difference(t, gate.Champion("1", b, 0.04))
        inside += low <= 0.05 <= high
    assert 0.935 < inside / 2000 < 0.965
