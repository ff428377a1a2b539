"Exported engines: the same answers as torch, or none; never a file that was changed, or made for other weights."

import base64
import io
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from skin_lesion_mlops.core import Files, SkinLesionError, read_json, write_json
from skin_lesion_mlops.data.synthetic import create_dataset
from skin_lesion_mlops.model.bundle import ARCHITECTURES, softmax
from skin_lesion_mlops.model.engines import (
    EXPORTED,
    PROBES,
    TOLERANCES,
    choose_engine,
    export_engines,
    open_engine,
    probes,
    unquantized_nodes,
)
from skin_lesion_mlops.model.ensemble import Ensemble
from skin_lesion_mlops.model.metadata import metadata_width
from skin_lesion_mlops.model.networks import create_contract, create_model, load_bundle, save_bundle
from skin_lesion_mlops.serve.messages import read_json_images
from skin_lesion_mlops.serve.predictor import create_predictor, decode

pytest.importorskip("onnx", reason="writing engines needs the train extra")
pytest.importorskip("onnxruntime", reason="writing engines needs the train extra")
SIZE = 64
SLOW = (
    "resnet18",
    "mobilenet_v2",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "convnext_tiny",
)  # kin of those that stay
ALL = [pytest.param(a, marks=pytest.mark.slow) if a in SLOW else a for a in ARCHITECTURES]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    raw = create_dataset(tmp_path_factory.mktemp("engines") / "raw", n=12, seed=3)
    return [decode(p.read_bytes(), SIZE) for p in sorted(raw.rglob("*.jpg"))]


def write_bundle(folder, arch="tiny"):
    "An untrained network, but one that has seen pictures and has opinions."
    torch.manual_seed(0)
    model, x = create_model(arch).train(), torch.from_numpy(probes(SIZE)).permute(0, 3, 1, 2)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 0.88  # what twenty looks at the same pictures come to
    with torch.no_grad():
        model(x)
        model.eval().head.weight *= 3 / model(x).std(0).mean()
    return save_bundle(folder, model, create_contract(model, SIZE, temperature=1.3, thresholds=dict(malignant=0.4)))


def export(folder):
    pixels = np.concatenate([probes(SIZE), probes(SIZE)[:, ::-1], probes(SIZE)[:, :, ::-1]])
    return export_engines(folder, pixels, pixels, np.arange(len(pixels)) % 7)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    "A bundle of each architecture with its engines, and what was refused: made when first asked for."
    made = {}

    def exported(arch):
        if arch not in made:
            where = write_bundle(tmp_path_factory.mktemp(arch) / "bundle", arch)
            made[arch] = where, export(where)
        return made[arch]

    return exported


@pytest.fixture
def folder(exported, tmp_path):
    "A copy that a test may change."
    return shutil.copytree(exported("tiny")[0], tmp_path / "bundle")


@pytest.mark.parametrize("arch", ALL)
def test_an_exported_engine_answers_like_evaluation(arch, exported, pictures):
    "The same pictures through evaluation's network and through ONNX Runtime, for every architecture."
    where, refused = exported(arch)
    assert not refused["onnxruntime"], refused
    served = create_predictor(where, engine="onnxruntime")
    found = np.array([list(p.probabilities.values()) for p in served.predict(pictures)])
    truth = load_bundle(where).probabilities(np.stack([p.pixels for p in pictures]))
    assert served.engine_name == "onnxruntime" and len(truth) > 4 and np.ptp(truth) > 0.05
    assert np.abs(found - truth).max() < TOLERANCES["fp32"].probability


@pytest.mark.parametrize("arch", ALL)
def test_eight_bits_leave_the_first_layer_and_what_follows_the_last_one(arch, exported):
    import onnx

    graph = onnx.load(str(exported(arch)[0] / Files.ONNX)).graph
    nodes, exact = graph.node, unquantized_nodes(graph)
    kept = {n.name: n for n in nodes if n.name in exact}
    kinds = [n.op_type for n in kept.values()]
    assert kinds.count("Conv") == 1 and "pixels" in {i for n in kept.values() for i in n.input}
    makes = {o: n.name for n in nodes for o in n.output}
    assert {makes["logits"], makes["embedding"]} & set(kept), "the last layer or the embedding is rounded"
    assert kinds.count("GlobalAveragePool") <= 1, "squeeze and excitation is inside"


