"The monitors: what they read, when they speak up, what they write and publish."

import base64
import gzip
import io
import json
import math
import os
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import validate
from PIL import Image
from scipy.stats import ks_2samp, kstwo
from statsmodels.stats.contingency_tables import StratifiedTable
from statsmodels.stats.multitest import multipletests

from skin_lesion_mlops.core import Files, SkinLesionError, read_json, write_json
from skin_lesion_mlops.taxonomy import HAM10000
from skin_lesion_mlops.data.pictures import read_pixels
from skin_lesion_mlops.data.statistics import (
    STATISTICS,
    dataset_statistics,
    image_statistics,
    sketch,
    suggest_constraints,
)
from skin_lesion_mlops.data.synthetic import create_dataset
from skin_lesion_mlops.evaluation.decisions import prediction_sets
from skin_lesion_mlops.evaluation.metrics import age_band
from skin_lesion_mlops.evaluation.predictions import simulate
from skin_lesion_mlops.model.calibration import fit_conformal
from skin_lesion_mlops.model.networks import create_contract, create_model, save_bundle
from skin_lesion_mlops.monitor import captures, drift
from skin_lesion_mlops.monitor.bias import bias_by_group, check_bias, cochran_mantel_haenszel_test, facet_metrics
from skin_lesion_mlops.monitor.captures import (
    CLOUDWATCH_METRICS,
    DIMENSION,
    Baseline,
    Finding,
    holm_adjusted,
    lesion_ids,
    load_baseline,
    on_captures,
    on_site,
    p_text,
    read_captures,
    wanted_columns,
    window_end,
    write_finding,
)
from skin_lesion_mlops.monitor.drift import (
    ALPHA,
    DRIFT_FEATURES,
    check_data,
    drift_tests,
    ks_test,
    mixture_test,
    psi,
    range_test,
    step_of,
    time_axis,
)
from skin_lesion_mlops.monitor.estimate import estimate, on_estimate
from skin_lesion_mlops.monitor.history import read_findings, trends, write_history
from skin_lesion_mlops.monitor.labels import join_labels, on_labels, read_labels, recent, unmatched
from skin_lesion_mlops.monitor.pictures import find_pixels, sheet, worst
from skin_lesion_mlops.monitor.quality import check_quality
from skin_lesion_mlops.monitor.rehearsal import create_approved
from skin_lesion_mlops.pipeline.launch import launch
from skin_lesion_mlops.serve.capture import Capture, describe_pictures, record
from skin_lesion_mlops.serve.messages import read, to_csv, to_json, to_lines
from skin_lesion_mlops.serve.predictor import create_predictor, decode

NOON = pd.Timestamp("2026-01-31 12:00", tz="UTC")

# ---- Schemas, from the Model Monitor and Clarify chapters of the SageMaker developer guide

NUMBER, TEXT = {"type": "number"}, {"type": "string"}
COMMON = dict(type="object", required=["num_present", "num_missing"], properties=dict(num_present=NUMBER))
NUMERICAL = dict(
    type="object",
    required=["common"],
    properties=dict(common=COMMON, mean=NUMBER, sum=NUMBER, std_dev=NUMBER, min=NUMBER, max=NUMBER),
)
STRINGS = dict(type="object", required=["common", "distinct_count"], properties=dict(common=COMMON))
FEATURE = dict(
    type="object",
    required=["name", "inferred_type"],
    properties=dict(
        name=TEXT,
        inferred_type=dict(enum=["Fractional", "Integral", "String", "Unknown"]),
        numerical_statistics=NUMERICAL,
        string_statistics=STRINGS,
    ),
)
STATISTICS_SCHEMA = dict(
    type="object",
    required=["version", "dataset", "features"],
    properties=dict(dataset=dict(type="object", required=["item_count"]), features=dict(type="array", items=FEATURE)),
)
CONSTRAINTS_SCHEMA = dict(
    type="object",
    required=["version", "features", "monitoring_config"],
    properties=dict(
        features=dict(type="array", items=dict(type="object", required=["name", "inferred_type", "completeness"])),
        monitoring_config=dict(type="object", required=["evaluate_constraints", "distribution_constraints"]),
    ),
)
CHECKS = "data_type completeness baseline_drift missing_column extra_column categorical_values".split()


def violations(*fields, **properties):
    "Schema of constraint_violations.json."
    one = dict(type="object", required=list(fields), properties={**{f: TEXT for f in fields}, **properties})
    one["additionalProperties"] = False
    return dict(type="object", required=["violations"], properties=dict(violations=dict(type="array", items=one)))


VIOLATIONS = dict(
    data_quality=violations(
        *("feature_name", "constraint_check_type", "description"),
        constraint_check_type=dict(enum=[f"{c}_check" for c in CHECKS]),
    ),
    model_quality=violations(
        *("constraint_check_type", "description", "metric_name"),
        constraint_check_type=dict(enum=["LessThanThreshold", "GreaterThanThreshold"]),
    ),
    bias=violations(
        *("facet", "facet_value", "metric_name", "constraint_check_type", "description"),
        constraint_check_type=dict(enum=["bias_drift_check"]),
    ),
)
METRIC = dict(
    type="object",
    required=["MetricName", "Timestamp", "Dimensions", "Value", "Unit"],
    properties=dict(MetricName=dict(enum=list(CLOUDWATCH_METRICS)), Value=NUMBER, Unit=dict(enum=["Count", "None"])),
    additionalProperties=True,
)
ANALYSIS = dict(
    type="object",
    required=["version", "post_training_bias_metrics"],
    properties=dict(
        post_training_bias_metrics=dict(
            type="object",
            required=["label", "facets", "label_value_or_threshold"],
            properties=dict(
                facets=dict(
                    additionalProperties=dict(
                        type="array", items=dict(type="object", required=["value_or_threshold", "metrics"])
                    )
                )
            ),
        )
    ),
)


# ---- What is read


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model = create_model("tiny").eval()
    save_bundle(folder / "bundle", model, create_contract(model, 64))
    return create_predictor(folder / "bundle", version="7")


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory):
    return [p.read_bytes() for p in sorted(create_dataset(tmp_path_factory.mktemp("raw"), n=7).rglob("*.jpg"))]


@pytest.fixture(scope="module")
def line(predictor, jpegs):
    "A request of two pictures as the server captures it."
    pictures = [decode(b, predictor.size) for b in jpegs[:2]]
    return record(predictor, pictures, predictor.predict(pictures), "lesion=L1", "visit-1")


def captured(folder, *lines):
    folder.mkdir(exist_ok=True)
    (folder / "a.jsonl").write_bytes(b"\n".join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines))
    return read_captures(folder)


def as_sagemaker(line, kind, body, answer, accept="application/json", id="from-sagemaker"):
    "The same request as SageMaker captures it."
    sides = dict(
        endpointInput=dict(
            observedContentType=kind, mode="INPUT", data=base64.b64encode(body).decode(), encoding="BASE64"
        ),
        endpointOutput=dict(observedContentType=accept, mode="OUTPUT", data=answer, encoding="JSON"),
    )
    return dict(captureData=sides, eventMetadata=dict(line["eventMetadata"], eventId=id), eventVersion="0")


def test_our_captures_and_sagemakers_say_the_same(line, predictor, jpegs, tmp_path):
    pictures = [decode(b, predictor.size) for b in jpegs[:2]]
    answers = [(str(i), p) for i, p in enumerate(predictor.predict(pictures))]
    body = json.dumps(dict(images=[base64.b64encode(b).decode() for b in jpegs[:2]])).encode()
    forms = {
        "application/json": json.dumps(to_json(answers, predictor.facts, "r")),
        "application/jsonlines": to_lines(answers, predictor.facts, "r"),
        "text/csv": to_csv(answers, predictor.facts, "r"),
        "text/csv; header=absent": to_csv(answers, predictor.facts, "r", header=False),
    }
    others = [as_sagemaker(line, "application/json", body, text, kind, kind) for kind, text in forms.items()]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(x) for x in [line, *others]))
    found = read_captures(tmp_path, size=64)
    assert found.quarantine.empty and found.rows.event_id.value_counts().eq(2).all() and len(found.rows) == 10
    mine, rest = found.rows[:2], found.rows[2:]
    numbers = [*STATISTICS, "confidence", "malignant_probability", *(f"p_{c}" for c in HAM10000.codes)]
    for _, part in rest.groupby("event_id"):
        np.testing.assert_allclose(part[numbers].astype(float), mine[numbers].astype(float), atol=2e-6)
        assert part.predicted.tolist() == mine.predicted.tolist() and part.picture.tolist() == mine.picture.tolist()
    assert set(found.rows.model_version) == {"7"} and set(found.rows.lesion_id) == {"L1"}


def of_lesions(predictor, jpegs, names):
    "A request in which some pictures show one lesion: its body, the pictures, and the answers that the client gets."
    from skin_lesion_mlops.serve.app import _by_lesion

    images = [
        dict(data=base64.b64encode(b).decode(), lesion=n) if n else base64.b64encode(b).decode()
        for b, n in zip(jpegs, names)
    ]
    body = json.dumps(dict(images=images)).encode()
    named = read("application/json", body, predictor.size)
    answered = [replace(p, familiar=i != 1) for i, p in enumerate(predictor.predict([p for _, p in named]))]
    return body, [p for _, p in named], answered, _by_lesion(predictor, named, answered)


