"From files to shards: what training, serving and monitoring rely on."

import hashlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skin_lesion_mlops.core import DEFAULT_SEED, SPLITS, Files, SkinLesionError, read_json
from skin_lesion_mlops.taxonomy import HAM10000
from skin_lesion_mlops.data import pictures
from skin_lesion_mlops.data import shards as P_shards
from skin_lesion_mlops.data import statistics
from skin_lesion_mlops.data.pictures import decode_image, open_image
from skin_lesion_mlops.data.split import split
from skin_lesion_mlops.data.synthetic import create_dataset
from skin_lesion_mlops.pipeline.launch import parameters_of
from tests import forks

STEP = Path(__file__).resolve().parent.parent / "nbs" / "steps" / "preprocess.ipynb"
SPLIT_FILES = {Files.DATASET, Files.INDEX, "images-00000.npy"}


def rows_of(folder: Path) -> pd.DataFrame:
    "What `check` and `split` would say of a clean generated data set, without needing them."
    rows = pd.read_csv(folder / "HAM10000_metadata.csv", keep_default_na=False, na_values=dict(age=[""]))
    rows["path"] = [str(next(folder.glob(f"*/{i}.*"))) for i in rows.image_id]
    rows["sha256"] = [hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in rows.path]
    rows["group"], rows["source"], rows["patient_id"], rows["skin_type"] = rows.lesion_id, "ham10000", "", "unknown"
    return rows.assign(split=np.array(["train"] * 6 + ["validation", "test"])[np.arange(len(rows)) % 8])


def contents(folder: Path) -> dict:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> pd.DataFrame:
    return rows_of(create_dataset(tmp_path_factory.mktemp("raw"), n=98, odd=1, size=(120, 90)))


