"The artefacts of an evaluation: evaluation.json as the pipeline reads it, the model card as SageMaker accepts it."

import json
import re

import jsonschema
import numpy as np
import pandas as pd
import pytest

from skin_lesion_mlops.core import CLASSES, Files, read_json
from skin_lesion_mlops.evaluation.card import evaluation_json, model_card, write_evaluation
from skin_lesion_mlops.evaluation.conclusion import evaluate
from skin_lesion_mlops.evaluation.gate import Champion
from skin_lesion_mlops.evaluation.predictions import simulate

CONTRACT = dict(
    arch="resnet50",
    parameters=dict(epochs=50, learning_rate=0.001, class_weights="inverse", weights=""),
    validation=dict(accuracy=0.8, balanced_accuracy=float("nan"), note="text"),
    data_hash="ab" * 32,
    parent="imagenet",
)
DATASET = dict(source="ham10000", data_hash="ab" * 32)
LINEAGE = dict(data_hash="ab" * 32, model_hash="cd" * 32, code_version="1.2.3", champion_version="")


def people(p, seed=0):
    "Made-up patients for the lesions of some predictions."
    rng, n = np.random.default_rng(seed), p.lesions.max() + 1
    rows = pd.DataFrame(
        dict(
            sex=rng.choice(["female", "male"], n),
            age=rng.choice([np.nan, *range(5, 90, 5)], n),
            localization=rng.choice(["back", "scalp"], n, p=[0.98, 0.02]),
            lesion_id=[f"HAM_{i:07d}" for i in range(n)],
        )
    )
    return rows.iloc[p.lesions].reset_index(drop=True).assign(image_id=[f"ISIC_{i:07d}" for i in range(len(p))])


@pytest.fixture(scope="module")
def evaluated():
    p = simulate(400)
    rows = people(p)
    return evaluate(p, rows, dict(accuracy=0.85), Champion("4", 0.6, 0.03), bootstrap=100), rows


@pytest.fixture(scope="module")
def partial():
    "No malignant image at all, and two more classes missing."
    p = simulate(200)
    p = p[np.isin(p.labels, [2, 5])]
    return evaluate(p, people(p), dict(accuracy=0.5), bootstrap=50)


def text(most):
    return dict(type="string", maxLength=most)


def closed(required=(), **properties):
    return dict(type="object", additionalProperties=False, required=list(required), properties=properties)


def listed(items, **more):
    return dict(type="array", items=items, **more)


def metric(kind, value, x, y):
    return closed(
        ("name", "type", "value"),
        name=NAME,
        notes=text(1024),
        type=dict(enum=kind),
        value=value,
        x_axis_name=x,
        y_axis_name=y,
    )


# SageMaker's model package model card schema 0.1.0, from the developer guide's page on model registry details.
NUMBER, NAME, AXIS = dict(type="number"), dict(type="string", pattern="^.{1,255}$"), text(63)
SHORT = dict(type="string", pattern="^.{1,63}$")
METRIC = dict(
    anyOf=[
        metric(["number", "string", "boolean"], dict(anyOf=[NUMBER, text(63), dict(type="boolean")]), AXIS, AXIS),
        metric(["linear_graph"], listed(listed(NUMBER, minItems=2, maxItems=2), minItems=1), AXIS, AXIS),
        metric(["bar_chart"], listed(NUMBER, minItems=1), listed(AXIS), AXIS),
        metric(
            ["matrix"],
            listed(listed(NUMBER, minItems=1, maxItems=20), minItems=1, maxItems=20),
            listed(AXIS),
            listed(AXIS),
        ),
    ]
)
TRAINED = closed(("name", "value"), name=NAME, notes=text(1024), value=NUMBER)
SET = closed(("name", "value"), name=NAME, value=NAME)
SCHEMA = closed(
    model_overview=closed(model_creator=text(1024), model_artifact=listed(text(1024), maxItems=15)),
    intended_uses=closed(
        purpose_of_model=text(2048),
        intended_uses=text(2048),
        factors_affecting_model_efficiency=text(2048),
        risk_rating=dict(enum=["High", "Medium", "Low", "Unknown"]),
        explanations_for_risk_rating=text(2048),
    ),
    business_details=closed(business_problem=text(2048), business_stakeholders=text(2048), line_of_business=text(2048)),
    training_details=closed(
        objective_function=dict(type="object"),
        training_observations=text(1024),
        training_job_details=closed(
            training_arn=text(1024),
            training_datasets=listed(text(1024), maxItems=15),
            training_environment=closed(container_image=listed(text(1024), maxItems=15)),
            training_metrics=listed(TRAINED, maxItems=50),
            user_provided_training_metrics=listed(TRAINED, maxItems=50),
            hyper_parameters=listed(SET, maxItems=100),
            user_provided_hyper_parameters=listed(SET, maxItems=100),
        ),
    ),
    evaluation_details=listed(
        closed(
            ("name",),
            name=SHORT,
            evaluation_observation=text(2096),
            evaluation_job_arn=text(256),
            datasets=listed(text(1024), maxItems=10),
            metadata=dict(type="object", additionalProperties=text(1024)),
            metric_groups=listed(closed(("name", "metric_data"), name=SHORT, metric_data=listed(METRIC))),
        )
    ),
    additional_information=closed(
        ethical_considerations=text(2048),
        caveats_and_recommendations=text(2048),
        custom_details=dict(type="object", additionalProperties=text(1024)),
    ),
)


