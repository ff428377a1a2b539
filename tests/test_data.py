"Reading, checking, grouping and splitting: on made-up folders, on random tables, and on all of HAM10000."

import io
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skin_lesion_mlops.core import SPLITS, SkinLesionError
from skin_lesion_mlops.data.check import check
from skin_lesion_mlops.data.duplicates import near_duplicates
from skin_lesion_mlops.data.pictures import NEAR, BadImage, decode_image, decode_sized, open_image, perceptual_hash
from skin_lesion_mlops.data.sources import survey
from skin_lesion_mlops.taxonomy import HAM10000
from skin_lesion_mlops.data.split import (
    ENOUGH,
    QUOTA,
    assign_groups,
    class_balance,
    note_tested,
    split,
    lesions_tested_before,
)


def photo(seed: int = 0, size: tuple = (80, 60)) -> Image.Image:
    "A smooth random picture: no two seeds look alike."
    r = np.random.default_rng(seed)
    return Image.fromarray(r.integers(0, 255, (30, 40, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)


def write(path: Path, seed: int = 0, **kw) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    photo(seed).save(path, **kw)
    return path


# ---- layouts


def test_ham10000_layout(tmp_path):
    for i in range(4):
        write(tmp_path / f"HAM10000_images_part_{1 + i % 2}" / "deep" / f"ISIC_{i}.jpg", i)
    (tmp_path / "HAM10000_metadata.csv").write_text(
        "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
        "HAM_1,ISIC_0,bkl,histo,80.0,male,scalp\nHAM_1,ISIC_1,bkl,histo,80.0,male,scalp\n"
        "HAM_2,ISIC_2,nv,follow_up,,unknown,\nHAM_3,ISIC_3,mel,histo,45,female,back\n"
    )
    rows = survey(tmp_path).rows
    assert list(rows["dx"]) == ["bkl", "bkl", "nv", "mel"] and set(rows["source"]) == {"ham10000"}
    assert np.isnan(rows["age"][2]) and rows["localization"][2] == "unknown" and rows["lesion_id"][0] == "HAM_1"
    assert check(tmp_path).quarantine.empty


def test_isic_archive_layout(tmp_path):
    labels = [
        ("Benign", "Nevus"),
        ("Malignant", "Melanoma, NOS"),
        ("Benign", "Seborrheic keratosis"),
        ("Benign", "Wart"),
    ]
    lines = ["isic_id,age_approx,anatom_site_general,diagnosis_1,diagnosis_3,lesion_id,sex"]
    for i, (first, third) in enumerate(labels):
        write(tmp_path / f"ISIC_{i}.jpg", i)
        lines.append(f'ISIC_{i},{40 + i},anterior torso,{first},"{third}",{"IL_7" if i == 0 else ""},female')
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    rows = survey(tmp_path).rows
    assert list(rows["dx"]) == ["nv", "mel", "bkl", ""] and list(rows["lesion_id"]) == [
        "IL_7",
        "ISIC_1",
        "ISIC_2",
        "ISIC_3",
    ]
    assert list(rows["age"]) == [40, 41, 42, 43] and set(rows["localization"]) == {"anterior torso"}
    assert list(check(tmp_path).quarantine["detail"]) == ["'Wart' is not in the class table"]


def test_challenge_ground_truth(tmp_path):
    for i in range(3):
        write(tmp_path / "images" / f"ISIC_{i}.jpg", i)
    (tmp_path / "truth.csv").write_text(
        "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\nISIC_0,1.0,0,0,0,0,0,0\nISIC_1,0,0,0,0,0,0,1.0\nISIC_2,0,0,0,0,0,0,0\n"
    )
    (tmp_path / "meta.csv").write_text("image,age_approx,sex,lesion_id\nISIC_0,50,male,L0\nISIC_1,,female,L1\n")
    rows = survey(tmp_path).rows
    assert list(rows["dx"]) == ["mel", "vasc", ""] and list(rows["sex"]) == ["male", "female", "unknown"]
    assert list(check(tmp_path).quarantine["reason"]) == ["label_missing"]


def test_folder_per_class(tmp_path):
    for i, place in enumerate(("train/nevus", "train/melanoma", "test/basal_cell_carcinoma", "test/nevus")):
        write(tmp_path / place / "1.jpg", i)
    write(tmp_path / "train" / "nevus" / "only.jpg", 9)
    rows = survey(tmp_path).rows
    assert sorted(rows["dx"]) == ["bcc", "mel", "nv", "nv", "nv"] and rows["image_id"].is_unique
    assert "only" in set(rows["image_id"]) and check(tmp_path).source == "folders"


@pytest.mark.parametrize("make, words", [(lambda d: None, "no images"), (lambda d: write(d / "a.jpg"), "no labels")])
def test_a_folder_that_is_no_data_set(tmp_path, make, words):
    make(tmp_path)
    with pytest.raises(SkinLesionError, match=words):
        survey(tmp_path)


@pytest.mark.parametrize("encoding, separator", [("utf-8-sig", ","), ("latin-1", ","), ("utf-8", ";"), ("utf-8", "\t")])
def test_csv_as_spreadsheets_write_it(tmp_path, encoding, separator):
    write(tmp_path / "ISIC_0.jpg")
    text = "Image_ID,DX,Localization\nISIC_0,nv,Rücken\n".replace(",", separator)
    (tmp_path / "metadata.csv").write_bytes(text.encode(encoding))
    rows = survey(tmp_path).rows
    assert list(rows["dx"]) == ["nv"] and list(rows["image_id"]) == ["ISIC_0"]


# ---- images


def as_bytes(im: Image.Image, **kw) -> bytes:
    out = io.BytesIO()
    im.save(out, **{"format": "PNG", **kw})
    return out.getvalue()


JPEG = as_bytes(photo(), format="JPEG")
BROKEN = {
    "empty_file": b"",
    "truncated": JPEG[: len(JPEG) * 2 // 3],
    "not_an_image": b"%PDF-1.4 not a picture",
    "too_large": as_bytes(Image.new("1", (20_000, 10_000))),
    "too_small": as_bytes(Image.new("RGB", (20, 20))),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_broken_files_go_to_quarantine_with_their_reason(tmp_path, reason):
    write(tmp_path / "nv" / "good.jpg")
    (tmp_path / "nv" / "bad.jpg").write_bytes(BROKEN[reason])
    checked = check(tmp_path)
    assert list(checked.rows["image_id"]) == ["good"]
    assert list(checked.quarantine["reason"]) == [reason] and checked.quarantine["detail"][0]


@pytest.mark.parametrize("cut", range(2, len(JPEG), 97))
def test_no_cut_of_a_file_escapes(cut):
    with pytest.raises(BadImage):
        open_image(io.BytesIO(JPEG[:cut]))
    with pytest.raises(BadImage):
        decode_image(io.BytesIO(JPEG[:cut]), side=30)


def test_the_whole_file_is_decoded_at_half_its_size():
    image, extent = decode_sized(io.BytesIO(JPEG), side=30)
    assert image.size == (40, 30) and extent == (80, 60)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(JPEG) - 1), st.integers(0, 255))
def test_a_flipped_byte_gives_pixels_or_a_reason(place, value):
    data = bytearray(JPEG)
    data[place] = value
    try:
        assert open_image(io.BytesIO(bytes(data))).mode == "RGB"
    except BadImage as e:
        assert e.reason and e.detail


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "RGBA", "LA", "I;16", "F"])
def test_every_mode_becomes_rgb(mode):
    if mode == "I;16":
        im = Image.fromarray(np.asarray(photo().convert("L")).astype(np.uint16) * 257)
    elif mode == "P":
        im = photo().quantize(64)
    else:
        im = photo().convert(mode)
    kind = "TIFF" if mode in ("CMYK", "YCbCr", "F") else "PNG"
    out = open_image(io.BytesIO(as_bytes(im, format=kind)))
    assert out.mode == "RGB" and out.size == im.size
    grey, wanted = np.asarray(out.convert("L"), float), np.asarray(photo().convert("L"), float)
    if mode != "1":
        assert np.abs(grey - wanted).mean() < 12