def test_an_answer_that_rests_on_several_pictures_counts_once_and_they_all_count(line, predictor, jpegs, tmp_path):
    "Two pictures of a lesion around one of another: three pictures, two answers, in every form of a capture."
    body, pictures, answered, given = of_lesions(predictor, jpegs, ["left", "", "left"])
    assert len(given) == 2
    described = [
        (
            n,
            replace(
                p, pictures=[(m, replace(q, image=describe_pictures([pictures[int(m)]])[0])) for m, q in p.pictures]
            ),
        )
        for n, p in given
    ]
    described[1] = (described[1][0], replace(given[1][1], image=describe_pictures([pictures[1]])[0]))
    forms = {
        "application/json": json.dumps(to_json(given, predictor.facts, "r")),
        "application/jsonlines": to_lines(given, predictor.facts, "r"),
        "text/csv": to_csv(given, predictor.facts, "r"),
    }
    lines = [as_sagemaker(line, "application/json", body, text, kind, kind) for kind, text in forms.items()]
    ours = record(predictor, pictures, answered, inference="visit-2")
    ours["eventMetadata"]["eventId"] = "ours"
    silent = as_sagemaker(
        line, "application/json", body, json.dumps(to_json(described, predictor.facts, "r")), id="answer"
    )
    del silent["captureData"]["endpointInput"]
    captured(tmp_path / "c", *lines, ours, silent)
    found = read_captures(tmp_path / "c", size=predictor.size)
    assert found.quarantine.empty and found.rows.groupby("event_id").size().eq(3).all() and len(found.rows) == 15
    for event, part in found.rows.groupby("event_id"):
        if event != "answer":  # which names no order
            assert part.image.tolist() == [0, 1, 2] and part.answer.tolist() == [0, 1, 0]
            assert part["first"].tolist() == [True, True, False]
            assert part.out_of_distribution.tolist() == [False, True, False]
        assert part["first"].sum() == 2 and part.picture.nunique() == 3
        assert part.brightness.sum() == pytest.approx(found.rows.brightness[:3].sum())
        assert part.confidence.nunique() == 2 and lesion_ids(part.assign(lesion_id="")).nunique() == 2
    columns = wanted_columns("model_quality", HAM10000)
    answers_alone = read_captures(tmp_path / "c", columns=columns).rows
    assert answers_alone.groupby("event_id").answer.apply(list).map(lambda a: a == [0, 1]).all()
    assert set(answers_alone.image[answers_alone.event_id != "answer"]) == {0, 1} and answers_alone["first"].all()
    assert len(estimate(found.rows)) and estimate(found.rows) == estimate(answers_alone)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.csv").write_text("inference_id,image,dx\nvisit-2,0,mel\nvisit-2,1,nv\n")
    for rows in (found.rows, answers_alone):
        joined = join_labels(rows, read_labels(tmp_path / "labels").rows)
        assert joined.dx.tolist() == ["mel", "nv"] and set(joined.event_id) == {"ours"}


@pytest.mark.parametrize(
    "asked, told, text",
    [
        ("ISIC_1", "ISIC_1.jpg", "image_id,dx\n{},mel\n"),
        ("ISIC_1.JPG", "ISIC_1", "image_id,dx\n{},mel\n"),
        ("ISIC_1", "ISIC_1", "image,dx\n{},mel\n"),
        ("ISIC_1", "ISIC_1.jpg", "image,MEL,NV\n{},1,0\n"),
    ],
)
def test_a_picture_and_its_diagnosis_meet_by_the_name_of_its_file(tmp_path, asked, told, text):
    (tmp_path / "a.csv").write_text(text.format(told))
    answers = pd.DataFrame(dict(inference_id=[asked, "ISIC_2"], event_id=["e1", "e2"], image=0, lesion_id=""))
    labels = read_labels(tmp_path)
    joined = join_labels(answers, labels.rows)
    assert labels.quarantine.empty and joined.event_id.tolist() == ["e1"] and joined.dx.tolist() == ["mel"]


def test_every_picture_of_a_lesion_is_tested_for_drift_and_its_answer_once(pool):
    then, now = pool(900, 0), pool(300, 1)
    first = np.arange(len(now)) % 3 == 0
    lesions = dict(event_id=[f"e{i // 3}" for i in range(len(now))], answer=0, first=first)
    rows = now.assign(**lesions, predicted=np.where(first, now.predicted, "vasc"))
    finding = check_data(rows, ground(then))
    assert finding.status == "Completed" and finding.metrics["CapturedImages"] == 300
    counts = {f["name"]: f for f in finding.files[Files.STATISTICS]["features"]}
    assert counts["brightness"]["numerical_statistics"]["common"]["num_present"] == 300
    assert counts["predicted"]["string_statistics"]["common"]["num_present"] == 100
    dark = rows.assign(brightness=rows.brightness.where(first, 0.0))  # the second and third pictures
    assert "brightness" in {v["feature_name"] for v in check_data(dark, ground(then)).violations}
    assert "predicted" in {v["feature_name"] for v in check_data(rows.assign(first=True), ground(then)).violations}


@given(data=st.data())
def test_no_line_is_lost(data, line, tmp_path_factory):
    "Whatever becomes of a line, it is a row or in quarantine."
    text = bytearray(json.dumps(line).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        i = data.draw(st.integers(0, len(text) - 1))
        text[i : i + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=4)).replace(b"\n", b" ")
    found = captured(tmp_path_factory.mktemp("fuzz"), bytes(text) or b"{", dict(line, eventVersion="1"))
    lines = found.rows.event_id.nunique() + len(found.quarantine)
    assert lines == 2 and found.quarantine.reason.notna().all()


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda x: x.pop("captureData"), "no_output"),
        (lambda x: x["captureData"].pop("endpointInput"), "no_input"),
        (lambda x: x.pop("eventMetadata"), "not_a_record"),
        (lambda x: x["eventMetadata"].update(inferenceTime="yesterday"), "bad_time"),
        (lambda x: x["captureData"]["endpointOutput"].update(encoding="BASE64"), "not_base64"),
        (lambda x: x["captureData"]["endpointOutput"].update(data='{"predictions": []}'), "mismatch"),
        (lambda x: x["captureData"]["endpointOutput"].update(data='{"error": "busy"}'), "bad_answer"),
        (
            lambda x: x["captureData"]["endpointOutput"].update(
                data=x["captureData"]["endpointOutput"]["data"].replace('"nv":0', '"nv":7')
            ),
            "bad_answer",
        ),
    ],
)
def test_a_bad_line_has_its_reason(change, reason, line, tmp_path):
    bad = json.loads(json.dumps(line))
    change(bad)
    found = captured(tmp_path / "c", bad)
    assert found.rows.empty and found.quarantine.reason.tolist() == [reason]


def test_what_labels_lack_is_said(line, tmp_path):
    rows, labels = captured(tmp_path / "c", line).rows, tmp_path / "labels"
    labels.mkdir()
    tables = {"e.g. 'X1' (captured ones are called e.g. 'visit-1' and its lesion 'L1')": "inference_id,dx\nX1,nv\n"}
    tables["a.csv has no column of diagnoses: name one of its columns dx"] = "inference_id,result\nvisit-1,nv\n"
    tables["a column inference_id, image_id or lesion_id does that"] = "row,dx\n17,nv\n"
    tables["unknown diagnosis 'gremlin'"] = "inference_id,dx\nvisit-1,gremlin\n"
    for expected, text in tables.items():
        (labels / "a.csv").write_text(text)
        found = read_labels(labels)
        joined = join_labels(rows, found.rows)
        said = on_labels(joined, unmatched(found.rows, joined, NOON, 0), NOON, 0, found.quarantine, rows)
        assert len(said) == 1 and expected in said[0]
    (labels / "a.csv").write_text("inference_id,dx,date\nvisit-1,nv,2099-01-01\n")
    assert read_labels(labels).rows.arrived[0] <= pd.Timestamp.now("UTC")  # no diagnosis is younger than its file
    with pytest.raises(SkinLesionError, match="there is no folder"):
        read_labels("")  # and not whatever lies in the current one


def test_a_file_that_is_being_written_counts_as_far_as_it_is_complete(line, tmp_path):
    capture = Capture(tmp_path)
    capture.write(line)
    (part,) = tmp_path.glob(".*.part")
    with open(part, "ab") as f:
        f.write(json.dumps(line).encode()[:100])
    found = read_captures(tmp_path)
    assert len(found.rows) == 2 and found.quarantine.empty


def test_a_packed_file_is_read_and_one_that_breaks_off_as_far_as_it_goes(line, tmp_path):
    many = [
        json.dumps(dict(line, eventMetadata=dict(line["eventMetadata"], eventId=os.urandom(5000).hex())))
        for i in range(20)
    ]
    whole = gzip.compress("\n".join(many).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(whole)
    found = read_captures(tmp_path)
    assert len(found.rows) == 40 and found.quarantine.empty
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) * 2 // 3])
    part = read_captures(tmp_path)
    assert 0 < len(part.rows) < 40 and part.quarantine.reason.tolist()[0] == "bad_file"
    (tmp_path / "a.jsonl.gz").write_bytes(b"no gzip")
    assert read_captures(tmp_path).quarantine.reason.tolist() == ["bad_file"]
    assert find_pixels(tmp_path, found.rows) == {}


