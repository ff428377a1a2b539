"The endpoint: SageMaker's contract, parity with evaluation, bad input, load, secrets, and the page in a browser."

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from skin_lesion_mlops.core import Files, SkinLesionError, read_json, write_json
from skin_lesion_mlops.taxonomy import HAM10000
from skin_lesion_mlops.data.pictures import encode_jpeg, open_image, read_pixels
from skin_lesion_mlops.data.synthetic import create_dataset
from skin_lesion_mlops.model.bundle import ARCHITECTURES
from skin_lesion_mlops.model.familiarity import load_familiarity
from skin_lesion_mlops.model.networks import create_contract, create_model, load_bundle, save_bundle
from skin_lesion_mlops.serve.admission import Limits
from skin_lesion_mlops.serve.app import create_app
from skin_lesion_mlops.serve.messages import MAX_IMAGES, EncodedImage, Refusal, accepted, content_type, read
from skin_lesion_mlops.serve.predictor import create_predictor, decode

JPEG = {"Content-Type": "image/jpeg"}


PRIOR = [0.2, 0.1, 0.1, 0.05, 0.05, 0.48, 0.02]


def bundle(folder, arch="tiny", **facts):
    "A bundle whose untrained network at least has opinions."
    model = create_model(arch).eval()
    model.head.weight.data *= 5
    facts = {**dict(temperature=1.3, thresholds=dict(malignant=0.4, cautious=0.1), prior=PRIOR), **facts}
    return save_bundle(folder, model, create_contract(model, 64, **facts))


def image_bytes(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def in_json(*images):
    return json.dumps({"images": [base64.b64encode(i).decode() for i in images]}).encode()


def in_form(*images, boundary="xyz"):
    "A form as `curl -F` and browsers send it."
    head = 'Content-Disposition: form-data; name="f"; filename="Jane Doe {}.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    parts = [
        b'Content-Disposition: form-data; name="note"\r\n\r\nhello',
        *(head.format(i).encode() + b for i, b in enumerate(images)),
    ]
    return b"".join(b"--%s\r\n%s\r\n" % (boundary.encode(), p) for p in parts) + b"--%s--\r\n" % boundary.encode()


def base64_of(data):
    "As the command of that name, Java and Android, browsers and hurried people write it."
    plain = base64.b64encode(data).decode()
    safe = base64.urlsafe_b64encode(data).decode()
    return base64.encodebytes(data).decode(), plain + "\n", safe, plain.rstrip("="), "data:image/jpeg;base64," + plain


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    create_dataset(folder / "raw", n=28, seed=3)
    bundle(folder / "bundle")
    return folder


@pytest.fixture(scope="module")
def files(folder):
    return sorted((folder / "raw").rglob("*.jpg"))


@pytest.fixture(scope="module")
def jpeg(files):
    known = load_familiarity()
    return next(p.read_bytes() for p in files if not known.judge(decode(p.read_bytes(), 64).thumb[None])[0].unfamiliar)


@pytest.fixture
def client(folder):
    app = create_app(create_predictor(folder / "bundle", version="7"), Limits(body=4 << 20))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def post(client, body, kind="image/jpeg", **headers):
    return client.post("/invocations", content=body, headers={"Content-Type": kind, **headers})


# What SageMaker and a client get


def test_ping_makes_a_prediction(client):
    assert client.get("/ping").status_code == 200
    service = client.app.state.service
    service.health.succeeded_at, good = -1e9, service.predictor.engine
    service.predictor.engine = lambda *inputs: 1 / 0
    assert client.get("/ping").status_code == 503
    service.predictor.engine = good
    assert client.get("/ping").json()["version"] == "7"


def test_a_service_that_cannot_predict_does_not_start(folder):
    predictor = create_predictor(folder / "bundle")
    predictor.engine = lambda pixels, patients: (np.full((len(pixels), 7), np.nan), None)
    with pytest.raises(FloatingPointError), TestClient(create_app(predictor)):
        pass


def test_one_picture(client, jpeg):
    answer = post(client, jpeg).json()
    (p,) = answer["predictions"]
    assert list(p["probabilities"]) == list(HAM10000.codes) and abs(sum(p["probabilities"].values()) - 1) < 1e-5
    risk = sum(p["probabilities"][c] for c in ("akiec", "bcc", "mel"))
    assert abs(risk - p["malignant_probability"]) < 1e-5 and p["malignant"] == (risk >= 0.4)
    assert p["predicted"] == max(p["probabilities"], key=p["probabilities"].get)
    said = p["decisions"]
    alone = {c: v / q for (c, v), q in zip(p["probabilities"].items(), PRIOR)}
    assert said["likeliest"] == dict(
        answer=p["predicted"], probability=max(p["probabilities"].values()), mixture="training"
    )
    assert said["balanced"] == dict(answer=max(alone, key=alone.get)) and said["malignant"]["answer"] == p["malignant"]
    assert answer["model"]["prior"] == answer["model"]["prevalence"] == dict(zip(HAM10000.codes, PRIOR))
    assert answer["model"]["version"] == "7" and answer["model"]["engine"] == "torch" and "notice" in answer