def test_an_engine_that_disagrees_is_refused_and_not_carried_about(tmp_path, monkeypatch):
    where = write_bundle(tmp_path / "bundle")
    monkeypatch.setattr("skin_lesion_mlops.model.engines.deviation", lambda *found: dict(top1=0.5, probability=0.9))
    refused = export(where)
    assert all(refused.values()) and "only 50.00%" in refused["onnxruntime"]
    assert not (where / Files.ONNX).exists() and not (where / Files.INT8).exists()
    predictor = create_predictor(where)
    assert predictor.engine_name == "torch" and set(predictor.passed_over) == set(EXPORTED)
    with pytest.raises(SkinLesionError, match="onnxruntime cannot be used: only 50"):
        create_predictor(where, engine="onnxruntime")


def test_a_changed_file_is_not_run(folder):
    (folder / Files.ONNX).write_bytes((folder / Files.ONNX).read_bytes() + b"\0")
    name, _, _, why = choose_engine(folder, read_json(folder / Files.BUNDLE))
    assert EXPORTED.get(name) is None or EXPORTED[name].file != Files.ONNX
    with pytest.raises(SkinLesionError, match="is not the file that was written"):
        create_predictor(folder, engine="onnxruntime")


def test_engines_of_other_weights_are_not_run(folder):
    contract = read_json(folder / Files.BUNDLE)
    name, run, _, why = choose_engine(folder, {**contract, "weights_hash": "0" * 64})
    assert (name, run) == ("torch", None) and why["onnxruntime"] == "the engines were made for other weights"


def test_an_engine_that_computes_otherwise_on_this_machine_is_not_run(folder):
    book = read_json(folder / Files.ENGINES)
    book["probes"] = [row[::-1] for row in book["probes"]]
    write_json(folder / Files.ENGINES, book)
    assert choose_engine(folder, read_json(folder / Files.BUNDLE))[0] == "torch"


def test_what_was_admitted_in_float32_computes_in_float32(folder):
    "Also on a processor that would rather use bfloat16."
    pytest.importorskip("openvino", reason="needs the openvino extra")
    book = read_json(folder / Files.ENGINES)
    book["engines"]["openvino"] = {**book["engines"]["onnxruntime"]}
    write_json(folder / Files.ENGINES, book)
    served, exact = (create_predictor(folder, engine=e) for e in ("openvino", "onnxruntime"))
    assert served.precision == "fp32"
    assert np.abs(served.engine(probes(SIZE))[0] - exact.engine(probes(SIZE))[0]).max() < 1e-4


def test_an_answer_of_openvino_stays_and_threads_have_their_own(folder):
    "Input and output are written in place: the next picture must not change what was answered, nor another thread's."
    pytest.importorskip("openvino", reason="needs the openvino extra")
    run, seen = open_engine("openvino", folder, "fp32")[0], probes(SIZE)
    once = run(seen)[0]
    first = run(seen[:1])
    kept = [x.copy() for x in first]
    run(seen[1:2])
    assert all(np.array_equal(a, b) for a, b in zip(first, kept)) and not np.array_equal(once[0], once[1])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: run(seen[i % PROBES][None])[0][0], range(64)))
    assert all(np.allclose(x, once[i % PROBES], atol=1e-5) for i, x in enumerate(found))
    with pytest.raises(ValueError):
        run(seen[:, 1:])


def test_an_engine_that_there_is_not(folder):
    with pytest.raises(SkinLesionError, match="there is no engine 'tensorrt'.*\n?.*openvino"):
        create_predictor(folder, engine="tensorrt")


@pytest.fixture(scope="module")
def committee(tmp_path_factory):
    "Two networks that look at eight views and are told of the patient, with engines; what they said no to; patients."
    torch.manual_seed(0)
    told = dict(sites=["back", "face"])
    model = Ensemble([create_model("tiny", metadata=metadata_width(told)) for _ in range(2)], views=8).eval()
    for member in model.members:
        member.head.weight.data *= 5
    where = tmp_path_factory.mktemp("committee") / "bundle"
    save_bundle(where, model, create_contract(model, SIZE, metadata=told))
    patients = np.random.default_rng(0).normal(size=(PROBES, metadata_width(told))).astype(np.float32)
    refused = export_engines(where, probes(SIZE), probes(SIZE), np.arange(PROBES) % 7, (patients, patients))
    return where, refused, patients