def test_an_empty_window_says_why(line, tmp_path):
    def said(folder, since=None, until=None):
        return on_captures(folder, read_captures(folder, since, until))

    (tmp_path / "none").mkdir()
    (said_of_none,) = said(tmp_path / "none")
    assert "holds no captures" in said_of_none
    hour = tmp_path / "c" / "2026" / "01" / "31" / "11"
    hour.mkdir(parents=True)
    (hour / "a.jsonl").write_text(json.dumps(line))
    (elsewhen,) = said(tmp_path / "c", NOON + pd.Timedelta(days=400), NOON + pd.Timedelta(days=401))
    assert "No request of this window is in the 1 files" in elsewhen and "2026-01-31 11 h" in elsewhen
    assert said(tmp_path / "c") == []
    (hour / "b.jsonl").write_text(json.dumps(line))
    assert said(tmp_path / "c") == ["1 records were delivered more than once and count once."]


@pytest.mark.parametrize("text", ["31.01.2026", "05/11/2026", "noon", "2026-13-01"])
def test_a_window_ends_at_a_time_that_cannot_be_misread(text):
    with pytest.raises(SkinLesionError, match="the end of the window is"):
        window_end(text)
    same = ("2026-01-31T12:00", "2026-01-31T12:00Z", "2026-01-31 14:00+02:00")
    assert {window_end(t) for t in same} == {NOON} and abs(window_end("") - pd.Timestamp.now("UTC")).seconds < 60


def test_only_the_windows_files_and_the_wanted_columns_are_read(line, tmp_path, monkeypatch):
    event = dict(line["eventMetadata"], inferenceTime="2026-01-31T11:30:00Z")
    for hour, id in (("08", "e-08"), ("11", "e-11"), ("13", "e-13")):
        folder = tmp_path / "2026" / "01" / "31" / hour
        folder.mkdir(parents=True)
        lines = [json.dumps(dict(line, eventMetadata=dict(event, eventId=id)))] * 2
        (folder / "a.jsonl").write_text("\n".join(lines))
    parsed, parse = [], json.loads
    monkeypatch.setattr(json, "loads", lambda text, **more: parsed.append(text) or parse(text, **more))
    columns = wanted_columns("model_quality", HAM10000)
    found = read_captures(tmp_path, NOON - pd.Timedelta(hours=1), NOON, columns=columns)
    assert found.rows.event_id.tolist() == ["e-11"] * 2 and list(found.rows) == columns
    assert found.quarantine[["file", "line", "reason"]].values.tolist() == [["2026/01/31/11/a.jsonl", 2, "repeated"]]
    assert parsed and '"embedding":[' in line["captureData"]["endpointInput"]["data"]
    assert not any("embedding" in t and "0." in t.split("embedding")[1][:20] for t in parsed)
    assert not any("e-08" in t or "e-13" in t for t in parsed)


def test_two_processes_read_what_one_reads(line, tmp_path, monkeypatch):
    for i in range(3):
        event = dict(line["eventMetadata"], eventId=f"e{i}")
        (tmp_path / f"{i}.jsonl").write_text(json.dumps(dict(line, eventMetadata=event)) + "\n{\n")
    alone = read_captures(tmp_path)
    monkeypatch.setattr(captures, "_ALONE", 0)
    monkeypatch.setattr(captures, "cpus", lambda: 2)
    both = read_captures(tmp_path)
    pd.testing.assert_frame_equal(alone.rows, both.rows)
    pd.testing.assert_frame_equal(alone.quarantine, both.quarantine)
    assert len(both.rows) == 6 and len(both.quarantine) == 3


def test_gaps_are_gaps_and_do_not_cost_the_row(line, tmp_path):
    gap = json.loads(json.dumps(line))
    side = gap["captureData"]["endpointInput"]
    seen = json.loads(side["data"])
    seen["images"][0]["statistics"].update(brightness=None, contrast="high")
    del seen["images"][1]["statistics"]["sharpness"]
    side["data"] = json.dumps(seen)
    rows = captured(tmp_path / "c", gap).rows
    assert rows[["brightness", "contrast", "sharpness"]].isna().sum().tolist() == [1, 1, 1] and len(rows) == 2


def test_labels_join_by_inference_id_then_event_id_then_lesion(line, tmp_path):
    anonymous = json.loads(json.dumps(line))
    anonymous["eventMetadata"].update(eventId="e-2")
    del anonymous["eventMetadata"]["inferenceId"]
    rows = captured(tmp_path / "c", line, anonymous).rows
    event = line["eventMetadata"]["eventId"]
    labels = tmp_path / "labels"
    labels.mkdir()

    def truth(id, dx):
        return json.dumps(dict(groundTruthData=dict(data=dx, encoding="CSV"), eventMetadata=dict(eventId=id)))

    # an event id does not count where there is an inference id; two pictures have two labels
    (labels / "1.jsonl").write_text("\n".join([truth("visit-1", "mel,nv"), truth(event, "df,df"), truth("e-2", "bcc")]))
    joined = join_labels(rows, read_labels(labels).rows)
    assert joined.dx.tolist() == ["mel", "nv", "bcc"]
    (labels / "2.csv").write_text("lesion_id,dx,sex,age,localization\nL1,akiec,male,61,back\n")
    (labels / "3.csv").write_text("inference_id,dx\nvisit-1,vasc\n")
    found = read_labels(labels)
    joined = join_labels(rows, found.rows)
    assert joined.dx.tolist() == ["vasc", "nv", "bcc", "akiec"] and found.quarantine.reason.tolist() == ["superseded"]
    assert joined.age.tolist()[-1] == 61 and joined.sex.tolist()[-1] == "male"


@pytest.mark.parametrize(
    "name, data",
    [
        ("excel.csv", "inference_id;dx;sex\r\nvisit-1;Mélanome;w\r\nvisit-1;mel;w\r\n".encode("cp1252")),
        ("tabs.tsv", "Inference ID\tDiagnosis\tSex\nvisit-1\tMelanoma\tweiblich\n".encode("utf-16")),
        ("hot.csv", b"image_id,MEL,NV,Gender\nvisit-1,1.0,0.0,f\n"),
        ("marked.csv", b"\xef\xbb\xbfsep=;\nevent id;histology;gender\nvisit-1;melanoma;Female\n"),
    ],
)
def test_labels_are_read_as_clinics_send_them(name, data, tmp_path):
    (tmp_path / name).write_bytes(data)
    (tmp_path / "notes.xlsx").write_bytes(b"PK\3\4")
    (tmp_path / "scan.csv").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "empty.csv").write_bytes(b"")
    found = read_labels(tmp_path)
    assert found.rows[["id", "dx", "sex"]].values.tolist() == [["visit-1", "mel", "female"]]
    bad = found.quarantine[found.quarantine.reason == "bad_file"]
    assert sorted(bad.file) == ["empty.csv", "notes.xlsx", "scan.csv"]


def test_labels_that_match_nothing_are_counted_and_late_truth_counts(line, tmp_path):
    rows = captured(tmp_path / "c", line).rows.assign(time=NOON - pd.Timedelta(days=45))
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "a.csv").write_text(
        "inference_id,dx,date\nvisit-1,mel,2026-01-30\nIMG_7,nv,30.01.2026\nIMG_8,nv,2025-06-01\n"
    )
    found = read_labels(labels).rows
    joined = join_labels(rows, found)
    judged, lost = recent(joined, NOON, 720), unmatched(found, joined, NOON, 720)
    assert judged.dx.tolist() == ["mel"] and recent(joined.assign(arrived=joined.time), NOON, 720).empty
    assert lost.detail.tolist() == ["no captured answer is called IMG_7"] and lost.line.tolist() == [3]
    assert [s.split(" ")[0] for s in on_labels(judged, lost, NOON, 720)] == ["1", "1"]
    with pytest.raises(SkinLesionError, match="there is no folder"):
        read_labels(tmp_path / "nowhere")


# ---- Drift


@pytest.fixture(scope="module")
def pool():
    "Statistics of eleven correlated features, as many as wanted."
    rng = np.random.default_rng(1)
    mix = rng.normal(size=(len(STATISTICS), len(STATISTICS))) * 0.1

    def draw(n, seed):
        x = 0.5 + np.random.default_rng(seed).normal(size=(n, len(STATISTICS))) @ mix
        rows = pd.DataFrame(x, columns=STATISTICS)
        r = np.random.default_rng(seed + 10**6)
        rows["predicted"] = r.choice(HAM10000.codes, n, p=(0.03, 0.05, 0.11, 0.02, 0.12, 0.65, 0.02))
        ids = dict(picture=0, lesion_id="", inference_id="", event_id=[str(i) for i in range(n)], image=0)
        return rows.assign(confidence=r.beta(8, 2, n), out_of_distribution=r.random(n) < 0.03, **ids)

    return draw


def ground(rows):
    statistics = dataset_statistics(rows[list(DRIFT_FEATURES)])
    return Baseline({f["name"]: f for f in statistics["features"]}, suggest_constraints(statistics))


@pytest.mark.parametrize("n, m", [(100, 50), (150, 2048), (1000, 700)])
def test_ks_is_scipys(n, m):
    rng = np.random.default_rng(n)
    x, y = rng.normal(0.1, 1, n), rng.normal(size=m).round(2)  # ties, too
    theirs = ks_2samp(y, x, method="asymp")
    assert ks_test(x, sketch(y), m) == pytest.approx((theirs.statistic, theirs.pvalue))