def accepted(card):
    "Would SageMaker take this card?"
    content = json.dumps(card, separators=(",", ":"), allow_nan=False)
    jsonschema.validate(json.loads(content), SCHEMA)
    return len(content) <= 100_000 and re.fullmatch(".*", content) is not None  # ModelCardContent's length and pattern


def test_the_card_follows_sagemakers_schema(evaluated, partial):
    for e in (evaluated[0], partial):
        assert accepted(model_card(e, CONTRACT, DATASET, LINEAGE))
        assert accepted(model_card(e, {}, {}, {}))


def test_the_schema_check_can_fail(evaluated):
    card = model_card(evaluated[0], CONTRACT, DATASET, LINEAGE)
    for wrong in (
        {**card, "model_overview": {"model_description": "only a full card has one"}},
        {**card, "intended_uses": {"purpose_of_model": "x" * 2049}},
        {**card, "intended_uses": {"risk_rating": "high"}},
        {**card, "summary": "no such field"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            accepted(wrong)


def test_the_card_fits_the_sdks_shapes(evaluated):
    shapes = pytest.importorskip("sagemaker.core.shapes.model_card_shapes", reason="needs the aws extra")
    read = shapes.ModelCardContent.model_validate(model_card(evaluated[0], CONTRACT, DATASET, LINEAGE))
    kinds = {type(m).__name__ for g in read.evaluation_details[0].metric_groups for m in g.metric_data}
    assert kinds == {"SimpleMetric", "LinearGraphMetric", "BarChartMetric", "MatrixMetric"}


def test_the_card_says_what_it_must(evaluated, partial):
    card = model_card(evaluated[0], CONTRACT, DATASET, LINEAGE)
    assert (
        card["intended_uses"]["risk_rating"] == "High"
        and "Not a medical device" in card["intended_uses"]["intended_uses"]
    )
    details = card["evaluation_details"][0]
    assert details["evaluation_observation"].startswith("The model passes the gate")
    groups = {g["name"]: g["metric_data"] for g in details["metric_groups"]}
    assert {m["name"] for m in groups["Subgroups"]} >= {
        "accuracy by sex",
        "accuracy by age",
        "malignant_sensitivity by sex",
    }
    assert groups["Headline"][0]["value"] == round(evaluated[0].figures.value["accuracy"], 4)
    assert [m["name"] for m in groups["Confusion"]] == ["confusion matrix, likeliest", "confusion matrix, balanced"]
    assert {"likeliest", "balanced", "malignant"} <= {m["name"] for m in groups["Decision rules"]}
    assert "missed of 1,000 lesions" in {m["name"] for m in groups["For a clinic"]}
    given = card["training_details"]["training_job_details"]["user_provided_hyper_parameters"]
    assert dict(name="epochs", value="50") in given and all(h["value"] for h in given)
    nothing = json.dumps(model_card(partial, CONTRACT, DATASET, LINEAGE))
    assert "not in the test set" in nothing and "no malignant image" in nothing
    assert "no clinical value" in json.dumps(model_card(partial, CONTRACT, dict(source="synthetic"), LINEAGE))


def test_evaluation_json_has_every_path_the_gate_reads(evaluated, partial):
    for e in (evaluated[0], partial):
        found = evaluation_json(e, LINEAGE, model_card(e, CONTRACT, DATASET, LINEAGE))
        json.dumps(found, allow_nan=False)
        assert isinstance(found["multiclass_classification_metrics"]["accuracy"]["value"], float)
        for guard in ("balanced_accuracy", "malignant_sensitivity", "ece"):
            assert isinstance(found["gate"][guard]["value"], float)
        assert isinstance(found["gate"]["champion_difference"]["high"], float)
        assert isinstance(found["model_card_content"], str)
        assert found["passed"] == all(g["passed"] for g in found["gate"].values()) == found["decision"]["passed"]
        assert isinstance(found["decision"]["failed"], int) and found["decision"]["failed"] == len(
            found["decision"]["reasons"]
        )


def test_evaluation_json_is_sagemakers_model_quality(evaluated):
    e = evaluated[0]
    quality = evaluation_json(e, LINEAGE, {})["multiclass_classification_metrics"]
    assert set(quality["confusion_matrix"]) == set(CLASSES) == set(quality["confusion_matrix"]["nv"])
    names = ["accuracy", *(f"weighted_{n}" for n in ("recall", "precision", "f0_5", "f1", "f2"))]
    for name in names + [f"{n}_best_constant_classifier" for n in names]:
        assert set(quality[name]) == {"value", "standard_deviation"}
        assert 0 <= quality[name]["value"] <= 1 and 0 <= quality[name]["standard_deviation"] < 0.2
    assert quality["accuracy"]["standard_deviation"] > 0


def test_what_does_not_exist_is_null_and_said(partial):
    found = evaluation_json(partial, LINEAGE, {})
    assert found["per_class"]["mel"]["recall"] == dict(value=None, low=None, high=None)
    assert found["operating_points"]["malignant_sensitivity"]["value"] is None
    assert found["gate"]["malignant_sensitivity"]["note"].startswith("cannot be computed")
    assert any("no image of akiec, bcc, df, mel, vasc" in s for s in found["conclusion"])


def test_the_files_agree_with_each_other(evaluated, tmp_path):
    e, rows = evaluated
    write_evaluation(tmp_path, e, rows, CONTRACT, DATASET, LINEAGE)
    found, t = read_json(tmp_path / Files.EVALUATION), pd.read_csv(tmp_path / Files.PREDICTIONS)
    assert json.loads(found["model_card_content"]) == read_json(tmp_path / Files.MODEL_CARD)
    names = ["image_id", "lesion_id", "dx", "dx_type", "predicted", "balanced", *(f"p_{c}" for c in CLASSES)]
    names += ["malignant_probability"]
    assert list(t.columns) == names and len(t) == found["dataset"]["item_count"]
    assert np.allclose(t[[f"p_{c}" for c in CLASSES]].sum(axis=1), 1, atol=1e-5)
    assert (t.dx == t.predicted).mean() == pytest.approx(
        found["multiclass_classification_metrics"]["accuracy"]["value"]
    )
    recalls = (t.dx == t.balanced).groupby(t.dx).mean()
    measured = found["multiclass_classification_metrics"]["balanced_accuracy"]["value"]
    assert recalls.mean() == pytest.approx(measured) and (t.dx == t.predicted).groupby(t.dx).mean().mean() < measured
    assert set(found["decisions"]["rules"]) == {"likeliest", "balanced", "malignant"}
    flagged = t.malignant_probability >= found["operating_points"]["threshold"]
    sensitivity = flagged[t.dx.isin(["akiec", "bcc", "mel"])].mean()
    assert sensitivity == pytest.approx(found["operating_points"]["malignant_sensitivity"]["value"])
    assert found["lineage"]["model_hash"] == "cd" * 32
