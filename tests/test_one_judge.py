"One model just above a guard, one just below: everybody who speaks of the gate says the same, because one has decided."

import json
import re

import numpy as np
import pandas as pd
import pytest

from skin_lesion_mlops.cli import words
from skin_lesion_mlops.core import SkinLesionError, decision_of, headline, write_json, s3_path
from skin_lesion_mlops.evaluation import card, conclusion
from skin_lesion_mlops.evaluation import metrics as evaluate_metrics
from skin_lesion_mlops.evaluation import plots, predictions
from skin_lesion_mlops.pipeline import definition as pipeline
from skin_lesion_mlops.pipeline import page as pages
from skin_lesion_mlops.pipeline.expressions import Scope, check_condition, fill_parameters
from skin_lesion_mlops.pipeline.registry import APPROVED, GROUP, create_registry
from skin_lesion_mlops.pipeline.runs import StepRun, create_run, note_evaluation

pytest.importorskip("moto")
from tests.test_lambdas import aws, call  # noqa: E402, F401

HAIR = 1e-6  # of sensitivity: less than the figures show


@pytest.fixture(scope="module")
def measured():
    "Predictions, their rows, and what they measure."
    p = predictions.simulate(300)
    rng = np.random.default_rng(1)
    who = dict(sex=rng.choice(["female", "male"], len(p)), age=rng.choice([30, 50, 70], len(p)), localization="back")
    rows = pd.DataFrame(dict(who, image_id=[f"i{i}" for i in range(len(p))], lesion_id=p.lesions.astype(str)))
    return p, rows, evaluate_metrics.figures(p)


@pytest.fixture(params=[True, False], ids=["above", "below"])
def judged(request, measured, tmp_path):
    "An evaluation whose sensitivity is a hair above, or below, the guard; accuracy is just met, the others are off."
    p, rows, found = measured
    least = float(found["malignant_sensitivity"][0]) + (-HAIR if request.param else HAIR)
    given = dict(AccuracyThreshold=float(found["accuracy"][0]), MinMalignantSensitivity=least)
    thresholds = dict(accuracy=given["AccuracyThreshold"], malignant_sensitivity=least)
    e = conclusion.evaluate(p, rows, thresholds, bootstrap=30)
    contract = dict(arch="tiny", parameters={}, data_hash="d", validation={}, parent="")
    card.write_evaluation(tmp_path, e, rows, contract, dict(data_hash="d", source="x"), dict(data_hash="d"))
    return request.param, e, json.loads((tmp_path / "evaluation.json").read_text()), given


def read_by_condition(written, given):
    "The condition step of the committed definition, as the local runner evaluates it."
    d = pipeline.definition()
    gate = next(s for s in d["Steps"] if s["Name"] == "Gate")["Arguments"]["Conditions"]
    scope = Scope(fill_parameters(d, given), {}, read_property_file=lambda step, name: ("evaluation.json", written))
    assert len(gate) == 2
    return [check_condition(c, scope) for c in gate]


def page_of(tmp_path, written, compared):
    "The page of a run with that evaluation."
    run, lock = create_run(tmp_path / "home", pipeline="p", parameters={})
    note_evaluation(run, written)
    run.steps = [StepRun("Gate", "Condition", "Succeeded", run.started, run.started + 1)]
    run.steps[0].compared = [vars(c) for c in compared]
    lock.close()
    return re.search(r"<h2>Gate</h2>.*?</table>", pages.render_page(run), re.S)[0]


def facts_of(written, compared):
    "What the terminal sums up."
    registered = all(c.passed for c in compared)
    model = dict(group=GROUP, version=1, status="PendingManualApproval") if registered else None
    told = dict(gate=written["gate"], decision=decision_of(written), metrics=headline(written), model=model)
    status = "Succeeded" if registered else "NotRegistered"
    return dict(told, id="1", status=status, seconds=1.0, reason="the pipeline says so", steps=[], report="", page="p")