def test_ks_against_a_large_sketch_is_close_to_scipys():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.1, 1, 400), rng.normal(size=20_000)
    theirs = ks_2samp(y, x, method="asymp")
    assert ks_test(x, sketch(y), len(y))[0] == pytest.approx(theirs.statistic, abs=0.004)


def test_psi_is_the_textbooks():
    rng = np.random.default_rng(0)
    then, now = rng.normal(size=2000), rng.normal(0.5, 1, 20_000)
    edges = np.quantile(then, np.arange(1, 10) / 10)
    a, b = (np.bincount(np.searchsorted(edges, x), minlength=10) / len(x) for x in (then, now))
    assert psi(now, sketch(then)) == pytest.approx(((b - a) * np.log(b / a)).sum(), rel=0.02)


def test_holm_is_between_the_plain_and_bonferroni():
    p = np.array([0.001, 0.02, 0.03, 0.4])
    assert (holm_adjusted(p) >= p).all() and (holm_adjusted(p) <= np.minimum(1, 4 * p)).all()
    assert holm_adjusted([np.nan, np.nan]).shape == (2,) and np.isnan(holm_adjusted([np.nan])).all()


def test_holm_is_statsmodels(monkeypatch):
    "Ties and the ends of the range included; what was not tested does not count."
    monkeypatch.setattr("gc.collect", lambda: 0)  # statsmodels collects in each call, which takes half a second here
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = (rng.random(rng.integers(1, 13)) ** 3).round(int(rng.integers(1, 6)))
        tested = rng.random(len(p)) < 0.8
        found = holm_adjusted(np.where(tested, p, np.nan))
        assert np.isnan(found[~tested]).all()
        if tested.any():
            np.testing.assert_allclose(found[tested], multipletests(p[tested], method="holm")[1], rtol=1e-12)


def test_false_alarms_are_as_rare_as_promised(monkeypatch):
    "Without drift, 1,000 windows of 100 pictures and 12 features: Holm at 5 % and at the monitor's own level."
    exact = lru_cache(None)(kstwo.sf)  # 12,000 distances, few of them different: multiples of a 600th, but for rounding
    monkeypatch.setattr(drift, "kstwo", SimpleNamespace(sf=lambda distance, n: exact(round(distance, 12), n)))
    rng = np.random.default_rng(2)
    worst = []
    for _ in range(20):
        base = rng.normal(size=(12, 600))
        sketches = [sketch(b) for b in base]
        for window in rng.normal(size=(50, 12, 100)):
            p = [ks_test(w, s, 600)[1] for w, s in zip(window, sketches)]
            p += [range_test(w, b.min(), b.max(), 600)[1] for w, b in zip(window, base)]
            worst.append(np.nanmin(holm_adjusted(p)))
    rates = {alpha: float(np.mean(np.array(worst) <= alpha)) for alpha in (0.05, ALPHA)}
    assert rates[0.05] <= 0.05 + 4 * (0.05 * 0.95 / 1000) ** 0.5, rates
    assert rates[ALPHA] <= ALPHA + 4 * (ALPHA / 1000) ** 0.5, rates


def test_mixtures_without_change_raise_no_alarm():
    rng = np.random.default_rng(3)
    share = (0.03, 0.05, 0.11, 0.02, 0.12, 0.65, 0.02)
    draws = rng.multinomial(150, share, 2000), rng.multinomial(1500, share, 2000)
    p = [
        mixture_test(dict(zip(HAM10000.codes, a)), dict(zip(HAM10000.codes, b)))[1]
        for a, b in zip(*map(np.ndarray.tolist, draws))
    ]
    assert 0.03 <= np.mean(np.array(p) <= 0.05) <= 0.07


def test_no_drift_no_alarm_and_drift_an_alarm(pool):
    baseline = ground(pool(1500, 0))
    quiet = [check_data(pool(150, s), baseline).metrics["DataDriftViolations"] for s in range(1, 41)]
    assert sum(quiet) <= 1
    shifted = pool(150, 99).assign(brightness=lambda t: t.brightness + t.brightness.std())
    found = check_data(shifted, baseline)
    assert found.status == "CompletedWithViolations" and found.metrics["DataDriftViolations"] == 1
    assert [v["feature_name"] for v in found.violations] == ["brightness"]
    other = pool(150, 98).assign(predicted=lambda t: t.predicted.where(t.index % 2 == 0, "mel"))
    assert [v["feature_name"] for v in check_data(other, baseline).violations] == ["predicted"]
    cats = pool(150, 97).assign(out_of_distribution=lambda t: t.index % 3 == 0)
    assert [v["feature_name"] for v in check_data(cats, baseline).violations] == ["out_of_distribution"]


def test_odd_pictures_are_compared_with_the_models_own_rate(pool):
    "5 of 100 requests are of cats; a model that calls 3 of 100 test images odd notices, one that calls 12 does not."
    known, rows = ground(pool(1500, 0)), pool(1000, 96)
    cats = rows.assign(out_of_distribution=rows.out_of_distribution | (rows.index % 20 == 0))

    def odd(rows, withheld):
        counts = dict(clinic=dict(refusals=[dict(of="all", images=1500, withheld=withheld)]))
        return "out_of_distribution" in str(check_data(rows, replace(known, evaluation=counts)).violations)

    assert odd(cats, 45) and not odd(rows, 45) and not odd(cats, 180)
    assert "out_of_distribution" not in str(check_data(cats, known).violations)  # nobody counted at approval


def test_a_p_value_is_never_zero():
    assert [p_text(p) for p in (0.0, 0.0009, 0.0213)] == ["p < 0.001", "p < 0.001", "p = 0.021"]


def test_real_dermoscopy_is_quiet_and_a_weak_lamp_is_not(ham10000):
    table = pd.read_csv(ham10000 / "HAM10000_metadata.csv")
    lesions = table.lesion_id.drop_duplicates().sample(900, random_state=0).tolist()
    files = {p.stem: p for p in ham10000.rglob("*.jpg")}
    pixels, shown = [], []
    for lesion, ids in table[table.lesion_id.isin(lesions)].groupby("lesion_id").image_id:
        pixels += [read_pixels(files[i], 64) for i in ids]
        shown += [lesion] * len(ids)
    x, shown = np.stack(pixels), np.array(shown)
    now = np.isin(shown, lesions[:250])
    ids = dict(picture=0, inference_id="", event_id=range(now.sum()), image=0, lesion_id=shown[now])
    said = dict(confidence=0.8, predicted="nv", out_of_distribution=False)
    statistics = dataset_statistics(image_statistics(x[~now]))
    baseline = Baseline({f["name"]: f for f in statistics["features"]}, suggest_constraints(statistics))
    quiet = drift_tests(image_statistics(x[now]).assign(**said, **ids), baseline)
    assert not quiet.drift.any()
    dark = drift_tests(image_statistics((x[now] * 0.9).astype(np.uint8)).assign(**said, **ids), baseline)
    assert "brightness" in set(dark.feature[dark.drift])


def test_a_difference_too_small_to_matter_is_none(pool):
    baseline = ground(pool(20_000, 0))
    slightly = pool(20_000, 5).assign(brightness=lambda t: t.brightness + 0.1 * t.brightness.std())
    t = drift_tests(slightly, baseline)
    row = t[(t.feature == "brightness") & (t.test == "distribution")].iloc[0]
    assert row.p_adjusted < 1e-6 and not row.drift


def test_some_black_pictures_among_many_are_found(pool):
    rows = pool(150, 4)
    rows.loc[:5, "brightness"] = -5.0
    (found,) = check_data(rows, ground(pool(1500, 0))).violations
    assert found["feature_name"] == "brightness" and "outside the range" in found["description"]


def test_one_picture_sent_often_is_one_picture(pool):
    rows = pool(150, 6).assign(picture=range(1, 151))
    again = pd.concat([rows, *[rows[:1]] * 200], ignore_index=True)
    found = check_data(again, ground(pool(1500, 0)))
    assert found.metrics["DataDriftViolations"] == 0 and found.metrics["CapturedImages"] == 350


def test_photographs_of_one_lesion_are_not_independent(pool):
    baseline = ground(pool(1500, 0))
    quiet = [pd.concat([pool(40, s)] * 5).assign(event_id=range(200)) for s in range(200, 230)]
    named = [q.assign(lesion_id=[f"L{i % 40}" for i in range(200)]) for q in quiet]
    alarms = [[(drift_tests(w, baseline).p_adjusted <= 0.05).any() for w in windows] for windows in (quiet, named)]
    assert sum(alarms[0]) > 10 and sum(alarms[1]) <= 5


def test_gaps_are_violations_but_do_not_start_a_retraining(pool):
    rows = pool(150, 7)
    rows.loc[:9, "contrast"] = np.nan
    rows["sharpness"] = np.nan
    found = check_data(rows, ground(pool(1500, 0)), unreadable=5)
    kinds = {v["feature_name"]: v["constraint_check_type"] for v in found.violations}
    assert kinds == dict(contrast="completeness_check", sharpness="missing_column_check", record="data_type_check")
    assert found.metrics["DataDriftViolations"] == 0 and found.metrics["CompletenessViolations"] == 3


def test_without_statistics_of_the_training_images_nothing_is_said_of_pictures(pool):
    found = check_data(pool(150, 3), Baseline(evaluation=dict(trained_on="pictures")))
    assert found.status == "NotEnoughData" and "cannot be said" in found.conclusion[0]
    assert "DataDriftViolations" not in found.metrics


