"Another clinic's images through a registered model: the report, the profile, its approval, and the service there."

import json

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from typer.testing import CliRunner

from skin_lesion_mlops.cli.app import app
from skin_lesion_mlops.core import Files, pack, read_json, s3_path, write_json
from skin_lesion_mlops.data.shards import Shards, write_shards
from skin_lesion_mlops.data.check import check
from skin_lesion_mlops.data.duplicates import note_learned
from skin_lesion_mlops.data.synthetic import create_dataset
from skin_lesion_mlops.evaluation.predictions import create_predictions
from skin_lesion_mlops.model.bundle import posterior, with_profile
from skin_lesion_mlops.model.ensemble import Ensemble
from skin_lesion_mlops.model.metadata import metadata_width
from skin_lesion_mlops.model.networks import create_contract, create_model, load_bundle, predict, save_bundle
from skin_lesion_mlops.monitor.captures import load_baseline
from skin_lesion_mlops.pipeline.launch import launch
from skin_lesion_mlops.pipeline.registry import APPROVED, GROUP, create_registry
from skin_lesion_mlops.pipeline.sites import describe_site
from skin_lesion_mlops.serve.app import create_app
from skin_lesion_mlops.serve.capture import Capture, record
from skin_lesion_mlops.serve.predictor import create_predictor, decode, from_array
from skin_lesion_mlops.taxonomy import HAM10000, read_taxonomy

PRIOR = [0.05, 0.05, 0.1, 0.02, 0.03, 0.7, 0.05]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "A home with one approved version: a network of fixed opinions, and a threshold that was frozen far too high."
    root = tmp_path_factory.mktemp("validate")
    create_dataset(root / "clinic", n=120, seed=4, size=(120, 90))
    model = create_model("tiny").eval()
    model.head.weight.data *= 5
    facts = dict(temperature=0.2, prior=PRIOR, thresholds=dict(malignant=0.99), data_hash="d")
    save_bundle(root / "bundle", model, create_contract(model, 64, **facts))
    home, base = root / "home", "s3://models/run"
    s3_path(home, base).mkdir(parents=True)
    pack(root / "bundle", s3_path(home, f"{base}/model.tar.gz"))
    guard = dict(
        value=0.995, low=0.99, high=1.0, threshold=0.99, direction="at least", blocks=True, passed=True, note=""
    )
    gate = dict(accuracy=guard)
    write_json(s3_path(home, f"{base}/evaluation/{Files.EVALUATION}"), dict(decision=dict(passed=True), gate=gate))
    spec = dict(Containers=[dict(Image="i", ModelDataUrl=f"{base}/model.tar.gz")])
    quality = dict(ModelQuality=dict(Statistics=dict(S3Uri=f"{base}/evaluation/{Files.EVALUATION}")))
    registry = create_registry(home=home)
    registry.register(dict(ModelPackageGroupName=GROUP, InferenceSpecification=spec, ModelMetrics=quality))
    registry.set_status(GROUP, 1, APPROVED, "ada", "a version to validate")
    return home


def skin_lesion(home, *words, status=0):
    "Type a command."
    result = CliRunner(env=dict(SKIN_LESION_HOME=str(home), COLUMNS="80")).invoke(app, [str(w) for w in words])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="module")
def validated(home):
    "The clinic's images validated and fitted."
    words = ("validate", "--model", 1, "--data", home.parent / "clinic", "--recalibrate", "--site", "lakeside")
    found = json.loads(skin_lesion(home, *words, "--bootstrap", 40, "--json").stdout)
    return found, home / "registry" / GROUP / "sites" / "1" / "lakeside"


def test_the_report_says_that_the_frozen_threshold_is_lost(validated):
    found, folder = validated
    assert found["transfer"]["said"][0].startswith("LOST: the threshold of 0.990")
    page = (folder / "validate.html").read_text()
    assert "The frozen threshold does not hold here" in page and "Another mixture of diagnoses" in page
    assert found["profile"] == "1/lakeside" and found["decision"]["reasons"][0].startswith("accuracy")