def test_all_readers_agree(judged, tmp_path, aws):  # noqa: F811
    passed, e, written, given = judged
    reason = "malignant sensitivity"
    # what was decided, and written
    assert e.passed is e.decision["passed"] is written["decision"]["passed"] is written["passed"] is passed
    assert [r.startswith(reason) for r in written["decision"]["reasons"]] == ([] if passed else [True])
    assert written["conclusion"][0].startswith(
        "The model passes" if passed else f"The model does not pass the gate: {reason}"
    )
    # the condition step: accuracy is met on both sides, and the decision is read
    compared = read_by_condition(written, given)
    assert [c.passed for c in compared] == [True, passed]
    # report and card
    assert ("Passed: goes to a reviewer" in plots.verdict(e)) is passed
    table = plots.gate_table(e).to_html()
    assert table.count(">reported only<") == 3 and table.count(">FAILED<") == (0 if passed else 1)
    groups = json.loads(written["model_card_content"])["evaluation_details"][0]["metric_groups"]
    told = {m["name"]: m["value"] for g in groups if g["name"] == "Gate" for m in g["metric_data"]}
    assert told["decision"] is told["malignant_sensitivity"] is passed and told["ece"] == "off"
    # page and terminal: guards that are off are off
    page = page_of(tmp_path, written, compared)
    decided = f"<b>{'passed' if passed else 'not passed'}</b>"
    assert decided in page and page.count(">off<") == 6 and page.count(">not passed</span>") == (0 if passed else 1)
    rows = {r["guard"]: r["decision"] for r in words.guard_rows(written["gate"])}
    assert (
        rows["malignant sensitivity"] == ("passed" if passed else "not passed") and rows["calibration error"] == "off"
    )
    story = words.summary(facts_of(written, compared))
    assert ("registered  version 1" in story) is passed and (f"not registered: {reason}" in story) is not passed
    # the function on AWS
    aws("s3").put_object(Bucket="processed", Key="runs/r/evaluation/evaluation.json", Body=json.dumps(written))
    arn = "arn:package/7" if passed else ""
    uri = "s3://processed/runs/r/evaluation/evaluation.json"
    answered = call("evaluate_model", evaluation=uri, model_package_arn=arn)
    assert answered["passed"] is passed and answered["reasons"] == written["decision"]["reasons"]


def register(registry, written):
    "A version with that evaluation, whatever it says."
    key = f"runs/r/evaluation/{'evaluation.json'}"
    if hasattr(registry, "s3"):
        registry.s3.put_object(Bucket="processed", Key=key, Body=json.dumps(written).encode())
    else:
        write_json(s3_path(registry.home, f"s3://processed/{key}"), written)
        s3_path(registry.home, "s3://processed/model.tar.gz").write_text("weights")
    spec = dict(Containers=[dict(Image="i", ModelDataUrl="s3://processed/model.tar.gz")])
    types = dict(SupportedContentTypes=["image/jpeg"], SupportedResponseMIMETypes=["application/json"])
    quality = dict(Statistics=dict(ContentType="application/json", S3Uri=f"s3://processed/{key}"))
    metrics = dict(ModelMetrics=dict(ModelQuality=quality))
    return registry.register(dict(metrics, ModelPackageGroupName=GROUP, InferenceSpecification={**spec, **types}))


@pytest.mark.parametrize("where", ["here", "aws"])
def test_so_do_those_who_approve(judged, where, tmp_path, aws):  # noqa: F811
    passed, _, written, _ = judged
    registry = create_registry(home=tmp_path) if where == "here" else create_registry(region="us-east-1")
    package = register(registry, written)
    if passed:
        assert registry.set_status(GROUP, 1, APPROVED, "ada", "ok")["ModelApprovalStatus"] == APPROVED
    else:
        with pytest.raises(SkinLesionError, match="its gate was not passed: malignant sensitivity"):
            registry.set_status(GROUP, 1, APPROVED, "ada", "ok")
    if where == "aws":  # a click in the console, which asks nobody
        aws("sagemaker").update_model_package(ModelPackageArn=package["ModelPackageArn"], ModelApprovalStatus=APPROVED)
        event = dict(action="confirm", model_package_arn=package["ModelPackageArn"])
        assert call("approve_model", **event)["status"] == ("Approved" if passed else "Refused")


@pytest.mark.parametrize("origin", ["generated", "partly generated", "pictures"])
def test_the_page_of_a_run_says_what_it_was_trained_on(tmp_path, origin):
    run, lock = create_run(tmp_path / "home", pipeline="p", parameters={})
    note_evaluation(run, dict(trained_on=origin))
    lock.close()
    assert (f"Trained on images that are {origin}:" in pages.render_page(run)) == ("generated" in origin)