def test_what_came_twice_is_no_violation(stage, tmp_path):
    (file,) = (stage / "capture").rglob("*.jsonl")
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_bytes(file.read_bytes())
    _, out = report(stage, "twice", captures=str(tmp_path))
    found = read_json(out / "files" / Files.FINDING)
    assert found["metrics"]["CompletenessViolations"] == 0 and "120 records were delivered" in str(found["conclusion"])


def test_too_few_pictures_say_nothing(pool):
    shifted = pool(60, 8).assign(brightness=9.0)
    found = check_data(shifted, ground(pool(1500, 0)))
    assert found.status == "NotEnoughData" and "DataDriftViolations" not in found.metrics


# ---- Model quality


def answers(n, skill=2.2, seed=0, **more):
    p = simulate(n, skill, seed=seed)
    t = pd.DataFrame(p.probabilities, columns=[f"p_{c}" for c in HAM10000.codes])
    ids = dict(event_id=[f"e{i}" for i in range(len(p))], inference_id="", image=0)
    ids["lesion_id"] = [f"L{i}" for i in p.lesions]
    truth = dict(dx=[HAM10000.codes[i] for i in p.labels], sex="unknown", age=np.nan, localization="unknown")
    return t.assign(threshold=p.threshold, flagged=p.flagged, **ids, **truth, **more)


@pytest.fixture(scope="module")
def approved():
    "An evaluation.json, as the evaluate step writes it."
    from skin_lesion_mlops.evaluation.card import evaluation_json
    from skin_lesion_mlops.evaluation.conclusion import evaluate

    p = simulate(1500, seed=9)
    rows = pd.DataFrame(dict(sex="unknown", age=np.nan, localization="unknown"), index=range(len(p)))
    return Baseline(evaluation=evaluation_json(evaluate(p, rows, dict(accuracy=0.5), bootstrap=100), {}, {}))


def test_accuracy_drop_is_published_when_it_is_more_than_chance(approved):
    worse = check_quality(answers(500, 1.3), approved)
    assert worse.metrics["AccuracyDrop"] > 0.1 and "accuracy" in {v["metric_name"] for v in worse.violations}
    steady = [check_quality(answers(150, seed=s), approved, bootstrap=60) for s in range(20)]
    assert all(f.metrics["AccuracyDrop"] <= 0.05 and "accuracy" not in str(f.violations) for f in steady)


def overlooked(joined, every=2):
    "The same answers, with every second malignant lesion taken for harmless, as under hair."
    hidden = joined.dx.isin(HAM10000.malignant) & (np.arange(len(joined)) % every == 0)
    p, bad = ([f"p_{c}" for c in codes] for codes in (HAM10000.codes, HAM10000.malignant))
    t = joined.copy()
    t.loc[hidden, bad] *= 0.02
    t[p] = t[p].div(t[p].sum(axis=1), axis=0)
    return t.assign(flagged=t[bad].sum(axis=1) >= t.threshold)


def test_a_fall_of_sensitivity_is_published_though_accuracy_stands(approved):
    found = check_quality(overlooked(answers(300, seed=2)), approved)
    sent = found.metrics
    assert sent["AccuracyDrop"] == 0 and sent["SensitivityDrop"] > 0.1
    assert sent["SensitivityDropLow"] < sent["SensitivityDrop"] < sent["SensitivityDropHigh"]
    assert sent["MalignantSensitivity"] == pytest.approx(
        found.table.then["malignant_sensitivity"] - sent["SensitivityDrop"]
    )
    assert "malignant_sensitivity" in {v["metric_name"] for v in found.violations}
    steady = [check_quality(answers(150, seed=s), approved, bootstrap=60).metrics for s in range(20)]
    assert all(m["SensitivityDrop"] == 0 for m in steady if "SensitivityDrop" in m)
    assert any("BalancedAccuracy" in m for m in steady) and not all("BalancedAccuracy" in m for m in steady)


def test_few_malignant_lesions_tell_nothing_about_sensitivity(approved):
    joined = answers(400, seed=4)
    few = joined[~joined.dx.isin(HAM10000.malignant) | joined.lesion_id.isin(joined.lesion_id.unique()[:20])]
    found = check_quality(few.reset_index(drop=True), approved, bootstrap=60)
    assert "Accuracy" in found.metrics and not [m for m in found.metrics if "Sensitivity" in m]
    assert any("too few to say how many are missed" in s for s in found.conclusion)


def test_sets_that_hold_the_truth_less_often_than_promised_are_a_violation(approved):
    fitted = simulate(3000, seed=12)
    limits = fit_conformal(fitted.probabilities, fitted.labels, fitted.lesions)
    assert "names no prediction sets" in check_quality(answers(300), approved, bootstrap=60).conclusion[-1]
    promising = Baseline(evaluation=dict(approved.evaluation, conformal=dict(limits, pooled=[["df", "vasc"]])))
    steady = [check_quality(answers(400, seed=s), promising, bootstrap=60) for s in range(20)]
    assert not [v for f in steady for v in f.violations if v["metric_name"].startswith("coverage")]
    assert all(f.metrics["CoverageDrop"] == 0 for f in steady)
    named = {n for f in steady for n in f.table.index if n.startswith("coverage")}
    assert {"coverage.nv", "coverage.mel", "coverage.df+vasc"} <= named and "coverage.df" not in named
    # what the answers said counts: the same probabilities, with sets that leave out every fifth melanoma
    joined = answers(1500, seed=4)
    sets = prediction_sets(joined[[f"p_{c}" for c in HAM10000.codes]].to_numpy(), limits)
    said = [" ".join(c for c, h in zip(HAM10000.codes, row) if h) for row in sets]
    every = joined.assign(prediction_set=said, out_of_distribution=False)
    known = check_quality(every, promising, bootstrap=60)
    assert known.metrics["CoverageDrop"] == 0
    assert known.table.now.to_dict() == check_quality(joined, promising, bootstrap=60).table.now.to_dict()
    lost = (joined.dx == "mel") & (np.arange(len(joined)) % 5 == 0)
    broken = check_quality(every.assign(prediction_set=every.prediction_set.mask(lost, "nv")), promising, bootstrap=60)
    assert {v["metric_name"] for v in broken.violations} == {"coverage.mel"}
    assert broken.metrics["CoverageDrop"] == pytest.approx(0.95 - broken.table.now["coverage.mel"])
    assert "0.9500 promised" in broken.violations[0]["description"] and broken.metrics["AccuracyDrop"] == 0
    withheld = every.assign(prediction_set=every.prediction_set.mask(lost, "nv"), out_of_distribution=lost)
    assert check_quality(withheld, promising, bootstrap=60).metrics["CoverageDrop"] == 0


def test_the_sets_of_a_site_are_judged_by_the_limits_that_were_fitted_there(approved):
    "90 of 100 where 95 are promised: more than chance for limits of 2,000 lesions, and not for those of 60."
    limits = dict(coverage=0.95, at_least=[0.1] * 7, pooled=[])
    home = Baseline(evaluation=dict(approved.evaluation, conformal=dict(limits, lesions=[2000] * 7)))
    there = dict(lineage=dict(site="lakeside"), transfer=dict(recalibrated=True))
    site = Baseline(evaluation=dict(approved.evaluation, **there, conformal=dict(limits, lesions=[60] * 7)))
    joined = answers(900, seed=4).drop_duplicates("lesion_id")
    joined = joined[joined.dx.isin(["nv", "mel"])].assign(out_of_distribution=False).reset_index(drop=True)
    joined["prediction_set"] = joined.dx.mask(np.arange(len(joined)) % 10 == 0, "df")

    def judged(baseline, name):
        return check_quality(joined.assign(site=name), baseline, bootstrap=60)

    assert {v["metric_name"] for v in judged(home, "").violations} >= {"coverage.nv"}
    of_site = judged(site, "lakeside")
    assert "coverage.nv" in of_site.table.index and of_site.metrics["CoverageDrop"] == 0
    assert judged(site, None).table.now["coverage.nv"] == of_site.table.now["coverage.nv"]  # CSV does not name a site
    for baseline, name in ((home, "lakeside"), (site, ""), (site, "hillside")):
        other = judged(baseline, name)
        assert "CoverageDrop" not in other.metrics and "accuracy" in other.table.index
        assert (
            "coverage of their prediction sets is not judged"
            in on_site(joined.assign(site=name), baseline.evaluation)[0]
        )


def test_captures_name_the_site(line, jpegs, tmp_path):
    def at(**model):
        output = json.loads(line["captureData"]["endpointOutput"]["data"])
        told = dict(line["captureData"]["endpointOutput"], data=json.dumps(dict(output, model=model)))
        return dict(line, captureData=dict(line["captureData"], endpointOutput=told))

    for i, (model, name) in enumerate([(dict(site="lakeside"), "lakeside"), (dict(site=""), ""), (dict(), None)]):
        assert captured(tmp_path / str(i), at(**model)).rows.site.unique().tolist() == [name]
    assert all("site" in wanted_columns(k, HAM10000) for k in captures.MONITOR_KINDS)