def test_nothing_but_pixels_survives():
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9286] = 6, "Clinic of Dr. Smith", "Jane Doe, born 1970"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 30.0)})
    data = as_bytes(photo(), format="JPEG", exif=exif, comment=b"patient 4711")
    assert b"Jane Doe" in data and b"4711" in data
    out = open_image(io.BytesIO(data))
    assert out.size == (60, 80), "the orientation is applied"
    assert not out.info and not out.getexif() and b"Jane" not in as_bytes(out, format="JPEG")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    outside = write(tmp_path / "elsewhere" / "secret.jpg", 5)
    write(tmp_path / "data" / "nv" / "mine.jpg")
    (tmp_path / "data" / "nv" / "link.jpg").symlink_to(outside)
    checked = check(tmp_path / "data")
    assert list(checked.rows["image_id"]) == ["mine"]
    assert list(checked.quarantine["reason"]) == ["outside_folder"]


def test_workers_do_not_change_the_answer(tmp_path):
    for i in range(210):
        write(tmp_path / "nv" / f"{i}.jpg", i)
    (tmp_path / "nv" / "bad.jpg").write_bytes(BROKEN["truncated"])
    one, two = check(tmp_path, workers=1), check(tmp_path, workers=2)
    pd.testing.assert_frame_equal(one.rows, two.rows)
    pd.testing.assert_frame_equal(one.quarantine, two.quarantine)