@pytest.mark.parametrize("name", EXPORTED)
def test_members_views_and_the_patient_are_inside_every_engine(name, committee):
    where, refused, patients = committee
    if refused[name]:
        pytest.skip(refused[name])
    contract = read_json(where / Files.BUNDLE)
    _, run, precision, _ = choose_engine(where, contract, name)
    bundle = load_bundle(where)
    for told in (patients, None):  # with a patient, and of an unknown one
        found, truth = softmax(run(probes(SIZE), told)[0], 1.0), bundle.probabilities(probes(SIZE), told)
        assert np.abs(found - truth).max() < TOLERANCES[precision].probability
        alone = softmax(run(probes(SIZE), told)[2], 1.0)  # what it would say without
        assert np.abs(alone - bundle.probabilities(probes(SIZE))).max() < TOLERANCES[precision].probability
    assert (
        np.ptp(bundle.probabilities(probes(SIZE), patients) - bundle.probabilities(probes(SIZE)), axis=0).max() > 0.01
    )


def test_no_member_of_an_ensemble_loses_its_first_layer_to_eight_bits(committee):
    import onnx

    graph = onnx.load(str(committee[0] / Files.ONNX)).graph
    exact = {n.name: n.op_type for n in graph.node if n.name in unquantized_nodes(graph)}
    assert list(exact.values()).count("Conv") == 2 and list(exact.values()).count("Gemm") >= 2


@pytest.mark.parametrize("name", [*EXPORTED, "torch"])
def test_a_picture_is_looked_at_once_for_the_answers_with_and_without_its_patient(name, committee, pictures):
    "A graph that was written before it could answer both is asked twice, and the answers are the same."
    if committee[1].get(name):
        pytest.skip(committee[1][name])
    predictor, asked = create_predictor(committee[0], engine=name), []

    def watched(outputs):
        return lambda *given: asked.append(outputs) or predictor.engine(*given)[:outputs]

    seen = [replace(picture, patient=dict(age=70, sex="male", site="face")) for picture in pictures[:2]]
    now, before = (replace(predictor, engine=watched(n)).predict(seen) for n in (3, 2))
    assert asked == [3, 2, 2]
    for a, b in zip(now, before):
        assert a.told and not a.alone.told and a.probabilities == b.probabilities != a.alone.probabilities
        assert list(a.alone.probabilities.values()) == pytest.approx(list(b.alone.probabilities.values()), abs=1e-5)
        assert (a.alone.likeliest, a.alone.familiar) == (b.alone.likeliest, b.alone.familiar)


def test_a_request_without_a_patient_gets_the_answer_to_the_picture_alone(committee, pictures):
    told = dict(age=70, sex="male", site="face")
    served = create_predictor(committee[0], engine="onnxruntime")
    alone, known, odd = (
        served.predict([replace(pictures[0], patient=p)])[0] for p in ({}, told, dict(site="left ring finger"))
    )
    truth = load_bundle(committee[0]).probabilities(pictures[0].pixels[None])[0]
    assert np.allclose(list(alone.probabilities.values()), truth, atol=1e-3) and not alone.notes
    assert known.probabilities != alone.probabilities and not known.notes
    assert odd.probabilities == alone.probabilities and "left ring finger" in odd.notes[0]


def test_a_field_that_there_is_not_is_named_and_its_content_is_not_kept(committee):
    file = io.BytesIO()
    Image.fromarray(probes(SIZE)[0]).save(file, "PNG")
    item = dict(data=base64.b64encode(file.getvalue()).decode(), patient=dict(name="Ada", age=70))
    ((_, nested),) = read_json_images(json.dumps(dict(images=[item])).encode(), SIZE)
    served = create_predictor(committee[0], engine="onnxruntime")
    answer, alone = served.predict([nested])[0], served.predict([replace(nested, patient={})])[0]
    assert answer.notes == ["'patient' not used: a patient is described by age, sex and site"]
    assert answer.probabilities == alone.probabilities and not answer.told and "Ada" not in repr(nested.patient)
