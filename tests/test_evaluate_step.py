"The evaluation report, executed as a job."

import ast
import json
import subprocess

import numpy as np
import pandas as pd
import pytest
from jupyter_client import launcher

from skin_lesion_mlops.core import Files, SkinLesionError, hash_file, pack, read_json
from skin_lesion_mlops.taxonomy import HAM10000
from skin_lesion_mlops.data.shards import Shards, write_shards
from skin_lesion_mlops.data.synthetic import create_dataset
from skin_lesion_mlops.model.metadata import learn_metadata, metadata_width
from skin_lesion_mlops.model.networks import Bundle, create_contract, create_model, save_bundle
from skin_lesion_mlops.pipeline.launch import launch, parameters_of, steps_dir

GATE = ("accuracy", "balanced_accuracy", "malignant_sensitivity", "ece", "champion_difference")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A test split of generated lesions and an untrained model, packed as SageMaker hands it on."
    root = tmp_path_factory.mktemp("evaluate")
    raw = create_dataset(root / "raw", n=70, size=(120, 90))
    paths = {p.stem: str(p) for p in raw.rglob("*.jpg")}
    rows = pd.read_csv(next(raw.rglob("*metadata.csv")))
    rows = rows[rows.image_id.isin(list(paths))].assign(source="ham10000", group=lambda t: t.lesion_id)
    rows["path"] = rows.image_id.map(paths)
    rows["sha256"] = [hash_file(p) for p in rows.path]
    write_shards(rows, root / "test", 64, workers=1)
    model = create_model("tiny")
    save_bundle(root / "bundle", model, create_contract(model, 64, thresholds=dict(malignant=0.4)))
    (root / "model").mkdir()
    pack(root / "bundle", root / "model" / "model.tar.gz")
    return root


def run(made, name, **more):
    "Run the step on the fixture."
    given = dict(input_model=str(made / "model"), input_test=str(made / "test"), bootstrap="40")
    out = dict(output_evaluation=str(made / name / "evaluation"))
    receipt = launch("evaluate", made / name / "report", {**given, **out, **more})
    return receipt, made / name


@pytest.fixture(scope="module")
def ran(made):
    "A run on a machine whose user keeps matplotlib off the screen: the report has its pictures nevertheless."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "agg")
        yield run(
            made, "plain", accuracy_threshold="0.99", champion_balanced_accuracy="0.1", champion_standard_error="0.01"
        )


def test_a_step_notebook_computes_and_defines_nothing():
    cells = json.loads((steps_dir() / "evaluate.ipynb").read_text())["cells"]
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    assert len(code) <= 12
    for node in (n for source in code for n in ast.walk(ast.parse(source))):
        assert not isinstance(node, (ast.FunctionDef, ast.ClassDef)), getattr(node, "name", "")
    assert all(p.help for p in parameters_of(steps_dir() / "evaluate.ipynb").values())


def test_it_leaves_artefacts_report_and_receipt(ran):
    receipt, out = ran
    assert {p.name for p in (out / "evaluation").iterdir()} == {Files.EVALUATION, Files.PREDICTIONS, Files.MODEL_CARD}
    assert {"evaluate.ipynb", "evaluate.html", Files.RECEIPT} <= {p.name for p in (out / "report").iterdir()}
    assert receipt["status"] == "Succeeded" and set(receipt["inputs"]) == {"input_model", "input_test"}
    assert len(pd.read_csv(out / "evaluation" / Files.PREDICTIONS)) == 70


def test_it_is_gated_as_asked(ran):
    found = read_json(ran[1] / "evaluation" / Files.EVALUATION)
    assert tuple(found["gate"]) == GATE and found["passed"] is False
    accuracy = found["gate"]["accuracy"]["value"]
    reasons = [f"accuracy {accuracy:.3f} is below 0.990"]
    assert found["decision"] == dict(passed=False, failed=1, reasons=reasons)
    assert found["conclusion"][0] == f"The model does not pass the gate: {reasons[0]}."
    assert found["conclusion"][0].startswith("The model does not pass the gate: accuracy 0.")  # the run ends with it
    assert found["gate"]["accuracy"]["threshold"] == 0.99 and not found["gate"]["accuracy"]["passed"]
    mine = found["multiclass_classification_metrics"]["balanced_accuracy"]["value"]
    assert found["gate"]["champion_difference"]["value"] == pytest.approx(mine - 0.1)
    assert found["operating_points"]["threshold"] == 0.4
    assert found["lineage"]["model_hash"] == read_json(ran[1].parent / "bundle" / Files.BUNDLE)["weights_hash"]
    assert "no clinical value" in found["model_card_content"]  # it has seen that the images are generated