def test_a_bundle_from_before_the_rules_still_answers(folder, jpeg, tmp_path):
    where = bundle(folder / "old", prior=None, thresholds=dict(malignant=0.4))
    contract = {k: v for k, v in read_json(where / Files.BUNDLE).items() if k != "prior"}
    write_json(where / Files.BUNDLE, contract)
    with TestClient(create_app(create_predictor(where))) as client:
        answer = post(client, jpeg).json()
        row = post(client, jpeg, Accept="text/csv").text.splitlines()[1]
    assert list(answer["predictions"][0]["decisions"]) == ["likeliest", "malignant"] and row.endswith(",,,,unknown")
    assert answer["predictions"][0]["triage"] is None and answer["model"]["trained_on"] == "unknown"
    assert answer["model"]["prior"] is None and answer["predictions"][0]["predicted"]
    (tmp_path / "clinic.json").write_text(json.dumps(dict(zip(HAM10000.codes, PRIOR))))
    for how, why in (
        (dict(prevalence=tmp_path / "clinic.json"), "records no prior"),
        (dict(cautious=True), "cautious"),
    ):
        with pytest.raises(SkinLesionError, match=why):
            create_predictor(where, **how)


def test_a_stated_prevalence_moves_the_likeliest_class_alone(folder, files, tmp_path):
    clinic = [0.001, 0.001, 0.001, 0.001, 0.001, 0.001, 0.994]
    (tmp_path / "clinic.csv").write_text("".join(f"{c},{v}\n" for c, v in zip(HAM10000.codes, clinic)))
    pictures = [decode(f.read_bytes(), 64) for f in files[:6]]
    usual, here = (create_predictor(folder / "bundle", prevalence=f) for f in (None, tmp_path / "clinic.csv"))
    assert here.facts["mixture"] == "stated" and here.facts["prevalence"]["vasc"] == 0.994
    for a, b in zip(usual.predict(pictures), here.predict(pictures)):
        moved = np.array(list(a.probabilities.values())) * np.array(clinic) / PRIOR
        assert np.allclose(list(b.stated.values()), moved / moved.sum(), atol=1e-6)
        assert b.likeliest == HAM10000.codes[moved.argmax()] and b.probabilities == a.probabilities
        assert (b.balanced, b.malignant, b.threshold) == (a.balanced, a.malignant, a.threshold)
    assert create_predictor(folder / "bundle", cautious=True).predict(pictures)[0].threshold == 0.1


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_endpoint_says_what_evaluation_says(folder, files, arch):
    where = bundle(folder / arch, arch)
    want = load_bundle(where).probabilities(np.stack([read_pixels(f, 64) for f in files[:6]]))
    assert want.std(0).max() > 1e-3 or arch != "tiny", "the network says the same of every picture"
    with TestClient(create_app(create_predictor(where, engine="torch"))) as client:
        found = post(client, in_json(*(f.read_bytes() for f in files[:6])), "application/json").json()["predictions"]
    assert np.abs(want - [list(p["probabilities"].values()) for p in found]).max() < 1e-4


def test_every_way_in_gives_the_same(client, jpeg):
    pixels = np.asarray(open_image(io.BytesIO(jpeg)))
    png = image_bytes(Image.fromarray(pixels), "PNG")
    ways = [
        (jpeg, "image/jpeg"),
        (png, "image/png"),
        (in_json(jpeg), "application/json"),
        (npy(pixels), "application/x-npy"),
        (npy(pixels), "application/octet-stream"),
        *((jpeg, kind) for kind in ("image/jpg", "image/*", "application/x-image", "application/octet-stream", "")),
        *((image_bytes(Image.fromarray(pixels), kind), "image/png") for kind in ("TIFF", "BMP")),
        (image_bytes(Image.fromarray(pixels), "WEBP", lossless=True), "image/webp"),
        (in_form(jpeg), "multipart/form-data; boundary=xyz"),
        *((json.dumps({"images": [text]}).encode(), "application/json") for text in base64_of(jpeg)),
    ]
    answers = [post(client, *way).json()["predictions"][0]["probabilities"] for way in ways]
    assert all(a == answers[0] for a in answers)