def test_what_was_fitted_to_was_not_judged_on(validated, home):
    "The figures are recomputed from the files alone, by lesion."
    found, folder = validated
    profile, t = read_json(folder / Files.PROFILE), pd.read_csv(folder / Files.PREDICTIONS)
    every = check(home.parent / "clinic").rows
    assert profile["images"] + len(t) == len(every) == found["transfer"]["judged"] + profile["images"]
    others = every[~every.image_id.isin(t.image_id)]
    assert not set(others.lesion_id) & set(t.lesion_id) and profile["lesions"] == others.lesion_id.nunique()
    counts = others.dx.value_counts().reindex(list(HAM10000.codes), fill_value=0) + 1
    assert np.allclose(profile["prior"], counts / counts.sum())
    accuracy = found["multiclass_classification_metrics"]["accuracy"]["value"]
    assert (t.dx == t.predicted).mean() == pytest.approx(accuracy)
    assert set(t.dx_type) >= {"histo"}


def test_the_folder_is_a_baseline_for_monitors_there(validated):
    base = load_baseline(validated[1])
    assert {"brightness", "confidence", "predicted"} <= set(base.features) and base.evaluation["decisions"]["prior"]


def test_it_is_approved_like_a_version_and_then_served(validated, home):
    at = ("predict", home.parent / "clinic", "--model", 1, "--site", "lakeside", "--json")
    assert "is PendingManualApproval" in skin_lesion(home, *at, status=1).output
    refused = skin_lesion(home, "models", "approve", "1/lakeside", "--reason", "read the report", status=1)
    assert "accuracy" in refused.output and "override" in refused.output
    reason = ("--reason", "read the report", "--override", "hard cases, threshold judged on 60 lesions")
    skin_lesion(home, "models", "approve", "1/lakeside", "--by", "ada", *reason)
    assert describe_site(create_registry(home=home), GROUP, "1/lakeside")["ApprovalHistory"][-1]["By"] == "ada"
    assert "lakeside (Approved)" in skin_lesion(home, "models", "show", 1).output
    assert "temperature" in skin_lesion(home, "models", "show", "1/lakeside").output
    answers = json.loads(skin_lesion(home, *at).stdout)
    assert answers["model"]["site"] == "lakeside" and answers["model"]["mixture"] == "site lakeside"
    assert not create_registry(home=home).verify(GROUP, 1)  # the version itself is as it was registered


def test_the_service_says_what_the_validation_says(validated, home, tmp_path):
    profile, t = read_json(validated[1] / Files.PROFILE), pd.read_csv(validated[1] / Files.PREDICTIONS)
    where = home.parent / "bundle"
    path = next(p for p in (home.parent / "clinic").rglob("*.jpg") if p.stem == t.image_id[0])
    with TestClient(create_app(create_predictor(where, profile=profile, engine="torch"))) as client:
        body = client.post("/invocations", content=path.read_bytes(), headers={"Content-Type": "image/jpeg"}).json()
    (p,) = body["predictions"]
    assert np.allclose(
        [p["probabilities"][c] for c in HAM10000.codes],
        t.loc[0, [f"p_{c}" for c in HAM10000.codes]].astype(float),
        atol=1e-4,
    )
    assert p["threshold"] == profile["thresholds"]["malignant"] and body["model"]["threshold"] != 0.99


def test_answers_under_a_profile_are_monitored_beside_what_was_approved_there(validated, home, tmp_path):
    profile, capture = read_json(validated[1] / Files.PROFILE), Capture(tmp_path / "capture")
    served = create_predictor(home.parent / "bundle", profile=profile, engine="torch")
    for f in sorted((home.parent / "clinic").rglob("*.jpg")):
        picture = decode(f.read_bytes(), served.size)
        capture.write(record(served, [picture], served.predict([picture])))
    capture.close()
    words = ("monitor", "--captures", tmp_path / "capture", "--json")
    told = json.loads(skin_lesion(home, *words, "--site", "lakeside").stdout)
    assert told["status"] == "Completed" and "look like those" in told["conclusion"][0]
    assert "profile" not in str(told["conclusion"])
    away = json.loads(skin_lesion(home, *words).stdout)
    assert "120 answers were given under the profile of lakeside" in str(away["conclusion"])
    assert "has no site profile" in skin_lesion(home, *words, "--site", "hillside", status=1).output
    both = skin_lesion(home, *words, "--site", "lakeside", "--baseline", validated[1], status=1)
    assert "give one of them" in both.output