def test_captures_hold_the_sets_in_every_form(line, jpegs, tmp_path):
    model = create_model("tiny").eval()
    contract = dict(
        create_contract(model, 64), conformal=dict(coverage=0.95, at_least=[0.15] * 7, pooled=[], lesions=[40] * 7)
    )
    save_bundle(tmp_path / "bundle", model, contract)
    p = create_predictor(tmp_path / "bundle", version="7")
    pictures = [decode(b, p.size) for b in jpegs[:2]]
    answered = p.predict(pictures)
    named = [(str(i), replace(a, familiar=True)) for i, a in enumerate(answered)]
    body = json.dumps(dict(images=[base64.b64encode(b).decode() for b in jpegs[:2]])).encode()
    forms = {
        "application/json": json.dumps(to_json(named, p.facts, "r")),
        "application/jsonlines": to_lines(named, p.facts, "r"),
        "text/csv": to_csv(named, p.facts, "r"),
    }
    lines = [as_sagemaker(line, "application/json", body, text, kind, kind) for kind, text in forms.items()]
    rows = captured(tmp_path / "c", *lines).rows
    expected = [" ".join(c for c, v in a.probabilities.items() if v >= 0.15) for _, a in named]
    assert rows.prediction_set.tolist() == expected * 3 and all(expected)
    without = captured(tmp_path / "d", line).rows
    assert without.prediction_set.isna().all()
    assert "prediction_set" in wanted_columns("model_quality", HAM10000)
    assert "prediction_set" not in wanted_columns("data_quality", HAM10000) + wanted_columns("bias", HAM10000)


def test_another_mixture_of_patients_is_no_fall(approved):
    pool = answers(9000, seed=3)
    take = dict(akiec=60, bcc=60, bkl=90, df=10, mel=250, nv=150, vasc=20)
    joined = pd.concat([pool[pool.dx == c].drop_duplicates("lesion_id").head(n) for c, n in take.items()])
    found = check_quality(joined.reset_index(drop=True), approved)
    assert found.table["drop"]["accuracy"] > 0.05 and found.metrics["AccuracyDrop"] <= 0.05


@pytest.mark.parametrize("joined", [answers(40), answers(300).query("dx == 'nv'"), answers(300)[:0]])
def test_not_enough_labels_is_no_verdict(joined, approved):
    found = check_quality(joined.reset_index(drop=True), approved, 999)
    assert found.status == "NotEnoughData" and set(found.metrics) == {"LabelledImages"}


def test_a_baseline_without_evaluation_is_refused(pool):
    with pytest.raises(SkinLesionError, match="evaluation"):
        check_quality(answers(300), ground(pool(200, 0)))


def seen_answers(joined):
    "What a monitor sees before the truth is known."
    p = joined[[f"p_{c}" for c in HAM10000.codes]].to_numpy()
    risk = p[:, [c in HAM10000.malignant for c in HAM10000.codes]].sum(1)
    return joined.drop(columns="dx").assign(confidence=p.max(1), malignant_probability=risk)


def test_an_estimate_is_close_while_its_probabilities_are_right_and_feeds_nothing(tmp_path):
    joined = answers(2000, 1.5, seed=3)
    found = estimate(seen_answers(joined))
    bad = joined.dx.isin(HAM10000.malignant)
    predicted = joined[[f"p_{c}" for c in HAM10000.codes]].idxmax(axis=1).str[2:]
    assert found["accuracy"]["value"] == pytest.approx((predicted == joined.dx).mean(), abs=0.03)
    assert found["malignant_sensitivity"]["value"] == pytest.approx(joined.flagged[bad].mean(), abs=0.05)
    assert found["malignant_specificity"]["value"] == pytest.approx(1 - joined.flagged[~bad].mean(), abs=0.03)
    (said,) = on_estimate(found)
    assert said.startswith("Estimated from its confidence, without diagnoses; no alarm and no gate reads it")
    assert on_estimate(estimate(joined[:0])) == []
    finding = Finding("data_quality", [], pd.DataFrame(), [], dict(CapturedImages=3.0), estimate=found)
    write_finding(tmp_path, finding, pd.DataFrame(), "e", NOON)
    assert read_json(tmp_path / Files.FINDING)["estimate"]["accuracy"]["value"] == found["accuracy"]["value"]
    assert "stimate" not in (tmp_path / Files.CLOUDWATCH).read_text() + str(CLOUDWATCH_METRICS)


def test_the_worst_answers_are_shown_where_captures_hold_their_pictures(predictor, jpegs, tmp_path):
    pictures = [decode(b, predictor.size) for b in jpegs[:3]]
    for kept, folder in ((True, tmp_path / "kept"), (False, tmp_path / "without")):
        capture = Capture(folder)
        capture.write(record(predictor, pictures, predictor.predict(pictures), pixels=kept))
        capture.close()
    rows = read_captures(tmp_path / "kept").rows
    joined = rows.assign(dx=["mel", "nv", "mel"], predicted=["nv", "nv", "nv"], flagged=False)
    joined = joined.assign(malignant_probability=[0.1, 0.1, 0.02], confidence=0.8)
    shown = worst(joined)
    assert shown.image.tolist() == [2, 0] and shown.caption.tolist()[0] == "mel, P(malignant) 2%"
    held = find_pixels(tmp_path / "kept", shown)
    np.testing.assert_array_equal(held[rows.event_id[0], 2], pictures[2].pixels)
    assert sheet(shown, held).size[0] > 100 and not find_pixels(tmp_path / "without", rows)


# ---- Bias


def clinic(n=1500, seed=0, missed=0.0):
    rng = np.random.default_rng(seed)
    t = pd.DataFrame(dict(sex=rng.choice(["female", "male", "unknown"], n), age=rng.integers(20, 90, n).astype(float)))
    ill = rng.random(n) < 0.05 + 0.3 * (t.age > 60)
    flagged = np.where(ill, rng.random(n) < 0.85, rng.random(n) < 0.15)
    flagged &= ~((t.sex == "female") & ill & (rng.random(n) < missed))
    site = rng.choice(["back", "face"], n)
    ids = dict(lesion_id="", inference_id="", event_id=[str(i) for i in range(n)], image=0)
    return t.assign(dx=np.where(ill, "mel", "nv"), flagged=flagged, localization=site, **ids)


def test_clarifys_figures_by_hand():
    flagged = np.array([1, 1, 0, 0, 1, 0, 0, 0], bool)
    malignant = np.array([1, 1, 1, 0, 1, 1, 0, 0], bool)
    group = np.array([0, 0, 0, 0, 1, 1, 1, 1], bool)
    m = facet_metrics(flagged, malignant, group)
    assert m == pytest.approx(dict(DPPL=2 / 4 - 1 / 4, DI=0.5, RD=2 / 3 - 1 / 2, SD=0.0, AD=3 / 4 - 3 / 4))


def test_cmh_agrees_with_permutations():
    rng = np.random.default_rng(0)
    malignant, group = rng.random(300) < 0.4, rng.random(300) < 0.5
    flagged = rng.random(300) < np.where(malignant, 0.7, 0.2) + 0.09 * group

    def excess(g):
        return sum((s & g & flagged).sum() - (s & g).sum() * flagged[s].mean() for s in (malignant, ~malignant))

    shuffled, seen = [], abs(excess(group))
    for _ in range(4000):
        g = group.copy()
        for s in (malignant, ~malignant):
            g[s] = rng.permutation(g[s])
        shuffled.append(abs(excess(g)) >= seen - 1e-9)
    surplus = cochran_mantel_haenszel_test(flagged, malignant, group) - np.mean(shuffled)
    assert -0.02 < surplus < 0.08  # the correction for continuity makes it somewhat cautious, never rash


def test_cmh_is_statsmodels():
    "Small tables, so that rows, columns and whole strata are empty in many of them."
    rng, seen = np.random.default_rng(0), dict.fromkeys(
        ("nothing varies", "no excess", "a stratum is missing", "tested"), 0
    )
    for _ in range(300):
        n = int(rng.choice([3, 12, 60, 400]))
        malignant = rng.random(n) < rng.choice([0.0, 0.1, 0.5, 1.0])
        group, flagged = rng.random(n) < rng.choice([0.1, 0.5]), rng.random(n) < rng.choice([0.1, 0.5, 0.9])
        flagged |= group & (rng.random(n) < rng.choice([0.0, 0.5]))
        found = cochran_mantel_haenszel_test(flagged, malignant, group)
        strata = [s for s in (malignant, ~malignant) if s.sum() > 1]  # statsmodels divides by nothing in others
        tables = np.array([[[(s & g & f).sum() for f in (flagged, ~flagged)] for g in (group, ~group)] for s in strata])
        margins = np.concatenate([tables.sum(1), tables.sum(2)], axis=1)
        excess = (tables[:, 0, 0] - tables[:, 0].sum(1) * tables[:, :, 0].sum(1) / tables.sum((1, 2))).sum()
        seen["a stratum is missing"] += len(strata) < 2
        if not margins.all(1).any():  # where statsmodels divides by nothing, too
            seen["nothing varies"] += 1
            assert math.isnan(found)
        elif abs(excess) < 0.5:  # which statsmodels corrects to beyond zero
            seen["no excess"] += 1
            assert found == 1
        else:
            seen["tested"] += 1
            theirs = StratifiedTable(tables.transpose(1, 2, 0).astype(float)).test_null_odds(correction=True)
            assert found == pytest.approx(theirs.pvalue, rel=1e-9)
    assert min(seen.values()) >= 20, seen