def test_too_much_quarantine_stops(tmp_path):
    write(tmp_path / "nv" / "good.jpg")
    (tmp_path / "nv" / "bad.jpg").write_bytes(b"")
    with pytest.raises(SkinLesionError, match=r"50.0% .* \(1 empty_file\); the limit is 5.0%"):
        check(tmp_path, limit=0.05)


# ---- near-duplicates


@pytest.mark.parametrize("turn", [None, *Image.Transpose])
def test_copies_are_found_in_every_orientation(turn):
    first, other = photo(1, (240, 180)), photo(2, (240, 180))
    copy = (first.transpose(turn) if turn is not None else first).resize((150, 110))
    copy = Image.open(io.BytesIO(as_bytes(copy, format="JPEG", quality=60)))
    hashes = [perceptual_hash(im) for im in (first, copy, other)]
    pairs = near_duplicates(pd.DataFrame(dict(image_id=list("abc"), phash=hashes)))
    assert list(zip(pairs["image_id_a"], pairs["image_id_b"])) == [("a", "b")]


def test_blocks_do_not_change_the_answer():
    hashes = [perceptual_hash(photo(i % 30)) for i in range(90)]
    rows = pd.DataFrame(dict(image_id=[f"{i:02}" for i in range(90)], phash=hashes))
    whole, parts = near_duplicates(rows), near_duplicates(rows, block=7)
    assert len(whole) == 90
    assert set(map(tuple, whole.to_numpy())) == set(map(tuple, parts.to_numpy()))


# ---- groups and splits

tables = st.lists(st.tuples(st.integers(0, 40), st.sampled_from(HAM10000.codes)), min_size=1, max_size=80).map(
    lambda xs: pd.DataFrame(
        dict(
            image_id=[f"I{i}" for i in range(len(xs))],
            lesion_id=[f"L{lesion}" for lesion, _ in xs],
            dx=[dx for _, dx in xs],
        )
    )
)


def pairs_of(rows: pd.DataFrame, links: list) -> pd.DataFrame:
    n = len(rows)
    named = [(rows["image_id"][a % n], rows["image_id"][b % n]) for a, b in links]
    return pd.DataFrame(named, columns=["image_id_a", "image_id_b"])


links = st.lists(st.tuples(st.integers(0, 79), st.integers(0, 79)), max_size=15)


@given(tables, links, st.integers(0, 2**31))
def test_no_lesion_and_no_pair_is_divided(rows, links, seed):
    pairs = pairs_of(rows, links)
    out = split(rows.assign(group=assign_groups(rows, pairs)), seed)
    assert set(out["split"]) <= set(SPLITS)
    assert (out.groupby("lesion_id")["split"].nunique() == 1).all()
    side = out.set_index("image_id")["split"]
    assert all(side[a] == side[b] for a, b in zip(pairs["image_id_a"], pairs["image_id_b"]))


@given(tables, tables, links, links)
def test_what_is_in_test_stays_in_test(old, new, some, more):
    new = new.assign(image_id="N" + new["image_id"])
    both = pd.concat([new, old], ignore_index=True)
    before = split(old.assign(group=assign_groups(old, pairs_of(old, some))))
    pairs = pd.concat([pairs_of(old, some), pairs_of(both, more)])
    after = split(both.assign(group=assign_groups(both, pairs))).set_index("image_id")["split"]
    tested = before.loc[before["split"] == "test", "image_id"]
    assert (after[tested] == "test").all()


# a class, how many lesions of it come, how many of them make one patient, and which earlier picture a new one repeats
arrivals = st.tuples(st.sampled_from(("df", "mel", "nv")), st.integers(1, 60), st.integers(1, 4), st.integers(-3, 40))


