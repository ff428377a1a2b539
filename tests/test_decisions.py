"The three rules and what a clinic asks of the figures, against scorers written by others."

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from isic_challenge_scoring.metrics import balanced_multiclass_accuracy
from sklearn import metrics as sk
from sklearn.naive_bayes import GaussianNB

from skin_lesion_mlops.core import SkinLesionError
from skin_lesion_mlops.evaluation import clinic, decisions, transfer
from skin_lesion_mlops.evaluation.metrics import figures, measure
from skin_lesion_mlops.evaluation.predictions import create_predictions, simulate
from skin_lesion_mlops.model.bundle import posterior, with_profile
from skin_lesion_mlops.model.calibration import fit_threshold, recalibrate
from skin_lesion_mlops.taxonomy import HAM10000

seeds = st.integers(0, 10_000)


def shares(rng):
    "A mixture of seven diagnoses, none impossible."
    found = rng.dirichlet(np.ones(7)) + 0.01
    return found / found.sum()


@settings(max_examples=20)
@given(seeds)
def test_bayes_moves_probabilities_where_scikit_learn_has_them(seed):
    "A naive Bayes classifier that is given another prior: only the prior differs."
    rng = np.random.default_rng(seed)
    home, away = shares(rng), shares(rng)
    y = np.append(np.arange(7), rng.integers(0, 7, 60))
    x = rng.normal(size=(len(y), 3)) + y[:, None] / 3
    at_home, there = (GaussianNB(priors=p).fit(x, y).predict_proba(x) for p in (home, away))
    assert np.allclose(decisions.at_prevalence(at_home, home, away), there)
    assert (decisions.likeliest(at_home, home, away) == there.argmax(1)).all()
    even = GaussianNB(priors=np.full(7, 1 / 7)).fit(x, y).predict(x)
    assert (decisions.balanced(at_home, home) == even).all() and (decisions.balanced(there, away) == even).all()


@settings(max_examples=20)
@given(seeds)
def test_balanced_accuracy_is_the_isic_challenges(seed):
    p = simulate(150, seed=seed)
    if len(set(p.labels)) < 7:
        return
    one = pd.Series(np.ones(len(p)))
    truth, found = (pd.DataFrame(t, columns=list(HAM10000.codes)) for t in (np.eye(7)[p.labels], p.probabilities))
    v = {k: float(x[0]) for k, x in figures(p).items()}
    assert v["macro_recall"] == pytest.approx(balanced_multiclass_accuracy(truth, found, one))
    assert v["balanced_accuracy"] == pytest.approx(balanced_multiclass_accuracy(truth, found / p.prior, one))
    assert v["accuracy_balanced_rule"] == pytest.approx(sk.accuracy_score(p.labels, p.balanced))
    recalls = sk.recall_score(p.labels, p.balanced, average=None)
    assert [v[f"recall_balanced_rule.{c}"] for c in HAM10000.codes] == pytest.approx(recalls.tolist())


def test_each_rule_is_best_at_its_own_figure():
    v = measure(simulate(3000), 20).value
    assert v["accuracy"] > v["accuracy_balanced_rule"] and v["balanced_accuracy"] > v["macro_recall"] + 0.02


def test_without_a_prior_there_is_one_rule_for_diagnoses():
    p = simulate(300)
    old = create_predictions(p.labels, p.probabilities, p.lesions)
    assert (old.balanced == old.predicted).all() and (p.balanced != p.predicted).any()
    v = figures(old)
    assert v["balanced_accuracy"] == v["macro_recall"]
    for wrong in ([0.5] * 2, [0.0] + [1 / 6] * 6):
        with pytest.raises(SkinLesionError, match="the prior has the shares"):
            create_predictions(p.labels, p.probabilities, p.lesions, prior=wrong)


@given(seeds)
def test_the_threshold_is_the_highest_that_finds_95_of_100(seed):
    rng = np.random.default_rng(seed)
    ill = rng.random(200) < 0.3
    score = np.round(rng.beta(2, 5, 200) / 2 + 0.2 * ill, 2)
    if not ill.any():
        return
    _, found, at = sk.roc_curve(ill, score, drop_intermediate=False)
    fitted = fit_threshold(score, ill)
    assert fitted["malignant"] == min(at[found >= 0.95 - 1e-9].max(), 0.5)
    assert fitted["low"] <= fitted["malignant"] <= fitted["high"]


@settings(max_examples=20)
@given(seeds, st.integers(1, 8))
def test_net_benefit_is_that_of_dcurves(seed, coarse):
    import dcurves  # five seconds with all that it imports, so not in every process that collects the tests

    p = simulate(80, seed=seed)
    if not p.malignant.any():
        return
    score = np.round(p.score, coarse).clip(0, 1)
    risks = [0.01, 0.05, 0.1, 0.25, 0.5]
    table = dcurves.dca(pd.DataFrame(dict(ill=p.malignant.astype(int), ours=score)), "ill", ["ours"], risks)
    want = {m: t.net_benefit.to_numpy() for m, t in table.groupby("model")}
    acted = score[:, None] >= np.array(risks)
    assert np.allclose(clinic.net_benefit(acted, p.malignant, np.array(risks))[0], want["ours"])
    assert np.allclose(clinic.decision_curve(p, np.array(risks), 2)["all"], want["all"])