def test_a_fair_model_is_not_accused_because_the_old_are_ill_more_often():
    found = [bias_by_group(clinic(800, s)) for s in range(40)]
    assert max(t.set_index("group").DI["80+"] for t in found) > 1.25
    assert sum((t.biased != "").any() for t in found) <= 2


def test_women_whose_melanomas_are_passed_over_are_noticed():
    found = check_bias(clinic(missed=0.5), Baseline())
    assert {(v["facet"], v["facet_value"]) for v in found.violations if v["metric_name"] == "RD"} >= {("sex", "female")}
    assert "unknown" not in set(found.table.group) and found.metrics["BiasViolations"] == len(found.violations)


def approved_groups(joined):
    "The evaluation.json of a clinic's answers, as far as the bias monitor reads it."
    ill, on = (joined.dx == "mel").to_numpy(), joined.flagged.to_numpy()

    def rates(side):
        values = dict(malignant_sensitivity=on[side & ill].mean(), malignant_specificity=1 - on[side & ~ill].mean())
        return values if (side & ill).sum() >= 10 else dict.fromkeys(values)

    groups = [
        dict(
            attribute=a, group=g, images=int(s.sum()), lesions=int(s.sum()), malignant=int((s & ill).sum()), **rates(s)
        )
        for a, column in dict(sex=joined.sex, site=joined.localization, age=joined.age.map(age_band)).items()
        for g, s in ((g, (column == g).to_numpy()) for g in sorted(set(column)))
    ]
    points = {k: dict(value=v) for k, v in rates(ill | ~ill).items()}
    classes = dict(mel=int(ill.sum()), nv=int((~ill).sum()))
    return Baseline(evaluation=dict(dataset=dict(classes=classes), operating_points=points, subgroups=groups))


def test_a_difference_that_the_approved_model_had_is_told_and_is_no_violation():
    unfair, fair = approved_groups(clinic(2500, 1, missed=0.5)), approved_groups(clinic(2500, 1))
    now = clinic(1500, 2, missed=0.5)
    known, new = check_bias(now, unfair), check_bias(now, fair)
    assert known.violations == [] and known.metrics["BiasViolations"] == 0
    assert "when it was approved" in " ".join(known.conclusion) and "female" in " ".join(known.conclusion)
    assert {v["facet"] for v in new.violations} == {"sex"} and "at approval" in new.violations[0]["description"]
    worse = check_bias(clinic(4000, 2, missed=0.9), unfair)
    assert "female" in {v["facet_value"] for v in worse.violations}
    quiet = [check_bias(clinic(800, s, missed=0.5), unfair).violations for s in range(10, 40)]
    assert sum(map(bool, quiet)) <= 1


def test_small_groups_are_withheld():
    found = check_bias(clinic(60), Baseline())
    small = found.table[found.table.malignant < 10]
    assert len(small) and small.RD.isna().all()


# ---- Files


@pytest.mark.parametrize("kind", VIOLATIONS)
def test_files_have_the_documented_form(kind, pool, approved, tmp_path):
    found = dict(
        data_quality=lambda: check_data(pool(150, 9).assign(brightness=3.0, contrast=np.nan), ground(pool(900, 0)), 9),
        model_quality=lambda: check_quality(answers(500, 1.3), approved),
        bias=lambda: check_bias(clinic(missed=0.5), approved),
    )[kind]()
    nothing = pd.DataFrame(columns=["file", "line", "reason", "detail"])
    write_finding(tmp_path, found, nothing, "skin-lesion-endpoint", NOON)
    written = read_json(tmp_path / Files.VIOLATIONS)
    validate(written, VIOLATIONS[kind])
    assert written["violations"]
    if kind == "data_quality":
        validate(read_json(tmp_path / Files.STATISTICS), STATISTICS_SCHEMA)
        validate(read_json(tmp_path / Files.CONSTRAINTS), CONSTRAINTS_SCHEMA)
    if kind == "model_quality":
        accuracy = read_json(tmp_path / Files.STATISTICS)["multiclass_classification_metrics"]["accuracy"]
        assert accuracy["value"] == found.metrics["Accuracy"] and accuracy["standard_deviation"] > 0
    if kind == "bias":
        validate(read_json(tmp_path / Files.ANALYSIS), ANALYSIS)
    for text in (tmp_path / Files.CLOUDWATCH).read_text().splitlines():
        metric = json.loads(text)
        validate(metric, METRIC)
        assert metric["Unit"] == CLOUDWATCH_METRICS[metric["MetricName"]]
        assert metric["Dimensions"] == [dict(Name=DIMENSION, Value="skin-lesion-endpoint")]


# ---- From the server to the report, and to CloudWatch


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    "A toy model with its baseline, and what it captured while it was served: pictures under a weak lamp."
    torch = pytest.importorskip("torch")
    client = pytest.importorskip("fastapi.testclient")
    from skin_lesion_mlops.serve.admission import Limits
    from skin_lesion_mlops.serve.app import create_app

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("stage")
    model, baseline = create_approved(root, n=210)
    capture = Capture(root / "capture")
    app = create_app(create_predictor(model, version="7"), Limits(), capture=capture)
    table = pd.read_csv(next(create_dataset(root / "clinic", 120, 5, size=(120, 90)).rglob("*metadata.csv")))
    files = {p.stem: p for p in (root / "clinic").rglob("*.jpg")}
    with client.TestClient(app) as c:
        for id in table.image_id:
            dark, out = np.asarray(Image.open(files[id]), float) * 0.8, io.BytesIO()
            Image.fromarray(dark.astype(np.uint8)).save(out, "JPEG", quality=95)
            headers = {"Content-Type": "image/jpeg", "X-Amzn-SageMaker-Inference-Id": id}
            assert c.post("/invocations", content=out.getvalue(), headers=headers).status_code == 200
    (root / "labels").mkdir()
    table.rename(columns=dict(image_id="inference_id")).to_csv(root / "labels" / "known.csv", index=False)
    return root


def report(stage, name, **more):
    "Run the step."
    given = dict(captures=str(stage / "capture"), input_baseline=str(stage / "baseline"))
    out = stage / name
    receipt = launch("monitor", out, {**given, "output_monitor": str(out / "files"), **more})
    return receipt, out


def test_what_the_server_captured_is_found_to_have_drifted(stage):
    receipt, out = report(stage, "drift")
    found = read_json(out / "files" / Files.FINDING)
    drifted = {v["feature_name"] for v in read_json(out / "files" / Files.VIOLATIONS)["violations"]}
    assert receipt["status"] == "Succeeded" and found["status"] == "CompletedWithViolations"
    assert {"brightness", "mean_red"} <= drifted and found["metrics"]["CapturedImages"] == 120
    page = (out / "monitor.html").read_text()
    assert "Something has changed" in page and 'src="http' not in page
    shown = [o for c in read_json(out / "monitor.ipynb")["cells"] for o in c.get("outputs", []) if "data" in o]
    assert len([o for o in shown if "image/png" in o["data"]]) == 2


def test_the_page_on_a_phone_and_in_the_dark(stage, look_at):
    page = stage / "drift" / "monitor.html"
    look_at(page if page.exists() else report(stage, "drift")[1] / "monitor.html")


@pytest.mark.parametrize("kind, file", [("model_quality", Files.STATISTICS), ("bias", Files.ANALYSIS)])
def test_the_other_reports(stage, kind, file):
    _, out = report(stage, kind, kind=kind, input_labels=str(stage / "labels"), min_images="80")
    found = read_json(out / "files" / Files.FINDING)
    assert found["metrics"]["LabelledImages"] == 120 and (out / "files" / file).exists()
    assert found["status"] != "NotEnoughData"


def test_a_report_without_captures_is_a_report(stage, tmp_path):
    (tmp_path / "none").mkdir()
    _, out = report(stage, "first day", captures=str(tmp_path / "none"), hours="1")
    assert read_json(out / "files" / Files.FINDING)["status"] == "NotEnoughData"
    assert "DataDriftViolations" not in (out / "files" / Files.CLOUDWATCH).read_text()


def test_an_unknown_question_fails(stage):
    with pytest.raises(SkinLesionError, match="there is no monitor 'weather'"):
        report(stage, "weather", kind="weather")


def test_the_command(stage, tmp_path):
    from typer.testing import CliRunner

    from skin_lesion_mlops.cli.app import app

    words = ["monitor", "--captures", str(stage / "capture"), "--home", str(tmp_path)]
    done = CliRunner().invoke(app, [*words, "--baseline", str(stage / "baseline"), "--json"])
    assert done.exit_code == 6, done.output  # neither an error nor an all-clear
    told = json.loads(done.stdout)
    assert told["status"] == "CompletedWithViolations" and told["trained_on"] == "generated"
    assert CliRunner().invoke(app, words).exit_code != 0  # no approved model, so no baseline