def test_the_page_on_a_phone_and_in_the_dark(ran, look_at):
    look_at(ran[1] / "report" / "evaluate.html")


def test_the_page_is_a_report(ran):
    page = (ran[1] / "report" / "evaluate.html").read_text()
    for said in ("Not passed: will not be registered", "Does it work for everybody?", "withheld", "Surest and"):
        assert said in page or "image/png" in page and said == "Surest and"
    assert "import tempfile" not in page and "https://cdn" not in page
    assert page.count("data:image/png;base64") >= 5


def test_the_same_run_gives_the_same_bytes(made, ran, monkeypatch):
    monkeypatch.setattr(launcher, "Popen", subprocess.Popen)  # a Python of its own, and so another hash seed
    _, again = run(
        made, "again", accuracy_threshold="0.99", champion_balanced_accuracy="0.1", champion_standard_error="0.01"
    )
    for name in (Files.EVALUATION, Files.PREDICTIONS, Files.MODEL_CARD):
        assert hash_file(again / "evaluation" / name) == hash_file(ran[1] / "evaluation" / name)


def test_a_model_that_is_told_of_patients_is_judged_with_and_without_them(made):
    test = Shards(made / "test")
    told, ill = learn_metadata(test.index.localization), HAM10000.is_malignant(test.labels)
    model = create_model("tiny", metadata=metadata_width(told))
    bundle = Bundle(model, create_contract(model, 64, metadata=told))
    with_them = HAM10000.malignant_probability(bundle.probabilities(test[:], bundle.patients(test.index)))
    without = HAM10000.malignant_probability(bundle.probabilities(test[:]))
    at = {True: float(np.median(with_them)), False: float(np.median(without))}
    facts = dict(thresholds=dict(malignant=at[True]), metadata=told)
    facts["untold"] = dict(temperature=1.0, conformal=None, thresholds=dict(malignant=at[False]), validation={})
    save_bundle(made / "told", model, create_contract(model, 64, **facts))
    found = read_json(run(made, "with", input_model=str(made / "told"))[1] / "evaluation" / Files.EVALUATION)
    for known, score in ((True, with_them), (False, without)):
        (point,) = (x for x in found["points"] if x["told"] is known)
        assert 0 < point["caught"] == (score[ill] >= at[known]).sum() < point["malignant"]
        assert point["flagged"] == (score[~ill] >= at[known]).sum()


def test_a_test_set_of_one_class_is_refused(made):
    keep = read_json(made / "test" / Files.DATASET)
    index = pd.read_csv(made / "test" / Files.INDEX)
    single = made / "single"
    single.mkdir()
    alone = index[index.dx == "nv"]
    alone.assign(shard=0, row=np.arange(len(alone))).to_csv(single / Files.INDEX, index=False)
    pixels = np.concatenate([np.load(p) for p in sorted((made / "test").glob("*.npy"))])
    np.save(single / Files.SHARD.format(0), pixels[(index.dx == "nv").to_numpy()])
    (single / Files.DATASET).write_text(json.dumps({**keep, "split_size": len(alone)}))
    with pytest.raises(SkinLesionError, match="holds nv alone"):
        run(made, "refused", input_test=str(single))
    assert read_json(made / "refused" / "report" / Files.RECEIPT)["status"] == "Failed"
    assert set(HAM10000.codes) > {"nv"}


@pytest.mark.slow
def test_without_inputs_it_makes_its_own(tmp_path):
    receipt = launch("evaluate", tmp_path / "report", dict(bootstrap="40", output_evaluation=str(tmp_path / "out")))
    assert receipt["status"] == "Succeeded" and (tmp_path / "out" / Files.EVALUATION).exists()