def test_the_files_of_a_form_are_answered_in_order(files):
    some = [f.read_bytes() for f in files[:3]]
    found = read(content_type("multipart/form-data; boundary=xyz"), in_form(*some), 64)
    assert [n for n, _ in found] == ["0", "1", "2"], "the names of files are not kept"
    assert [p.pixels.tolist() for _, p in found] == [decode(b, 64).pixels.tolist() for b in some]


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.binary(min_size=1, max_size=200),
    width=st.integers(1, 90),
    end=st.sampled_from(["\n", "\r\n"]),
    cut=st.booleans(),
)
def test_base64_is_read_however_it_is_wrapped(data, width, end, cut):
    for text in (base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
        text = end.join(text[i : i + width] for i in range(0, len(text), width)) + end
        text = text.replace("=", "") if cut else text
        for whole in (text, "data:image/jpeg;base64," + text):
            assert EncodedImage.model_validate({"data": whole}).data == data


def test_every_way_out(client, jpeg):
    body = in_json(jpeg, jpeg)
    rows = post(client, body, "application/json", Accept="text/csv").text.splitlines()
    assert len(rows) == 3 and rows[0].startswith("id,predicted,malignant") and len(rows[1].split(",")) == 20
    bare = post(client, body, "application/json", Accept="text/csv; header=absent").text.splitlines()
    assert len(bare) == 2
    lines = post(client, body, "application/json", Accept="application/jsonlines").text.splitlines()
    assert [json.loads(x)["id"] for x in lines] == ["0", "1"]


def test_identifiers_pass_through_and_are_not_logged(client, jpeg, capfd):
    import skin_lesion_mlops.serve.telemetry as telemetry

    stream = io.StringIO()
    telemetry.start_logs(stream)
    names = {"X-Amzn-SageMaker-Custom-Attributes": "lesion=HAM_17", "X-Amzn-SageMaker-Inference-Id": "visit-9"}
    body = json.dumps({"images": [{"id": "Jane Doe", "data": base64.b64encode(jpeg).decode()}]}).encode()
    r = post(client, body, "application/json", **names, **{"X-Request-Id": "abc-1"})
    assert r.json()["custom_attributes"] == "lesion=HAM_17" and r.headers["X-Amzn-SageMaker-Inference-Id"] == "visit-9"
    assert (
        r.json()["predictions"][0]["id"] == "Jane Doe"
        and r.headers["X-Request-Id"] == r.json()["request_id"] == "abc-1"
    )
    (line,) = [json.loads(x) for x in stream.getvalue().splitlines() if '"request"' in x]
    assert line["request_id"] == "abc-1" and line["images"] == 1 and line["milliseconds"] > 0
    for secret in ("HAM_17", "visit-9", "Jane"):
        assert secret not in stream.getvalue()
    assert post(client, jpeg, **{"X-Request-Id": "a b\tc"}).headers["X-Request-Id"] != "a b\tc"


def test_explain_adds_a_map(client, jpeg):
    p = client.post("/invocations?explain=true", content=jpeg, headers=JPEG).json()["predictions"][0]
    heat = Image.open(io.BytesIO(base64.b64decode(p["overlay_png"])))
    assert heat.mode == "RGBA" and heat.size == (64, 64) and "overlay_png" not in post(client, jpeg).text
    assert client.post("/invocations?explain=maybe", content=jpeg, headers=JPEG).status_code == 400


def test_no_map_is_had_at_the_price_of_the_answer(folder, jpeg, tmp_path):
    predictor = create_predictor(folder / "bundle")
    predictor.explainer.bundle, predictor.explainer.source = None, tmp_path / "moved away"
    with TestClient(create_app(predictor)) as client:
        r = client.post("/invocations?explain=true", content=jpeg, headers=JPEG)
    (p,) = r.json()["predictions"]
    assert r.status_code == 200 and p["predicted"] and "overlay_png" not in p and "no heat map" in p["notes"][0]
    assert str(tmp_path) not in r.text and "/" not in p["notes"][0]


def test_the_flag_comes_first_with_what_it_is_worth(folder, jpeg):
    where = bundle(folder / "worth", thresholds=dict(malignant=0.0), trained_on="generated")
    facts = dict(malignant=200, benign=1000, caught=190, flagged=440, told=None, threshold=0.0)
    weights = read_json(where / Files.BUNDLE)["weights_hash"]
    write_json(where / Files.EVALUATION, dict(lineage=dict(model_hash=weights), points=[facts]))
    with TestClient(create_app(create_predictor(where))) as client:
        answer = post(client, jpeg).json()
        line = json.loads(post(client, jpeg, Accept="application/jsonlines").text)
    (p,) = answer["predictions"]
    assert list(p)[1] == "headline" and p["headline"] == (
        "Flagged as possibly malignant: at this point the model caught 95 of 100 pictures of malignant lesions and "
        "flagged 44 of 100 of benign ones in its test"
    )
    assert answer["notice"].startswith("This model learned from generated images") and line["trained_on"] == "generated"
    write_json(where / Files.EVALUATION, dict(lineage=dict(model_hash="of another model"), points=[facts]))
    assert create_predictor(where).points == []


SETS = dict(coverage=0.95, at_least=[0.0] * 7, pooled=[], lesions=[40] * 7)


def test_several_pictures_of_one_lesion_get_one_answer(folder, files, jpeg):
    where = bundle(folder / "sets", conformal=SETS)
    both = [jpeg, files[1].read_bytes()]
    named = {"images": [dict(data=base64.b64encode(b).decode(), lesion="left arm") for b in both]}
    field = b'--xyz\r\nContent-Disposition: form-data; name="lesion"\r\n\r\nleft arm\r\n'
    with TestClient(create_app(create_predictor(where))) as client:
        each = post(client, in_json(*both), "application/json").json()["predictions"]
        found = [
            post(client, json.dumps(named).encode(), "application/json").json()["predictions"],
            post(client, field + in_form(*both), "multipart/form-data; boundary=xyz").json()["predictions"],
        ]
    good = [list(p["probabilities"].values()) for p in each if p["predicted"]]
    for (p,) in found:
        assert p["id"] == "left arm" and len(p["pictures"]) == 2 and "mean of the calibrated" in p["notes"][0]
        assert np.allclose(list(p["probabilities"].values()), np.mean(good, axis=0), atol=1e-5)
        assert p["triage"] == dict(action="refer", set=list(HAM10000.codes), coverage=0.95)


def test_small_things_that_a_client_meets(client, jpeg):
    assert client.post("/endpoints/lesions/invocations", content=jpeg, headers=JPEG).status_code == 200
    assert 'path="/invocations",status="200"' in client.get("/metrics").text
    assert client.head("/ping").status_code == 200 and not client.head("/ping").content
    assert client.get("/ping/", headers={"Host": "elsewhere"}, follow_redirects=False).status_code == 404
    assert client.get("/ping", headers={"X-Long": "x" * 70_000}).status_code == 431
    assert client.get("/card.json").status_code == 404 and client.get("/card").status_code == 200


# What bad input gets

PHOTO = Image.effect_noise((200, 150), 80).convert("RGB")
BAD = {
    "empty": (b"", "image/jpeg", 400, "empty"),
    "half a file": (image_bytes(PHOTO, "JPEG")[:3000], "image/jpeg", 400, "truncated"),
    "100 megapixels": (lambda: image_bytes(Image.new("L", (10_000, 10_000)), "PNG"), "image/png", 413, "too_large"),
    "bomb": (lambda: image_bytes(Image.new("1", (30_000, 30_000)), "PNG"), "image/png", 413, "too_large"),
    "gif": (image_bytes(PHOTO, "GIF"), "image/jpeg", 400, "format_not_read"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/png", 400, "not_an_image"),
    "pdf": (b"%PDF-1.7\n", "image/png", 400, "not_an_image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "image/jpeg", 400, "not_an_image"),
    "web page": (b"<html>", "text/html", 415, "content_type"),
    "no type": (b"abc", "", 400, "not_an_image"),
    "latin-1": ('{"images": ["é"]}'.encode("latin-1"), "application/json", 400, "not_utf8"),
    "deep": (b"[" * 200_000, "application/json", 400, "bad_json"),
    "a number": (b"17", "application/json", 400, "bad_json"),
    "numbers": (b'{"images": [1, null]}', "application/json", 400, "bad_json"),
    "not base64": (b'{"images": ["*"]}', "application/json", 400, "bad_base64"),
    "10,000 images": (json.dumps({"images": ["AA=="] * 10_000}).encode(), "application/json", 413, "too_many_images"),
    "pickle": (npy(np.array([{}], dtype=object)), "application/x-npy", 400, "bad_npy"),
    "floats": (npy(np.zeros((40, 40, 3))), "application/x-npy", 400, "bad_npy"),
    "dots": (npy(np.zeros((3, 2, 2, 3), np.uint8)), "application/x-npy", 400, "too_small"),
    "none": (npy(np.zeros((0, 40, 40, 3), np.uint8)), "application/x-npy", 400, "empty"),
    "form of text": (
        b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--\r\n",
        "multipart/form-data",
        400,
        "empty",
    ),
    "form in pieces": (b"--x\n" * 90_000, "multipart/form-data; boundary=x", 400, "empty"),
    "over the limit": (b"\xff\xd8\xff" * (2 << 20), "image/jpeg", 413, "body_too_large"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_reason(client, jpeg, name):
    body, kind, status, reason = BAD[name]
    r = post(client, body() if callable(body) else body, kind)
    assert (r.status_code, r.json()["error"]["reason"]) == (status, reason) and len(r.json()["error"]["detail"]) > 10
    assert post(client, jpeg).status_code == 200 and client.app.state.service.admission.held == 0


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    body=st.one_of(
        st.binary(max_size=300), st.tuples(st.sampled_from([0, 1, 2]), st.binary(max_size=8), st.integers(0))
    ),
    kind=st.sampled_from(["image/jpeg", "", "application/json", "application/x-npy", "multipart/form-data", "x"]),
    accept=st.one_of(st.just("*/*"), st.text(st.characters(max_codepoint=255, min_codepoint=32), max_size=30)),
)
def test_no_bytes_make_it_stumble(jpeg, body, kind, accept):
    "Random bodies, and good ones with a few bytes overwritten: a refusal or an answer, nothing else."
    if isinstance(body, tuple):
        which, patch, at = body
        good = [jpeg, in_json(jpeg), npy(np.zeros((40, 40, 3), np.uint8))][which]
        at %= len(good)
        body = good[:at] + patch + good[at + len(patch) :]
    try:
        accepted(accept)
        for name, picture in read(content_type(kind), body, 64):
            assert picture.pixels.shape == (64, 64, 3) and name
    except Refusal as e:
        assert 400 <= e.status < 500 and e.detail


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_json_makes_it_stumble(value):
    for v in (value, {"images": value}, {"images": [value]}):
        with pytest.raises(Refusal) as e:
            read("application/json", json.dumps(v).encode(), 64)
        assert 400 <= e.value.status < 500


def test_headers_are_checked(client, jpeg):
    assert post(client, jpeg, **{"X-Amzn-SageMaker-Custom-Attributes": "x" * 2000}).status_code == 400
    assert post(client, jpeg, Accept="image/gif").status_code == 406
    assert client.get("/invocations").json()["error"]["reason"] == "method"
    assert client.get("/../etc/passwd").status_code == client.get("/page/../serve.py").status_code == 404


def test_the_token(folder, jpeg):
    with TestClient(create_app(create_predictor(folder / "bundle"), token="s3cret")) as client:
        assert client.get("/ping").status_code == 200
        assert post(client, jpeg).status_code == client.get("/metrics").status_code == 401
        assert post(client, jpeg, Authorization="Bearer s3cre").status_code == 401
        assert post(client, jpeg, Authorization="Bearer s3cret").status_code == 200


# Load


def hold(predictor) -> tuple[threading.Event, threading.Event]:
    "An engine that says when it is asked, and answers when it may."
    entered, go, engine = threading.Event(), threading.Event(), predictor.engine

    def slow(*inputs):
        entered.set()
        assert go.wait(60)
        return engine(*inputs)

    predictor.engine = slow
    return entered, go


def test_a_full_queue_says_when_to_come_back(folder, jpeg):
    predictor = create_predictor(folder / "bundle")
    with TestClient(create_app(predictor, Limits(workers=1, waiting=1))) as client:
        entered, go = hold(predictor)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(post, client, jpeg)
            assert entered.wait(60)
            second = pool.submit(post, client, jpeg)
            admission = client.app.state.service.admission
            while admission.busy < 2:
                time.sleep(0.01)
            third = post(client, jpeg)
            assert client.get("/metrics").status_code == 200  # others are still answered
            go.set()
            assert [first.result().status_code, second.result().status_code] == [200, 200]
        assert third.status_code == 429 and int(third.headers["Retry-After"]) >= 1
        assert post(client, jpeg).status_code == 200 and admission.busy == admission.held == 0


def test_who_would_be_answered_too_late_is_told_at_once(folder, jpeg):
    predictor = create_predictor(folder / "bundle")
    with TestClient(create_app(predictor, Limits(workers=1, latency=0.2))) as client:
        entered, go = hold(predictor)
        admission = client.app.state.service.admission
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(post, client, jpeg)
            assert entered.wait(60)
            admission.pace.seconds = 0.11  # two take 0.22 s
            second = post(client, jpeg)  # is answered while the first is still being worked on
            assert not first.done() and second.status_code == 429 and second.json()["error"]["reason"] == "busy"
            go.set()
            assert first.result().status_code == 200
        admission.pace.seconds = 60.0
        assert post(client, jpeg).status_code == 200  # nothing is refused while a thread is free


def test_metrics(client, jpeg):
    for _ in range(3):
        post(client, jpeg)
    post(client, b"x")
    client.get("/a/b"), client.get("/c")
    text = client.get("/metrics").text
    assert 'skin_lesion_requests_total{path="/invocations",status="200"} 3' in text
    assert 'skin_lesion_requests_total{path="other",status="404"} 2' in text and "skin_lesion_images_total 3" in text
    assert 'skin_lesion_refused_total{reason="not_an_image"} 1' in text
    assert 'skin_lesion_model_info{arch="tiny",engine="torch",version="7"} 1' in text


# As a process


@contextmanager
def serving(folder, tmp_path, more=""):
    "The service in a process of its own; more: further arguments of `run_server`."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    code = (
        "from skin_lesion_mlops.serve.predictor import create_predictor\n"
        "from functools import partial; from skin_lesion_mlops.serve.server import Limits, run_server\n"
        f"create = partial(create_predictor, {str(folder / 'bundle')!r})\n"
        f"run_server(create, port={port}, limits=Limits(seconds=5){more})"
    )
    log = open(tmp_path / "log", "w")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
            break
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
    try:
        yield process, port, tmp_path / "log"
    finally:
        process.kill()


@pytest.fixture
def server(folder, tmp_path):
    with serving(folder, tmp_path) as running:
        yield running


def listens(port):
    "Does anybody answer at this port?"
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


HEAD = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"


def end_while_a_picture_arrives(process, port, jpeg):
    "Ask the service to end in the middle of a request: it lets nobody in any more, and finishes what is in flight."
    with socket.create_connection(("127.0.0.1", port), 120) as last:
        last.sendall(HEAD % len(jpeg) + jpeg[:100])
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        while listens(port):
            time.sleep(0.05)
        last.sendall(jpeg[100:])
        assert b" 200 " in last.recv(200).splitlines()[0]
    return process.wait(60)


def test_slow_clients_and_a_graceful_end(server, jpeg):
    process, port, log = server
    with socket.create_connection(("127.0.0.1", port), 120) as loris:
        loris.sendall(HEAD % 9999 + b"\xff")
        request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", jpeg, JPEG)
        assert urllib.request.urlopen(request, timeout=120).status == 200  # nobody else waits for it
        assert b" 408 " in loris.recv(200).splitlines()[0]
    assert end_while_a_picture_arrives(process, port, jpeg) in (0, -signal.SIGTERM)
    lines = [json.loads(x) for x in log.read_text().splitlines()]
    assert {"ready", "stopped"} <= {x["event"] for x in lines}


def test_several_processes_end_in_order_and_with_the_one_that_started_them(folder, tmp_path, jpeg):
    with serving(folder, tmp_path, ", processes=2") as (process, port, log):
        while log.read_text().count('"ready"') < 2:
            time.sleep(0.1)
        assert end_while_a_picture_arrives(process, port, jpeg) == 0
    with serving(folder, tmp_path, ", processes=2") as (process, port, log):
        process.kill()  # with no time to tell anybody
        process.wait()
        until = time.monotonic() + 120
        while listens(port) and time.monotonic() < until:
            time.sleep(0.1)
        assert not listens(port)


# Where there is no web server

NO_SERVER = ("fastapi", "starlette", "uvicorn", "prometheus_client")
BELOW = ("telemetry", "predictor", "messages", "capture")  # chapters that `predict` and the monitors use


def test_predicting_and_monitoring_need_no_web_server(folder, jpeg):
    "`skin-lesion predict` and the monitors' containers have the default install only."
    (folder / "lesion.jpg").write_bytes(jpeg)
    code = (
        f"import sys\nfor m in {NO_SERVER}: sys.modules[m] = None\n"
        f"from skin_lesion_mlops.serve import {', '.join(BELOW)}\nimport skin_lesion_mlops.monitor.rehearsal\n"
        "from skin_lesion_mlops.cli.app import app\n"
        f"app(['predict', {str(folder / 'lesion.jpg')!r}, '--model', {str(folder / 'bundle')!r}, '--json'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["predictions"]) == 1


# Is it dermoscopy?


def test_photographs_get_no_diagnosis(client):
    from matplotlib import get_data_path
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(i) for i in load_sample_images().images]  # a temple, a flower
    photos.append(Image.open(f"{get_data_path()}/sample_data/grace_hopper.jpg").convert("RGB"))
    photos += [PHOTO, Image.new("RGB", (99, 99), "white")]
    found = post(client, in_json(*(image_bytes(p, "JPEG") for p in photos)), "application/json").json()["predictions"]
    for p in found:
        assert p["predicted"] is None and p["malignant"] is None and p["out_of_distribution"]["flag"]


def test_real_dermoscopy_is_familiar(ham10000_600x450):
    files = sorted(ham10000_600x450.rglob("*.jpg"))
    verdicts = load_familiarity().judge(np.stack([decode(f.read_bytes(), 128).thumb for f in files]))
    assert np.mean([v.unfamiliar for v in verdicts]) < 0.05


def behind(image, radius, colour):
    "A round field of view."
    y, x = np.mgrid[: image.height, : image.width]
    away = np.hypot(x - image.width / 2, y - image.height / 2)
    return Image.fromarray(np.where(away[..., None] > radius * image.height / 2, np.uint8(colour), np.asarray(image)))


def ruled(image):
    "With a paper ruler along the left edge."
    pixels = np.asarray(image).copy()
    pixels[:, :24] = 235
    pixels[::9, 6:24] = 40
    return Image.fromarray(pixels)


def judged(images, size=128):
    "What the packaged description says of pictures that are sent as files."
    known = load_familiarity()
    read = [decode(encode_jpeg(im), size) for im in images]
    return known.judge(np.stack([p.thumb for p in read]), None, [p.masked for p in read], [p.grid for p in read])


@pytest.mark.parametrize(
    "around", [lambda im: behind(im, 0.95, 2), lambda im: behind(im, 1.2, 2), lambda im: behind(im, 0.95, 253), ruled]
)
def test_masks_and_rulers_are_no_reason_to_refuse(files, around):
    images = [open_image(f) for f in files]
    good = [im for im, v in zip(images, judged(images)) if v.score < 0.8 and not v.unfamiliar]
    assert len(good) > 10 and np.mean([v.unfamiliar for v in judged([around(im) for im in good])]) < 0.2


def test_a_mask_lets_no_stranger_in():
    y, x = np.mgrid[:300, :400]
    meadow = np.stack([60 + x % 90, 140 + y % 90, 40 + (x + y) % 30], 2).astype(np.uint8)
    assert all(v.unfamiliar for v in judged([behind(Image.fromarray(meadow), 0.95, 2), ruled(Image.fromarray(meadow))]))


def test_a_photograph_of_a_screen_is_refused_for_its_grid(client, jpeg):
    image = Image.open(io.BytesIO(jpeg)).resize((600, 450))
    y, x = np.mgrid[:450, :600]
    grid = 1 + 0.07 * np.cos(2.2 * (x + 0.06 * y)) + 0.07 * np.cos(2.2 * (y - 0.06 * x))
    screen = Image.fromarray((np.asarray(image) * grid[..., None]).clip(0, 255).astype(np.uint8))
    (before,), (now,) = (post(client, encode_jpeg(im, 95)).json()["predictions"] for im in (image, screen))
    assert not before["out_of_distribution"]["flag"]
    assert now["out_of_distribution"]["flag"] and now["out_of_distribution"]["reasons"][0] == "grid"
    assert "screen" in client.get("/about").json()["features"]["grid"]


def test_a_description_made_before_there_were_masks_opens(tmp_path):
    older = load_familiarity()
    facts = {k: v for k, v in asdict(older).items() if k not in ("axes", "masked_limit")}
    write_json(tmp_path / Files.FAMILIARITY, facts)
    assert load_familiarity(tmp_path).limit == older.limit
    seen = replace(older, axes=np.eye(9, 8, dtype=np.float32), embedding_limit=0.1)
    thumbs, far = np.full((2, 64, 64, 3), 180, np.uint8), np.ones((2, 8))
    plain, masked = seen.judge(thumbs, far, [False, True])
    assert "network" in plain.odd and "network" not in masked.odd  # it was never asked about masks


def test_too_many(client, jpeg):
    assert post(client, in_json(*[jpeg] * MAX_IMAGES), "application/json").status_code == 200
    assert post(client, in_json(*[jpeg] * (MAX_IMAGES + 1)), "application/json").status_code == 413


# The page, as people see it


def test_the_page_in_a_browser(server, browser, jpeg, tmp_path):
    _, port, _ = server
    (tmp_path / "lesion.jpg").write_bytes(jpeg)
    (tmp_path / "half.jpg").write_bytes(jpeg[:3000])
    PHOTO.save(tmp_path / "noise.png")
    page = browser.new_page(viewport=dict(width=390, height=800), bypass_csp=True)
    asked, broken = [], []
    page.on("request", lambda r: asked.append(r.url))
    page.on("pageerror", lambda e: broken.append(str(e)))
    page.goto(f"http://127.0.0.1:{port}/")
    page.locator("footer dd").first.wait_for()
    assert "not a diagnosis" in page.locator("#notice").inner_text()
    page.keyboard.press("Tab")  # to the link that skips
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.7 a letter")
    page.set_input_files("#files", [tmp_path / n for n in ("lesion.jpg", "half.jpg", "noise.png", "letter.pdf")])
    page.get_by_text("4 of 4 analysed").wait_for(timeout=60_000)
    good, half, noise, letter = page.locator("article").all()
    flag = good.locator("h2").inner_text()
    assert "lagged as " in flag and "malignant" in flag
    assert "1 without an answer, 2 not usable" in page.locator("#summary").inner_text()
    assert not letter.locator("img").first.is_visible() and "This is not a picture" in letter.inner_text()
    assert "OSError" not in page.inner_text("main") and "Learned from unknown" in page.inner_text("footer").replace(
        "\n", " "
    )
    page.select_option("#order", "risk")
    first = page.locator("article h2").first.inner_text()
    assert first == flag or flag.startswith("Not flagged") and first.startswith("No answer")
    page.select_option("#order", "arrival")
    page.fill("#reader", "Dr. Ada")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert "read by Dr. Ada; Model version" in page.locator("#letterhead").text_content()
    good.locator(".look").click()
    assert page.locator("#zoom img").is_visible()
    page.keyboard.press("Escape")
    assert good.locator("tbody tr").count() == 7 and "operating point of 40.0" in good.inner_text()
    assert good.locator(".rules dt").count() == 3 and not noise.locator(".rules dt").count()
    assert "What does the picture alone speak for?" in good.inner_text()
    assert good.locator("img.heat").is_visible() and not noise.locator("tbody tr").count()
    assert "incomplete or damaged" in half.inner_text() and "does not look like dermoscopy" in noise.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # nothing sticks out of a phone
    local = ("http://127.0.0.1", "blob:", "data:")
    assert not broken and all(u.startswith(local) for u in asked)  # nothing is fetched from elsewhere
    page.check("#together")
    page.set_input_files("#files", [tmp_path / "lesion.jpg"] * 1 + [tmp_path / "noise.png"])
    page.get_by_text("5 of 5 analysed").wait_for(timeout=60_000)
    assert "left out, for not looking like dermoscopy" in page.inner_text("main")
    page.uncheck("#together")
    page.set_input_files("#files", [tmp_path / "lesion.jpg"])
    page.get_by_role("button", name="Clear").click()  # while it works
    assert not page.locator("article").count()
    page.set_input_files("#files", [tmp_path / "lesion.jpg"])
    page.get_by_text("1 of 1 analysed").wait_for(timeout=60_000)
    page.goto(f"http://127.0.0.1:{port}/docs")
    page.get_by_text("POST /invocations").wait_for()


def test_the_page_tells_a_wrong_token_from_none(folder, browser, jpeg, tmp_path):
    (tmp_path / "lesion.jpg").write_bytes(jpeg)
    with serving(folder, tmp_path, ", token='s3cret'") as (_, port, _):
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.locator("#access").wait_for()  # it is asked for at once
        page.set_input_files("#files", [tmp_path / "lesion.jpg"])
        page.get_by_text("Enter the token to go on.").wait_for(timeout=60_000)
        page.fill("#token", "s3cre")
        page.keyboard.press("Enter")
        page.get_by_text("This token is not the service's.").wait_for(timeout=60_000)
        assert page.evaluate("document.activeElement.id") == "token"  # ready to be entered again
        assert "Waiting" in page.locator("article").inner_text()  # the picture is still there
        page.fill("#token", "s3cret")
        page.keyboard.press("Enter")
        page.get_by_text("1 of 1 analysed").wait_for(timeout=60_000)
        assert page.locator("article tbody tr").count() == 7 and not page.locator("#access").is_visible()
        page.close()


@pytest.mark.parametrize("age", [200, -1, "old", [70]])
def test_an_age_that_nobody_has_is_refused(age, jpeg):
    body = json.dumps({"images": [{"data": base64.b64encode(jpeg).decode(), "age": age}]}).encode()
    with pytest.raises(Refusal, match="400 bad_age: images.0.age: send years, from 0 to 120"):
        read("application/json", body, 64)


def test_a_patient_travels_with_a_picture(jpeg):
    sent = {"data": base64.b64encode(jpeg).decode(), "age": 63, "sex": "female"}
    ((_, read_back),) = read("application/json", json.dumps({"images": [sent]}).encode(), 64)
    assert read_back.patient == dict(age=63, sex="female")