def grow(rows, month, arrival):
    "A data set with what arrived, each lesion in one or two pictures."
    dx, n, together, _ = arrival
    each = [i // 2 if i % 3 else i for i in range(n)]
    new = pd.DataFrame(dict(image_id=[f"{month}-{i}" for i in range(n)], lesion_id=[f"{month}L{i}" for i in each]))
    new = new.assign(patient_id=[f"{month}P{i // together}" if together > 1 else "" for i in each], dx=dx)
    return pd.concat([rows, new.assign(sha256="sha " + new.image_id)], ignore_index=True)


@given(st.lists(arrivals, min_size=2, max_size=6), st.integers(0, 3), st.booleans())
@settings(max_examples=25)
def test_what_was_ever_in_test_is_never_trained_on(months, seed, again):
    "However a data set grows, run by run, each run knowing only the folder that the runs before it wrote."
    with tempfile.TemporaryDirectory() as memory:
        rows, pairs, tested = pd.DataFrame(), pd.DataFrame(columns=["image_id_a", "image_id_b"]), set()
        for month, arrival in enumerate(months):
            rows = grow(rows, month, arrival)
            twin = (f"{month}-0", rows.image_id[arrival[3] % len(rows)])
            pairs = pd.concat([pairs, pd.DataFrame([twin], columns=list(pairs))]) if arrival[3] > 0 else pairs
            known = lesions_tested_before(rows, seed, memory)
            out = split(rows.assign(group=assign_groups(rows, pairs)), seed, known)
            note_tested(memory, out, seed, known)
            sides = out.set_index("image_id").split
            tested |= {*sides.index[sides == "test"]}
            assert "train" not in {*sides[[*tested]]}
            lesions = out.drop_duplicates(["lesion_id", "dx"])
            quota = pd.crosstab(lesions.dx, lesions.split).reindex(columns=list(SPLITS), fill_value=0)
            alone = out.groupby("group").lesion_id.nunique().max() == 1  # else a class may be few groups
            assert not alone or (quota.test[quota.sum(axis=1) >= ENOUGH] >= QUOTA).all()
        if again:  # the same data again: the same split, and nothing new to note
            before = sorted(Path(memory).iterdir())
            same = split(out.drop(columns="split"), seed, lesions_tested_before(rows, seed, memory))
            assert (same.set_index("image_id").split == sides).all()
            note_tested(memory, same, seed, lesions_tested_before(rows, seed, memory))
            assert len({*Path(memory).iterdir()} - {*before}) <= 1


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_another_seed_and_another_data_set_know_nothing_of_it(seed):
    first = grow(pd.DataFrame(), 0, ("df", 60, 1, 0))
    with tempfile.TemporaryDirectory() as memory:
        note_tested(memory, split(first, seed), seed)
        assert lesions_tested_before(first, seed, memory) and not lesions_tested_before(first, seed + 1, memory)
        others = first.assign(sha256="another picture, of the same name")
        assert not lesions_tested_before(others, seed, memory) and not lesions_tested_before(first, seed)


@given(tables, st.randoms())
def test_order_does_not_matter(rows, random):
    order = list(rows.index)
    random.shuffle(order)
    a, b = (split(r).set_index("image_id")["split"] for r in (rows, rows.loc[order]))
    assert (a == b[a.index]).all()


@given(st.integers(0, 2**31))
def test_every_class_is_in_validation(seed):
    rows = pd.DataFrame(dict(image_id=range(140), lesion_id=[f"L{i // 2}" for i in range(140)]))
    rows = rows.assign(dx=[HAM10000.codes[(i // 2) % 7] for i in range(140)])
    assert (class_balance(split(rows, seed))["validation"] == 2).all()


# ---- the real thing


def test_all_of_ham10000(ham10000):
    "No lesion and none of the 18 published cross-lesion duplicates is on two sides of the split."
    checked = check(ham10000)
    assert len(checked.rows) == 10_015 and checked.quarantine.empty and checked.source == "ham10000"
    rows = checked.rows
    pairs = near_duplicates(rows)
    out = split(rows.assign(group=assign_groups(rows, pairs)))
    assert (out.groupby("lesion_id")["split"].nunique() == 1).all()
    side = out.set_index("image_id")["split"]
    listed = pd.read_csv(next(Path(ham10000).glob("*duplicates.csv")))
    assert len(listed) == 18
    assert all(side[a] == side[b] for a, b in zip(listed["image_id_a"], listed["image_id_b"]))
    balance = class_balance(out)
    share = balance[["validation", "test"]].div(balance[list(SPLITS)].sum(axis=1), axis=0)
    assert (share["test"] - 0.1).abs().max() < 0.015 and (share["validation"] - 0.1).abs().max() < 0.01, share

    # what the hash finds by itself: copies, and one of the eighteen re-photographed lesions
    found = pairs[pairs["distance"] >= 0]
    lesion = rows.set_index("image_id")["lesion_id"]
    across = found[lesion[found["image_id_a"]].to_numpy() != lesion[found["image_id_b"]].to_numpy()]
    known = {frozenset(p) for p in zip(listed["image_id_a"], listed["image_id_b"])}
    alone = known & {frozenset(p) for p in zip(across["image_id_a"], across["image_id_b"])}
    assert NEAR == 35 and len(alone) == 1 and len(across) <= 5