@pytest.fixture(scope="module")
def dataset(rows, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dataset")
    P_shards.write_dataset(
        rows, {s: out / s for s in SPLITS}, size=48, workers=2, seed=9, source="ham10000", quarantined=3
    )
    return out


# The split folder -----------------------------------------------------------------------------------------------------


def test_a_split_folder_holds_what_was_promised(dataset, rows):
    hashes = set()
    for name in SPLITS:
        assert set(contents(dataset / name)) == SPLIT_FILES
        shards, mine = P_shards.Shards(dataset / name), rows[rows.split == name].set_index("image_id")
        c = shards.contract
        assert set(shards.index) >= {
            *P_shards.SCHEMA,
            "label",
            "group",
            "sha256",
            "shard",
            "row",
            *statistics.STATISTICS,
        }
        assert "path" not in shards.index and sorted(shards.index.image_id) == sorted(mine.index)
        assert c["split"] == name and c["classes"] == list(HAM10000.codes) and c["image_size"] == 48
        assert (c["mean"], c["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # ImageNet's, as torchvision has
        assert (c["seed"], c["source"], c["quarantined"]) == (9, "ham10000", 3)
        assert c["counts"][name] == {k: int((mine.dx == k).sum()) for k in HAM10000.codes}
        assert [HAM10000.codes[i] for i in shards.labels] == mine.dx[shards.index.image_id].to_list()
        hashes.add(c["data_hash"])
    assert len(hashes) == 1


def test_the_seed_on_record_is_the_one_that_divided(rows, tmp_path):
    "Nobody names a seed: what `split` used by default is what `write_dataset` writes down."
    divided = split(rows.drop(columns="split"))
    contract = P_shards.write_dataset(divided, {s: tmp_path / s for s in SPLITS}, 16, 1)
    again = split(rows.drop(columns="split"), contract["seed"])
    assert contract["seed"] == DEFAULT_SEED and again.split.equals(divided.split)
    assert read_json(tmp_path / "test" / Files.DATASET)["seed"] == DEFAULT_SEED
    assert P_shards.describe_dataset(divided)["seed"] == DEFAULT_SEED != 42
    assert not split(rows.drop(columns="split"), 42).split.equals(divided.split)


def test_pixels_are_those_of_the_one_route(dataset, rows):
    shards, path = P_shards.Shards(dataset / "validation"), rows.set_index("image_id").path
    for i, image_id in enumerate(shards.index.image_id):
        assert (shards[i] == pictures.read_pixels(path[image_id], 48)).all()


def test_output_does_not_depend_on_the_number_of_workers(rows, dataset, tmp_path):
    for workers in (1, 3):
        out = tmp_path / str(workers)
        P_shards.write_dataset(rows, {s: out / s for s in SPLITS}, 48, workers, 9, "ham10000", 3)
        for s in SPLITS:
            assert contents(out / s) == contents(dataset / s)


def test_output_does_not_depend_on_the_order_of_the_rows(rows, dataset, tmp_path):
    mixed = rows.sample(frac=1, random_state=0)
    P_shards.write_dataset(mixed, {s: tmp_path / s for s in SPLITS}, 48, 1, 9, "ham10000", 3)
    assert all(contents(tmp_path / s) == contents(dataset / s) for s in SPLITS)


def test_many_shards_read_like_one(rows, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(P_shards, "SHARD_BYTES", 7 * 48 * 48 * 3)
    monkeypatch.setattr(P_shards, "CHUNK", 3)
    train = rows[rows.split == "train"].sort_values("image_id")
    many, one = P_shards.Shards(P_shards.write_shards(train, tmp_path / "many", 48, 1)), P_shards.Shards(
        dataset / "train"
    )
    assert len(list((tmp_path / "many").glob("*.npy"))) == -(-len(train) // 7) > 3
    assert (many[:] == one[:]).all() and (many.labels == one.labels).all()
    picks = np.array([40, 3, 3, 11, 60])
    assert (many[picks] == one[picks]).all() and (many[one.labels == 5] == one[:][one.labels == 5]).all()
    assert (many[-1] == one[len(one) - 1]).all()


def test_shards_are_mapped_not_read_and_travel_to_other_processes(dataset):
    import pickle

    shards = P_shards.Shards(dataset / "train")
    first = shards[0]
    assert isinstance(shards._map(0), np.memmap) and not shards._map(0).flags.writeable
    travelled = pickle.dumps(shards)
    assert len(travelled) < 200_000 and (pickle.loads(travelled)[0] == first).all()


def test_an_old_data_set_is_replaced_whole(rows, tmp_path):
    big, small = rows[rows.split == "train"], rows[rows.split == "test"]
    P_shards.write_shards(big, tmp_path / "d", 16, 1)
    (tmp_path / "d" / "images-00007.npy").write_bytes(b"left over")
    P_shards.write_shards(small, tmp_path / "d", 16, 1)
    assert set(contents(tmp_path / "d")) == SPLIT_FILES and len(P_shards.Shards(tmp_path / "d")) == len(small)


def test_a_crash_leaves_nothing_that_can_be_read(rows, tmp_path):
    gone = rows[rows.split == "train"].reset_index(drop=True)
    P_shards.write_shards(gone, tmp_path / "d", 16, 1)
    gone.loc[len(gone) - 1, "path"] = str(tmp_path / "gone.jpg")
    for workers in (1, 2):
        with pytest.raises(SkinLesionError, match="gone.jpg"):
            P_shards.write_shards(gone, tmp_path / "d", 16, workers)
        assert not contents(tmp_path / "d")
        with pytest.raises(SkinLesionError):
            P_shards.Shards(tmp_path / "d")


def test_data_hash_is_of_bytes_labels_and_splits(rows):
    h = P_shards.data_hash(rows)
    assert h == P_shards.data_hash(rows.sample(frac=1, random_state=1).assign(image_id="x", path="y", age=0))
    for column, value in dict(sha256="0" * 64, dx="mel", split="test").items():
        changed = rows.copy()
        changed.loc[rows.index[0], column] = value
        assert P_shards.data_hash(changed) != h


def test_rows_that_lack_a_column_are_refused(rows, tmp_path):
    with pytest.raises(SkinLesionError, match="lack sha256"):
        P_shards.write_shards(rows.drop(columns="sha256"), tmp_path)


# Memory ---------------------------------------------------------------------------------------------------------------

_MEASURE = """
import resource, sys, pandas as pd
from skin_lesion_mlops.data.shards import write_shards
rows = pd.DataFrame(dict(path=sys.argv[1], image_id=[f"i{k}" for k in range(int(sys.argv[3]))], dx="nv", group="g",
                         sha256="0" * 64))
if __name__ == "__main__":
    workers = int(sys.argv[4])
    write_shards(rows, sys.argv[2], 64, workers)
    who = resource.RUSAGE_CHILDREN if workers > 1 else resource.RUSAGE_SELF
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrusage(who).ru_maxrss)
"""


@pytest.mark.parametrize(
    "workers, many, room", [(1, 4000, 12), (2, 4000, 12), pytest.param(2, 300_000, 24, marks=pytest.mark.slow)]
)
def test_memory_is_flat(tmp_path, workers, many, room):
    "Peak resident memory of the writer, and of its largest worker, for 500 and for many images of 12 kB of pixels."
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "measure.py").write_text(_MEASURE)
    peaks = []
    for n in (500, many):
        command = [sys.executable, tmp_path / "measure.py", tmp_path / "a.jpg", tmp_path / f"out{n}", n, workers]
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True)
        peaks.append([int(k) / 1024 for k in done.stdout.splitlines()[-1].split()])  # before it: how far it is
    assert len(P_shards.Shards(tmp_path / f"out{many}")) == many
    table = many * 0.5e-3  # MB: the table of images, which is all that grows, has less than half a kB a row
    for before, after in zip(*peaks):
        assert after - before < room + table, f"{before:.0f} MB for 500 images, {after:.0f} MB for {many:,}"


# The one route --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 90), st.integers(1, 90), st.integers(1, 64), st.sampled_from(["RGB", "L", "RGBA", "CMYK", "P", "1"])
)
def test_resize_takes_any_picture(width, height, size, mode):
    image = Image.effect_noise((width, height), 80).convert("RGB").convert(mode)
    pixels = pictures.resize(image, size)
    assert pixels.shape == (size, size, 3) and pixels.dtype == np.uint8
    assert (pixels == pictures.resize(image.convert("RGB"), size)).all()


def test_resize_is_antialiased_and_keeps_the_whole_picture():
    checks = np.kron([[0, 255] * 112] * 224, np.ones((1, 1))).astype(np.uint8)
    assert np.ptp(pictures.resize(Image.fromarray(checks), 28)[4:-4, 4:-4].astype(int)) < 40  # stripes become grey
    corners = np.zeros((90, 160, 3), np.uint8)
    corners[:30, :30] = corners[-30:, -30:] = 255
    small = pictures.resize(Image.fromarray(corners), 32)
    assert small[0, 0, 0] == small[-1, -1, 0] == 255 and small[0, -1, 0] == 0


def test_a_path_and_the_bytes_of_a_request_give_the_same_pixels(rows):
    for path in rows.path[rows.image_id.str.startswith("ODD")]:
        assert (pictures.read_pixels(path, 40) == pictures.read_pixels(io.BytesIO(Path(path).read_bytes()), 40)).all()


def off_by(source, size):
    "How far the one route is from decoding in full, in levels of 256, pixel by pixel."
    full = pictures.resize(open_image(source), size).astype(int)
    return np.abs(pictures.read_pixels(source, size) - full)


def test_a_large_jpeg_is_decoded_small_and_gives_the_same_pixels(rows, tmp_path):
    photo = Image.open(rows.path[0]).convert("RGB").resize((2400, 1800))
    grain = Image.effect_noise(photo.size, 60).convert("RGB")
    Image.blend(photo, grain, 0.15).save(tmp_path / "large.jpg", quality=92)
    assert decode_image(tmp_path / "large.jpg", side=448).size == (600, 450)
    off = off_by(tmp_path / "large.jpg", 224)
    assert 0 < off.max() <= 8 and (off <= 2).mean() > 0.999


def test_real_dermoscopy_decoded_small_gives_the_same_pixels(ham10000_600x450):
    off = np.stack([off_by(p, 112) for p in sorted(ham10000_600x450.rglob("*.jpg"))[:40]])
    assert 0 < off.max() <= 12 and (off <= 2).mean() > 0.999


def test_training_pixels_are_not_normalised(dataset):
    pixels = P_shards.Shards(dataset / "train")[:]
    assert pixels.dtype == np.uint8 and pixels.max() > 200 and pixels.mean() > 60


# De-identification ----------------------------------------------------------------------------------------------------


def test_only_pixels_survive(dataset, rows, tmp_path):
    phone = next(p for p in rows.path if "rotated" in p)
    raw = Path(phone).read_bytes()
    assert b"Jane Doe" in raw and b"Exif" in raw and Image.open(phone).getexif().get_ifd(0x8825)
    statistics.write_baseline(P_shards.Shards(dataset / "train").index, tmp_path / "baseline")
    written = [*dataset.rglob("*.*"), *(tmp_path / "baseline").iterdir()]
    assert len(written) == 11
    for f in written:
        content = f.read_bytes()
        for secret in (b"Jane", b"Exif", b"GPS", b"JFIF", str(Path(phone).parent.parent).encode()):
            assert secret not in content, f"{secret!r} is in {f.name}"
    for f in dataset.rglob("*.npy"):  # nothing behind the pixels, nothing between them
        array = np.load(f, mmap_mode="r")
        assert f.stat().st_size == 128 + array.nbytes and array.shape[1:] == (48, 48, 3)


# Statistics and baseline ----------------------------------------------------------------------------------------------


def test_statistics_agree_with_plain_numpy_one_by_one():
    images = np.random.default_rng(3).integers(0, 256, (5, 33, 33, 3), np.uint8)
    got = statistics.image_statistics(images)
    for i, image in enumerate(images / 255):
        luma = 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]
        top = image.max(-1)
        laplacian = [
            abs(4 * luma[r, c] - luma[r - 1, c] - luma[r + 1, c] - luma[r, c - 1] - luma[r, c + 1])
            for r in range(1, 32)
            for c in range(1, 32)
        ]
        want = [*image.mean((0, 1)), *image.std((0, 1)), luma.mean(), luma.std()]
        want += [((top - image.min(-1)) / np.maximum(top, 1 / 255)).mean(), np.mean(laplacian)]
        assert np.allclose(got.iloc[i, :10], want, rtol=1e-4)


def test_statistics_notice_what_they_are_named_after(rows):
    image = pictures.read_pixels(rows.path[0], 96)
    pil = Image.fromarray(image)
    base = statistics.image_statistics(image[None]).iloc[0]

    def after(changed):
        return statistics.image_statistics(np.asarray(changed)[None]).iloc[0]

    assert after(pil.point(lambda v: v * 0.6)).brightness < 0.7 * base.brightness
    assert after(pil.resize((24, 24)).resize((96, 96))).sharpness < 0.6 * base.sharpness
    assert after(pil.convert("L").convert("RGB")).saturation == 0
    assert after(pil.point(lambda v: 100 + v // 4)).contrast < 0.5 * base.contrast


@pytest.mark.parametrize("radius", [0.2, 0.4, 0.6])
def test_lesion_share_is_the_share_of_the_disc(radius):
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    r = np.hypot(x, y)
    luma = np.where(r < radius, 0.3, 0.8) + np.random.default_rng(0).normal(0, 0.03, r.shape)
    luma = np.where(r > 1.05, 0, luma).clip(0, 1)  # the lens's black corners do not count
    assert abs(statistics.lesion_share(luma[None])[0] - radius**2) < 0.02


def test_constant_images_have_finite_statistics():
    for value in (0, 255):
        assert np.isfinite(statistics.image_statistics(np.full((2, 8, 8, 3), value, np.uint8)).to_numpy()).all()


def test_the_index_carries_the_statistics_of_its_pixels(dataset):
    shards = P_shards.Shards(dataset / "train")
    want = statistics.image_statistics(shards[:])
    assert np.allclose(shards.index[list(statistics.STATISTICS)], want, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(8, 64))
def test_sketch_keeps_every_unit_of_weight_and_the_ranks(values, k):
    found = statistics.sketch(np.array(values), k)
    assert sum(len(level) * 2**i for i, level in enumerate(found["data"])) == len(values)
    at, share = statistics.sketch_cdf(found)
    exact = np.searchsorted(np.sort(values), at, "right") / len(values)
    assert (np.diff(share) > 0).all() and share[-1] == pytest.approx(1)
    assert (share - exact).max() < 4 / k


def test_baseline_is_in_model_monitors_format(dataset, tmp_path):
    index = P_shards.Shards(dataset / "train").index
    statistics.write_baseline(index, tmp_path)
    found, rules = read_json(tmp_path / Files.STATISTICS), read_json(tmp_path / Files.CONSTRAINTS)
    assert found["version"] == rules["version"] == 0.0 and found["dataset"] == dict(item_count=len(index))
    assert (
        [f["name"] for f in found["features"]] == [f["name"] for f in rules["features"]] == list(statistics.STATISTICS)
    )
    for f, rule in zip(found["features"], rules["features"]):
        x, n = index[f["name"]], f["numerical_statistics"]
        assert set(f) == {"name", "inferred_type", "numerical_statistics"} and f["inferred_type"] == "Fractional"
        assert set(n) == {"common", "mean", "sum", "std_dev", "min", "max", "distribution"}
        assert n["common"] == dict(num_present=len(x), num_missing=0)
        assert (n["mean"], n["min"], n["max"]) == pytest.approx((x.mean(), x.min(), x.max()))
        assert n["std_dev"] == pytest.approx(x.std(ddof=0)) and n["sum"] == pytest.approx(x.sum())
        kll = n["distribution"]["kll"]
        assert len(kll["buckets"]) == 10 and sum(b["count"] for b in kll["buckets"]) == len(x)
        assert set(kll["buckets"][0]) == {"lower_bound", "upper_bound", "count"}
        assert kll["sketch"]["parameters"] == dict(c=0.64, k=2048.0)
        assert rule["completeness"] == 1.0 and rule["num_constraints"] == dict(is_non_negative=True)
    config = rules["monitoring_config"]
    assert config["distribution_constraints"]["comparison_threshold"] == 0.1
    assert config["evaluate_constraints"] == config["emit_metrics"] == "Enabled"


def test_statistics_of_text_whole_numbers_and_gaps():
    table = pd.DataFrame(dict(sex=["male", "female", None, "male"], n=[1, 2, 3, 4], age=[40.0, np.nan, -1, 2]))
    sex, n, age = statistics.dataset_statistics(table)["features"]
    assert (sex["inferred_type"], n["inferred_type"], age["inferred_type"]) == ("String", "Integral", "Fractional")
    assert sex["string_statistics"]["common"] == dict(num_present=3, num_missing=1)
    assert sex["string_statistics"]["distinct_count"] == 2
    rules = statistics.suggest_constraints(statistics.dataset_statistics(table))["features"]
    assert rules[0]["string_constraints"] == dict(domains=["female", "male"])
    assert rules[2]["completeness"] == 0.75 and rules[2]["num_constraints"] == dict(is_non_negative=False)
    empty = statistics.dataset_statistics(table.iloc[:0])
    assert json.dumps(statistics.suggest_constraints(empty))


# The step -------------------------------------------------------------------------------------------------------------


def launch(out: Path, **parameters) -> subprocess.CompletedProcess:
    "Run the step as a job does."
    given = [str(x) for p in parameters.items() for x in ("-p", *p)]
    command = [sys.executable, "-m", "skin_lesion_mlops.pipeline.launch", "preprocess", "--out", str(out), *given]
    return forks.run(command, capture_output=True, text=True)


def test_the_step_states_its_parameters():
    schema = parameters_of(STEP)
    want = dict(image_size="int", seed="int", max_quarantine_share="float", workers="int", input_raw="str")
    want.update(classes="str", input_classes="str", input_tested="str")
    want.update({f"output_{s}": "str" for s in (*SPLITS, "baseline", "tested")})
    assert {n: p.type for n, p in schema.items()} == want and all(p.help for p in schema.values())
    assert (schema["image_size"].default, schema["workers"].default, schema["input_raw"].default) == (224, 0, "")
    assert schema["seed"].default == DEFAULT_SEED


def test_the_step_refuses_an_unknown_parameter(tmp_path):
    done = launch(tmp_path, imagesize=64)
    assert done.returncode == 1 and "unknown parameter imagesize" in done.stderr and not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("step")
    create_dataset(tmp / "raw", n=140, seed=11, bad=1, odd=1, size=(120, 90))
    outputs = {f"output_{s}": tmp / s for s in (*SPLITS, "baseline")}
    done = launch(tmp / "report", input_raw=tmp / "raw", image_size=32, max_quarantine_share=0.2, workers=2, **outputs)
    assert done.returncode == 0, done.stderr[-3000:]
    return tmp


def test_the_step_writes_all_it_promises(step):
    report = {p.name for p in (step / "report").iterdir()}
    assert report == {
        "preprocess.ipynb",
        "preprocess.html",
        Files.RECEIPT,
        Files.SPLIT,
        Files.QUARANTINE,
    }
    assert read_json(step / "report" / Files.RECEIPT)["status"] == "Succeeded"
    assert set(read_json(step / "report" / Files.RECEIPT)["outputs"]) == {f"output_{s}" for s in (*SPLITS, "baseline")}
    assert {p.name for p in (step / "baseline").iterdir()} == {
        Files.STATISTICS,
        Files.CONSTRAINTS,
        Files.DATASET,
        Files.LEARNED,
    }
    split = pd.read_csv(step / "report" / Files.SPLIT)
    assert list(split) == ["image_id", "lesion_id", "group", "dx", "split"]
    assert (split.groupby("group").split.nunique() == 1).all() and (
        split.groupby("lesion_id").split.nunique() == 1
    ).all()
    for s in SPLITS:
        assert set(P_shards.Shards(step / s).index.image_id) == set(split.image_id[split.split == s])
    assert split.image_id.str.startswith("ODD").sum() == 5  # odd files came through
    assert not split.image_id.str.contains("truncated|empty_file|too_large|not_an_image|label_|no_row").any()


def test_the_step_reports_what_it_left_out(step):
    left = pd.read_csv(step / "report" / Files.QUARANTINE, keep_default_na=False)
    page = (step / "report" / "preprocess.html").read_text()
    for reason in left.reason.unique():
        assert reason in page
    assert {"truncated", "not_an_image", "empty_file", "label_missing", "label_unknown"} <= set(left.reason)
    assert left.detail.str.len().min() > 5
    assert P_shards.Shards(step / "train").contract["quarantined"] == len(left)


def test_a_folder_with_too_many_broken_files_stops_the_step(step, tmp_path):
    done = launch(tmp_path, input_raw=step / "raw", max_quarantine_share=0.01, output_train=tmp_path / "train")
    receipt = read_json(tmp_path / Files.RECEIPT)
    assert done.returncode == 1 and re.search(r"max_quarantine_share=1.0%: \d+ [a-z_]+", done.stderr)
    assert receipt["status"] == "Failed" and "cannot be used" in receipt["error"]["message"]
    assert (tmp_path / Files.QUARANTINE).exists() and (tmp_path / "preprocess.html").exists()  # the evidence is kept
    assert not (tmp_path / "train").exists()


def test_real_ham10000_goes_through_the_one_route(ham10000_600x450):
    paths = sorted(ham10000_600x450.rglob("*.jpg"))[:8]
    pixels = np.stack([pictures.read_pixels(p, 224) for p in paths])
    want = [np.asarray(Image.open(p).resize((224, 224), Image.Resampling.BILINEAR)) for p in paths]
    assert (pixels == np.stack(want)).all()
    assert statistics.image_statistics(pixels).lesion_share.between(0.01, 0.9).all()
