"The generated data set: what other tests, the demo and the notebooks rely on."

import hashlib
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skin_lesion_mlops.core import SkinLesionError
from skin_lesion_mlops.taxonomy import HAM10000
from skin_lesion_mlops.data import synthetic


def bytes_of(root: Path) -> dict:
    "Relative path -> hash of every file below a folder."
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def ham(tmp_path_factory) -> Path:
    return synthetic.create_dataset(tmp_path_factory.mktemp("ham"), n=84, seed=7, bad=2, odd=1)


def test_same_seed_same_bytes(tmp_path):
    a, b, c = (synthetic.create_dataset(tmp_path / k, n=14, seed=s) for k, s in (("a", 1), ("b", 1), ("c", 2)))
    assert bytes_of(a) == bytes_of(b)
    assert not set(bytes_of(a).values()) & set(bytes_of(c).values())


@pytest.mark.parametrize("n", [7, 60, 600, 3000])
def test_plan_keeps_its_promises(n):
    table = synthetic.plan_dataset(n, seed=n)
    lesions = table.groupby("lesion_id")
    assert len(table) == n and table.image_id.is_unique and set(table.dx) == set(HAM10000.codes)
    assert (lesions.dx.nunique() == 1).all() and (lesions[["age", "sex", "localization"]].nunique() <= 1).all().all()
    twins = table.groupby(["painting", "view"]).lesion_id.nunique()
    assert (twins > 1).sum() == n // 150  # paintings filed under two lesions
    if n >= 600:
        assert table.groupby("dx").lesion_id.nunique().min() >= 8
        assert (table.dx == "nv").mean() > 0.3 and lesions.size().gt(1).mean() > 0.15
        assert table.groupby("dx").age.mean()["nv"] < table.groupby("dx").age.mean()["bcc"] - 10
        assert table.age.isna().any() and (table.sex == "unknown").any()


def test_ham10000_layout(ham):
    rows = pd.read_csv(ham / "HAM10000_metadata.csv", keep_default_na=False)
    assert list(rows) == ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    files = {p.stem for p in ham.glob("HAM10000_images_part_[12]/*")}
    assert set(rows.image_id) - files == {n for n in rows.image_id if "no_image" in n}
    assert files - set(rows.image_id) == {n for n in files if "no_row" in n}
    assert len(list(ham.glob("HAM10000_images_part_1/SYN*"))) + len(list(ham.glob("HAM10000_images_part_2/SYN*"))) == 84


def test_isic_and_folder_layouts_hold_the_same_pictures(tmp_path):
    ham, isic, folders = (synthetic.create_dataset(tmp_path / k, n=14, seed=5, layout=k) for k in synthetic.LAYOUTS)
    pictures = [{k.rsplit("/")[-1]: v for k, v in bytes_of(d).items() if "SYN" in k} for d in (ham, isic, folders)]
    assert pictures[0] == pictures[1] == pictures[2] and len(pictures[0]) == 14
    truth = pd.read_csv(isic / "ISIC2018_Task3_Training_GroundTruth.csv").set_index("image")
    labels = {p.stem: p.parent.name for p in folders.rglob("*.jpg")}
    assert (truth.sum(axis=1) == 1).all() and truth.idxmax(axis=1).str.lower().to_dict() == labels
    assert {"isic_id", "diagnosis_3", "age_approx"} <= set(pd.read_csv(isic / "metadata.csv"))


@pytest.mark.parametrize("reason", synthetic.BAD)
def test_every_kind_of_broken_file_is_broken(ham, reason):
    rows = pd.read_csv(ham / "HAM10000_metadata.csv", keep_default_na=False)
    files = sorted(p for p in ham.rglob(f"BAD_*_{reason}.*"))
    mine = rows[rows.image_id.str.endswith(reason)]
    assert len(files) == (0 if reason == "no_image" else 2)
    assert len(mine) == {"no_row": 0, "duplicate_id": 4}.get(reason, 2)
    for f in files:
        if reason in ("truncated", "not_an_image", "empty_file", "too_large"):
            with pytest.raises((OSError, Image.DecompressionBombError)):
                Image.open(f).load()
        else:
            Image.open(f).load()
    if reason.startswith("label"):
        assert not set(mine.dx) & set(HAM10000.codes)


def test_odd_files_are_sound(ham):
    modes = {f.stem.split("_", 2)[2]: Image.open(f).mode for f in ham.rglob("ODD_*")}
    assert modes == dict(cmyk="CMYK", alpha="RGBA", sixteen_bit="I;16", grey="L", rotated="RGB")
    rotated = Image.open(next(ham.rglob("ODD_*_rotated.jpg")))
    assert rotated.getexif()[0x0112] == 6 and rotated.getexif().get_ifd(0x8825)  # turned, and it knows where it was


def test_classes_can_be_told_apart_but_not_by_brightness_alone():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import cross_val_score

    images = [
        np.asarray(synthetic.photograph(synthetic.draw_lesion(d, [i, k], 172), [i, k], (150, 112)), float)
        for k, d in enumerate(HAM10000.codes)
        for i in range(24)
    ]
    labels = np.repeat(HAM10000.codes, 24)
    middle = [i[30:82, 40:110].reshape(-1, 3) for i in images]
    colour = np.array([np.r_[m.mean(0), m.std(0), np.percentile(m, (5, 95), axis=0).ravel()] for m in middle])
    grey = np.array([[m.mean()] for m in middle])
    lda = LinearDiscriminantAnalysis()
    assert cross_val_score(lda, colour, labels, cv=4).mean() > 0.45  # chance is 0.14
    assert cross_val_score(lda, grey, labels, cv=4).mean() < 0.45


def test_a_thousandth_image_costs_no_more_than_the_first(tmp_path):
    synthetic.create_dataset(tmp_path / "warm", n=7)
    start = time.process_time()
    synthetic.create_dataset(tmp_path / "d", n=70)
    assert (time.process_time() - start) / 70 < 0.15  # seconds an image; about 0.025 on a quiet core


@pytest.mark.parametrize("wrong", [dict(n=6), dict(layout="dicom")])
def test_refusals_name_the_remedy(tmp_path, wrong):
    with pytest.raises(SkinLesionError, match="->"):
        synthetic.create_dataset(tmp_path, **wrong)