def test_errors_by_coverage_as_one_would_count_them():
    p = simulate(200, seed=3)
    rows = sorted(zip(p.probabilities.max(1), p.predicted != p.labels), key=lambda r: -r[0])
    curve = clinic.risk_coverage(p)
    for k in (1, 50, 200):
        assert curve.errors[k - 1] == pytest.approx(sum(bool(wrong) for _, wrong in rows[:k]) / k)


def test_a_thousand_lesions_counted_one_by_one():
    "A village of 1,000 lesions, each flagged or not with the sensitivity and specificity of the test set."
    p = simulate(2000, seed=5)
    t, (row,) = measure(p, 30), clinic.workload(measure(p, 30), [0.03]).to_dict("records")
    rng = np.random.default_rng(0)
    ill = np.repeat([True, False], [30_000, 970_000])  # a thousand such villages
    hit = rng.random(len(ill)) < np.where(ill, t.value["malignant_sensitivity"], 1 - t.value["malignant_specificity"])
    assert row["flagged"] == pytest.approx(hit.sum() / 1000, abs=1.5)
    assert row["missed"] == pytest.approx((ill & ~hit).sum() / 1000, abs=0.2)
    assert row["in_vain"] == pytest.approx((~ill & hit).sum() / 1000, abs=1.5)


def test_no_row_of_the_workload_is_there_twice():
    "A test set with 20 % malignant lesions, or nearly so, is one of the listed mixtures already."
    table = measure(simulate(500, seed=5), 30)
    for own, shares in (
        (0.2, [0.2, 0.01, 0.05, 0.1]),
        (0.2004, [0.2004, 0.01, 0.05, 0.1]),
        (0.3, [0.3, *clinic.SHARES]),
    ):
        assert clinic.workload(table, [own, *clinic.SHARES]).share.tolist() == shares


def test_a_site_is_fitted_and_served_on_one_scale():
    "A network that is too sure of itself, from a world with another mixture: the profile puts both right."
    rng = np.random.default_rng(1)
    home, away = shares(rng), shares(rng)
    y = rng.choice(7, 8000, p=away)
    evidence = 1.5 * (1.5 * np.eye(7)[y] + rng.normal(size=(len(y), 7)))
    logits = 2.0 * (evidence + np.log(home))  # calibrated at home with temperature 2
    bundle = dict(temperature=2.0, prior=home.tolist(), weights_hash="w", thresholds=dict(malignant=0.2))
    bundle["classes"] = list(HAM10000.codes)
    fitting = transfer.divide(y, np.arange(len(y)) // 1, 0.5)
    facts = recalibrate(logits[fitting], y[fitting], None, bundle)
    profile = dict(version=1, site="x", weights_hash="w", untold=None, images=1, lesions=1, data_hash="d", **facts)
    there = with_profile(bundle, json.loads(json.dumps(profile)))
    truth = evidence + np.log(away)
    truth = np.exp(truth - truth.max(1, keepdims=True))
    exact = truth / truth.sum(1, keepdims=True)
    error = {
        name: np.abs(posterior(logits, c) - exact)[~fitting].mean() for name, c in (("frozen", bundle), ("site", there))
    }
    assert error["site"] < 0.01 < error["frozen"] / 3
    assert facts["temperature"] == pytest.approx(2.0, abs=0.1) and np.allclose(facts["prior"], away, atol=0.03)
    even = [decisions.balanced(posterior(logits, c), c["prior"]) for c in (bundle, there)]
    assert (even[0] == even[1]).mean() > 0.99  # what the picture alone speaks for does not depend on the mixture


def test_a_lost_threshold_is_called_lost_and_a_lucky_one_is_not():
    p = simulate(1500, seed=2)
    said = {}
    for name, t in (("kept", 0.01), ("lost", 0.6)):
        q = create_predictions(p.labels, p.probabilities, p.lesions, t)
        said[name] = transfer.on_transfer(q, measure(q, 60), {})[0]
    assert said["kept"].startswith("Kept") and said["lost"].startswith("LOST")
    few = p[np.flatnonzero(p.malignant)[:8].tolist() + np.flatnonzero(~p.malignant)[:60].tolist()]
    at = float(np.sort(few.score[few.malignant])[1])  # misses one of eight
    q = create_predictions(few.labels, few.probabilities, few.lesions, at)
    assert transfer.on_transfer(q, measure(q, 60), {})[0].startswith("In doubt")