def test_frozen_figures_are_the_bundles_own(validated, home, tmp_path):
    rows = check(home.parent / "clinic").rows
    shards = Shards(write_shards(rows.assign(group=rows.lesion_id), tmp_path, 64, 1))
    bundle = load_bundle(home.parent / "bundle")
    p = create_predictions(shards.labels, bundle.probabilities(shards[:]), threshold=0.99)
    said = validated[0]["transfer"]["frozen"]
    assert said["accuracy"]["value"] == pytest.approx((p.predicted == p.labels).mean())
    assert said["malignant_sensitivity"]["value"] == pytest.approx(p.flagged[p.malignant].mean())
    logits = predict(bundle.model, shards[:3])[0]
    other = with_profile(bundle.contract, read_json(validated[1] / Files.PROFILE))
    assert not np.allclose(posterior(logits, other), posterior(logits, bundle.contract))


def test_a_second_profile_of_that_name_is_refused_before_any_work(validated, home):
    words = ("validate", "--model", 1, "--data", home.parent / "clinic", "--recalibrate", "--site", "lakeside")
    assert "has a profile lakeside already" in skin_lesion(home, *words, status=1).output


def test_a_table_in_which_nothing_is_malignant(tmp_path):
    "An ensemble that is told of the patient: figures of malignancy are absent, and nothing asks for a threshold."
    (tmp_path / "benign.csv").write_text("code,name,malignant\nnv,Mole,no\nbkl,Keratosis,no\ndf,Fibroma,no\n")
    for i in range(24):
        to = tmp_path / "there" / ("mole", "keratosis", "fibroma")[i % 3] / f"{i}.png"
        to.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((48, 48), 20 + 9 * i).convert("RGB").save(to)
    told = dict(sites=["back"])
    pair = Ensemble([create_model("tiny", num_classes=3, metadata=metadata_width(told)).eval() for _ in range(2)], 2)
    contract = create_contract(pair, 32, read_taxonomy(tmp_path / "benign.csv"), prior=[0.4, 0.3, 0.3], metadata=told)
    save_bundle(tmp_path / "bundle", pair, contract)
    assert load_bundle(tmp_path / "bundle").threshold(None) == 1
    words = ("--model", tmp_path / "bundle", "--data", tmp_path / "there", "--bootstrap", 20, "--json")
    found = json.loads(skin_lesion(tmp_path / "home", "validate", *words).stdout)
    assert found["transfer"]["said"][0].endswith("there is no threshold to keep.")
    assert not [n for n in found["multiclass_classification_metrics"] if "malignant" in n]
    answer = create_predictor(tmp_path / "bundle").predict([from_array(np.full((32, 32, 3), 9, np.uint8), 32)])[0]
    assert answer.malignant_probability is None and not answer.malignant


def test_what_the_model_learned_from_is_not_judged_on(home, tmp_path):
    "A collection that holds the training images again, smaller and under other names."
    other = create_dataset(tmp_path / "other", n=60, seed=9, size=(120, 90))
    learned = check(other).rows.assign(split="train").iloc[:20]
    for path in learned.path:
        im = Image.open(path)
        im.resize((im.width // 2, im.height // 2)).save(path, quality=80)
    (tmp_path / "home").mkdir()
    note_learned(tmp_path / "home", learned)
    write_json(tmp_path / "home" / Files.EVALUATION, {})
    given = dict(input_model=home.parent / "bundle", input_data=other, input_home=tmp_path / "home")
    given.update(output_validation=tmp_path / "out", bootstrap=20, workers=1)
    launch("validate", tmp_path / "report", {k: str(v) for k, v in given.items()})
    said = read_json(tmp_path / "out" / Files.EVALUATION)["transfer"]["said"]
    aside = pd.read_csv(tmp_path / "out" / Files.QUARANTINE).query("reason == 'learned_from'")
    judged = pd.read_csv(tmp_path / "out" / Files.PREDICTIONS).image_id
    assert set(aside.image_id) == set(learned.image_id) and len(judged) == 40 and not set(judged) & set(aside.image_id)
    assert any(s.startswith("20 of 60 pictures were left out") for s in said)