def test_the_history_is_a_page(tmp_path):
    from typer.testing import CliRunner

    from skin_lesion_mlops.cli.app import app

    nothing = CliRunner().invoke(app, ["monitor", "history", "--home", str(tmp_path)])
    assert nothing.exit_code == 1 and "skin-lesion monitor" in nothing.output
    for day, fall in enumerate((0.0, 0.02, 0.2)):
        bad = [dict(metric_name="malignant_sensitivity")] if fall > 0.05 else []
        finding = Finding("model_quality", [f"<{day}>"], pd.DataFrame(), bad, dict(Accuracy=0.8, SensitivityDrop=fall))
        at = NOON + pd.Timedelta(days=day)
        write_finding(tmp_path / "monitor" / str(day) / "monitor", finding, pd.DataFrame(), "local", at)
        (tmp_path / "monitor" / str(day) / "monitor.html").write_text("a report")
    (tmp_path / "monitor" / "broken").mkdir()
    (tmp_path / "monitor" / "broken" / Files.FINDING).write_text("{")
    done = CliRunner().invoke(app, ["monitor", "history", "--home", str(tmp_path), "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == 0 and len(told["windows"]) == 3 and len(told["unreadable"]) == 1
    page = (tmp_path / "monitor" / "history.html").read_text()
    assert page.index("&lt;2&gt;") < page.index("&lt;0&gt;") and 'href="2/monitor.html"' in page
    assert "prefers-color-scheme" in page and 'src="http' not in page and "<0>" not in page
    t = trends(read_findings(tmp_path / "monitor")[0])
    assert t.SensitivityDrop.tolist() == [0.0, 0.02, 0.2]


@pytest.mark.parametrize("origins", [["generated"] * 2, ["pictures", "partly generated"], ["pictures", ""]])
def test_the_history_says_that_a_model_learned_from_generated_images(origins, tmp_path, look_at):
    for day, origin in enumerate(origins):
        finding = Finding("bias", [f"Day {day}."], pd.DataFrame(), [], dict(LabelledImages=80), trained_on=origin)
        write_finding(tmp_path / str(day), finding, pd.DataFrame(), "local", NOON + pd.Timedelta(days=day))
    old = read_json(tmp_path / "0" / Files.FINDING)
    if not old["trained_on"]:  # as an earlier release wrote it
        write_json(tmp_path / "0" / Files.FINDING, {k: v for k, v in old.items() if k != "trained_on"})
    page = write_history(tmp_path, tmp_path / "history.html")
    text, painted = page.read_text(), [o for o in origins if "generated" in o]
    assert text.count("Trained on images that are") == len(painted)
    assert ("its answers say nothing about skin" in text) == bool(painted)
    assert ("In 1 of the 2 windows: " in text) == (len(painted) == 1)
    look_at(page)


def test_times_on_the_axis_fit_the_window():
    import matplotlib.pyplot as plt

    shown = {}
    for hours, step in ((1, "5min"), (24, "1h"), (720, "1D")):
        times = pd.Series(pd.date_range(NOON - pd.Timedelta(hours=hours), NOON, 20))
        assert step_of(times) == step
        fig, ax = plt.subplots()
        ax.plot(times, range(20))
        time_axis(ax)
        fig.canvas.draw()
        shown[hours] = [t.get_text() for t in ax.get_xticklabels()]
        plt.close(fig)
    assert all(":" in t for t in shown[1]) and len(set(shown[1])) == len(shown[1])
    assert not any(":" in t for t in shown[720]) and len(shown[720]) <= 8


@given(st.datetimes(datetime(2025, 12, 1), datetime(2026, 3, 5)), st.integers(1, 800))
def test_every_hour_of_a_window_is_fetched_once(end, hours):
    from skin_lesion_mlops.aws.watch import folders

    end = end.replace(tzinfo=timezone.utc)
    found = folders(end, hours)
    for h in range(hours + 1):
        hour = (end - timedelta(hours=h)).strftime("%Y/%m/%d/%H")
        assert sum(hour == f or hour.startswith(f + "/") for f in found) == 1


def test_the_scheduled_job_fetches_and_publishes(stage, monkeypatch, capsys):
    moto = pytest.importorskip("moto")
    boto3 = pytest.importorskip("boto3")
    from skin_lesion_mlops.aws import watch

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv(watch.NAMESPACE, "SkinLesion/Monitoring")
    endpoint, now = "skin-lesion-endpoint", datetime.now(timezone.utc)
    with moto.mock_aws():
        s3, sm = boto3.client("s3"), boto3.client("sagemaker")
        s3.create_bucket(Bucket="processed")
        _deploy(sm, endpoint)
        words = [
            "--endpoint",
            endpoint,
            "--capture",
            "s3://processed/capture",
            "--labels",
            "s3://processed/monitor/labels",
        ]
        for f in (stage / "baseline").iterdir():
            kind = "baseline" if f.name in (Files.STATISTICS, Files.CONSTRAINTS) else "evaluation"
            s3.upload_file(str(f), "processed", f"runs/7/{kind}/{f.name}")
        assert watch.main(["data_quality", *words, "--out", str(stage / "day one")]) == 0
        assert _published(now, endpoint) == dict(CapturedImages=0.0, CompletenessViolations=0.0)

        for i, f in enumerate(sorted((stage / "capture").rglob("*.jsonl"))):
            hour = f"{now:%Y/%m/%d/%H}"  # of the window that `late` asks for, also when the test takes longer
            s3.upload_file(str(f), "processed", f"capture/{endpoint}/AllTraffic/{hour}/{i}.jsonl")
        late = f"{now + timedelta(minutes=9):%Y-%m-%dT%H:%M:%SZ}"
        assert watch.main(["data_quality", *words, "--out", str(stage / "day two"), "--until", late]) == 0
        s3.upload_file(str(stage / "labels" / "known.csv"), "processed", "monitor/labels/known.csv")
        assert watch.main(["model_quality", *words, "--out", str(stage / "day nine")]) == 0
        fetched = watch.fetch(s3, "s3://processed/monitor/labels", stage / "fetched")
        dated = s3.head_object(Bucket="processed", Key="monitor/labels/known.csv")["LastModified"].timestamp()
        assert fetched == 1 and (stage / "fetched" / "known.csv").stat().st_mtime == dated
        sent = _published(now, endpoint)
        assert sent["CapturedImages"] == 120 and sent["DataDriftViolations"] >= 2 and 0 <= sent["Accuracy"] <= 1
        assert not list((stage / "day two").rglob("*.jsonl.*")) and not (stage / "day two" / "input").exists()
        assert watch.main(["data_quality", *words, "--endpoint", "other", "--out", "x"]) == 1
    said = capsys.readouterr()
    assert "CompletedWithViolations" in said.out and "there is no endpoint other" in said.err


def _deploy(sm, endpoint):
    "An endpoint as aws/00_deploy makes it, of a version as the pipeline registers it."
    uri = "s3://processed/runs/7"
    source = {
        n: dict(ContentType="application/json", S3Uri=f"{uri}/{f}")
        for n, f in dict(
            Statistics=f"baseline/{Files.STATISTICS}",
            Constraints=f"baseline/{Files.CONSTRAINTS}",
            Quality=f"evaluation/{Files.EVALUATION}",
        ).items()
    }
    data = dict(Statistics=source["Statistics"], Constraints=source["Constraints"])
    sm.create_model_package_group(ModelPackageGroupName="skin-lesion-models")
    package = sm.create_model_package(
        ModelPackageGroupName="skin-lesion-models",
        ModelMetrics=dict(ModelQuality=dict(Statistics=source["Quality"]), ModelDataQuality=data),
        DriftCheckBaselines=dict(ModelDataQuality=data),
    )["ModelPackageArn"]
    role = "arn:aws:iam::123456789012:role/r"
    sm.create_model(ModelName="m-v1", Containers=[dict(ModelPackageName=package)], ExecutionRoleArn=role)
    variant = dict(VariantName="AllTraffic", ModelName="m-v1", InstanceType="ml.m5.xlarge", InitialInstanceCount=1)
    sm.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sm.create_endpoint(EndpointName=endpoint, EndpointConfigName="c")


def _published(since, endpoint):
    "Metric -> its largest value, asked for as the alarms ask."
    import boto3

    cloudwatch = boto3.client("cloudwatch")
    found = {}
    for name, unit in CLOUDWATCH_METRICS.items():
        points = cloudwatch.get_metric_statistics(
            Namespace="SkinLesion/Monitoring",
            MetricName=name,
            Dimensions=[dict(Name="EndpointName", Value=endpoint)],
            StartTime=since - timedelta(hours=1),
            EndTime=since + timedelta(hours=1),
            Period=3600,
            Statistics=["Maximum"],
            Unit=unit,
        )["Datapoints"]
        if points:
            found[name] = max(p["Maximum"] for p in points)
    return found


def test_statistics_are_measured_alike_in_training_and_monitoring(jpegs, predictor, tmp_path):
    "The baseline's numbers and the window's come from one function at one size: else everything drifts."
    (tmp_path / "x.jpg").write_bytes(jpegs[0])
    trained = image_statistics(read_pixels(tmp_path / "x.jpg", predictor.size)[None])
    picture = decode(jpegs[0], predictor.size)
    capture = Capture(tmp_path / "c")
    capture.write(record(predictor, [picture], predictor.predict([picture])))
    capture.close()
    served = read_captures(tmp_path / "c").rows[list(STATISTICS)]
    np.testing.assert_allclose(served.astype(float), trained, atol=1e-6)


def test_the_baseline_is_what_preprocessing_and_evaluation_write(stage, tmp_path):
    baseline = load_baseline(stage / "baseline")
    assert set(baseline.features) == set(DRIFT_FEATURES) and baseline.constraints and baseline.evaluation
    write_json(tmp_path / "x.json", {})
    with pytest.raises(SkinLesionError, match="holds no baseline"):
        load_baseline(tmp_path)
