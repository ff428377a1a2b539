"Other people's folders: their tables, their names, their words, and what lies beside the pictures."

import csv
import errno
import io
import json
import os
import re
import struct
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from skin_lesion_mlops.cli.app import app
from skin_lesion_mlops.cli.data import describe_folder, folder_summary
from skin_lesion_mlops.core import SPLITS, SkinLesionError
from skin_lesion_mlops.data import sources
from skin_lesion_mlops.data.check import ASIDE, check
from skin_lesion_mlops.data.duplicates import _search_faiss, _search_numpy, find_spec, near_duplicates
from skin_lesion_mlops.data.folders import Names
from skin_lesion_mlops.data.labels import ALIASES
from skin_lesion_mlops.data.pictures import BadImage, open_image, oriented_signs
from skin_lesion_mlops.data.shards import write_dataset
from skin_lesion_mlops.data.sources import survey
from skin_lesion_mlops.data.split import class_balance, note_tested, split, lesions_tested_before
from skin_lesion_mlops.data.tables import SEPARATORS, read_age, read_table
from skin_lesion_mlops.evaluation.predictions import create_predictions
from skin_lesion_mlops.taxonomy import read_taxonomy

quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def photo(seed: int, size: tuple = (60, 45)) -> Image.Image:
    "A smooth random picture: no two seeds look alike."
    noise = np.random.default_rng(seed).integers(0, 255, (20, 27, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def put(path: Path, seed: int, **kw) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    photo(seed, **kw).save(path)
    return path


def rows_by_name(folder: Path, **kw) -> dict:
    rows = check(folder, workers=1, limit=None, **kw).rows
    return dict(zip(rows.image_id, rows.dx))


# ---- tables

letters = st.text("abcXYZ019 äöüßé_.", min_size=1, max_size=7).map(str.strip).filter(lambda w: len(w) > 2)
tables = st.lists(st.tuples(letters, letters, letters), min_size=1, max_size=12)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252")


def written(rows: list, encoding: str, separator: str, end: str, quoting: int) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator=end, quoting=quoting).writerows(
        [("Image ID", "dx", "note"), *rows]
    )
    return out.getvalue().encode(encoding)


@quick
@given(
    tables,
    st.sampled_from(ENCODINGS),
    st.sampled_from(SEPARATORS),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_a_table_is_read_however_it_is_written(tmp_path, rows, encoding, separator, end, quoting):
    path = tmp_path / "t.csv"
    path.write_bytes(written(rows, encoding, separator, end, quoting))
    found = read_table(path)
    assert not found.broken and not found.notes and list(found.rows) == ["image_id", "dx", "note", "line"]
    assert [tuple(r) for r in found.rows[["image_id", "dx", "note"]].to_numpy()] == rows


@quick
@given(tables, st.lists(st.integers(0, 11), min_size=1, max_size=3, unique=True), st.sampled_from(",;\t"))
def test_a_broken_line_is_quoted_and_the_others_are_read(tmp_path, rows, which, separator):
    which = sorted({w % len(rows) for w in which})
    rows = [(*r, "left") if i in which else r for i, r in enumerate(rows)]
    path = tmp_path / "t.csv"
    path.write_bytes(written(rows, "utf-8", separator, "\n", csv.QUOTE_MINIMAL))
    found = read_table(path)
    assert [b.line for b in found.broken] == [w + 2 for w in which] and len(found.rows) == len(rows) - len(which)
    assert all(f"t.csv, line {b.line}: 4 fields instead of 3" in str(b) and "left" in str(b) for b in found.broken)


TITLED = "Clinic of dermatology{0}\nexported 2026-11-26\n\nimage{1}dx{1}age\n"


@pytest.mark.parametrize("padding, separator", [("", ";"), (",,", ","), (";;", ";")])
def test_a_title_above_the_header_is_passed_over(tmp_path, padding, separator):
    rows = [separator.join((f"{i}", dx, "50")) for i, dx in enumerate(("nv", "mel", "bcc"))]
    for i in range(3):
        put(tmp_path / f"{i}.jpg", i)
    (tmp_path / "export.csv").write_text(TITLED.format(padding, separator) + "\n".join(rows))
    assert rows_by_name(tmp_path) == {"0": "nv", "1": "mel", "2": "bcc"}


DESCRIBED = {f"ISIC_{i}": dx for i, dx in enumerate(("nevus", "melanoma", "dermatofibroma"))}


def described(name: str) -> dict:
    "A picture as the older archive described it."
    clinical = dict(age_approx=45, benign_malignant="benign", diagnosis=DESCRIBED[name], melanocytic=True, sex="male")
    return dict(_id="5436e3a", name=name, creator=dict(name="User 8"), meta=dict(acquisition={}, clinical=clinical))


@pytest.mark.parametrize("how", ["a file each", "beside the picture", "a list", "lines", "by name"])
def test_descriptions_in_json_are_read(tmp_path, how):
    for i, name in enumerate(DESCRIBED):
        put(tmp_path / "Images" / f"{name}.jpg", i)
    told = [described(name) for name in DESCRIBED]
    (tmp_path / "Descriptions").mkdir()
    if how in ("a file each", "beside the picture"):
        for t in told:
            name = t["name"] if how == "a file each" else t.pop("name")
            place = "Descriptions/{}" if how == "a file each" else "Images/{}.json"
            (tmp_path / place.format(name)).write_text(json.dumps(t))
    else:
        text = {"a list": told, "by name": {t["name"]: t for t in told}}.get(how)
        whole = json.dumps(text) if text else "\n".join(map(json.dumps, told))
        (tmp_path / "metadata.json").write_text(whole)
    found = check(tmp_path, workers=1)
    assert dict(zip(found.rows.image_id, found.rows.dx)) == dict(ISIC_0="nv", ISIC_1="mel", ISIC_2="df")
    assert set(found.rows.age) == {45} and set(found.rows.sex) == {"male"} and found.quarantine.empty


def test_json_that_describes_nothing_is_no_harm(tmp_path):
    put(tmp_path / "mel" / "1.jpg", 1)
    (tmp_path / "cut.json").write_text('{"name": "1", ')
    for name, text in (("empty", "[]"), ("coco", '{"images": [{"id": 1}], "info": {"year": 2026}}'), ("number", "7")):
        (tmp_path / f"{name}.json").write_text(text)
    found = check(tmp_path, workers=1)
    assert len(found.rows) == 1 and any("cut.json is not JSON" in n for n in found.found.notes), found.found.notes


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("notes.csv", b"", "notes.csv: is empty; passed over"),
        (
            "log.csv",
            b"step,comment\n1,ok\n2,ok, but late, very late\n",
            "log.csv: no column names a picture (it has step",
        ),
        ("scan.csv", bytes(range(256)) * 9, "scan.csv: is no text; passed over"),
        ("blank.tsv", b"\n\n  \n", "blank.tsv: is empty; passed over"),
        ("labels.xlsx", b"PK", "labels.xlsx is not read: save it as CSV"),
        ("more.zip", b"PK", "more.zip is packed: unpack it"),
    ],
)
def test_a_stray_file_is_passed_over_with_a_note(tmp_path, name, content, words):
    put(tmp_path / "mel" / "a.jpg", 1)
    (tmp_path / name).write_bytes(content)
    found = check(tmp_path, workers=1)
    assert len(found.rows) == 1 and any(n.startswith(words) for n in found.found.notes), found.found.notes


def test_of_a_table_of_pixels_only_the_first_line_is_read(tmp_path, monkeypatch):
    put(tmp_path / "mel" / "1.jpg", 1)
    (tmp_path / "pixels.csv").write_text(",".join(f"pixel{i}" for i in range(2352)) + ",label\n" + "0," * 2352 + "2\n")
    monkeypatch.setattr(sources, "read_table", lambda *a: pytest.fail("it was read whole"))
    assert len(check(tmp_path, workers=1).rows) == 1


def test_what_may_not_be_read_is_a_sentence(tmp_path, monkeypatch):
    put(tmp_path / "mel" / "1.jpg", 1)
    put(tmp_path / "closed" / "2.jpg", 2)
    (tmp_path / "metadata.csv").write_text("image_id,dx\n1,nv\n")
    scandir, real = os.scandir, open

    def refuse(path, *args, **kw):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", lambda p: refuse(p) if Path(p).name == "closed" else scandir(p))
    monkeypatch.setattr(
        "builtins.open", lambda p, *a, **k: (refuse if Path(str(p)).name == "metadata.csv" else real)(p, *a, **k)
    )
    found = check(tmp_path, workers=1)
    assert list(found.rows.dx) == ["mel"] and list(found.quarantine.reason) == ["no_permission"]
    assert any("metadata.csv: cannot be read: Permission denied" in n for n in found.found.notes)


@pytest.mark.parametrize(
    "text, years",
    [("45,0", 45), ("85+", 85), (" >85 ", 85), ("40-49", 44.5), ("6 months", 0.5), ("45 Jahre", 45), ("45.0", 45)]
    + [(t, None) for t in ("", "old", "200", "-3", "1980-05-01", "45 kg")],
)
def test_ages_as_people_write_them(text, years):
    assert read_age(text) == years if years is not None else np.isnan(read_age(text))


def test_ages_that_are_not_read_are_told(tmp_path):
    for i in range(3):
        put(tmp_path / f"{i}.jpg", i)
    (tmp_path / "m.csv").write_text("image_id;dx;age\n0;nv;45,0\n1;nv;about forty\n2;nv;\n")
    assert survey(tmp_path).notes == ["1 ages could not be read, e.g. 'about forty'"]


# ---- discovery and words

EDITIONS = {  # name -> tables, table of classes, what they say of pictures a, b, c
    "2016": ({"p3.csv": "a,benign\nb,malignant\nc,benign\n"}, "benign-malignant", ["benign", "malignant", "benign"]),
    "2017": (
        {"t.csv": "image_id,melanoma,seborrheic_keratosis\na,1.0,0.0\nb,0.0,1.0\nc,0.0,0.0\n"},
        "ham10000",
        ["mel", "bkl", "nv"],
    ),
    "2018": (
        {"t.csv": "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\na,1.0,0,0,0,0,0,0\nb,0,0,0,1.0,0,0,0\nc,0,0,0,0,0,0,1\n"},
        "ham10000",
        ["mel", "akiec", "vasc"],
    ),
    "2019": (
        {"t.csv": "image,MEL,NV,AK,SCC,UNK\na,0,0,1.0,0,0\nb,0,0,0,1.0,0\nc,1.0,0,0,0,0\n"},
        "isic2019",
        ["ak", "scc", "mel"],
    ),
    "2020": (
        {
            "t.csv": "image_name,patient_id,diagnosis,benign_malignant,target\na,IP_1,melanoma,malignant,1\n"
            "b,IP_1,unknown,benign,0\nc,IP_2,nevus,benign,0\n"
        },
        "benign-malignant",
        ["malignant", "benign", "benign"],
    ),
    "2024": (
        {
            "t.csv": "isic_id,target,iddx_full,iddx_1,iddx_3\na,1,Malignant::x,Malignant,Melanoma\n"
            "b,0,Benign,Benign,\nc,0,Benign,Benign,Nevus\n"
        },
        "benign-malignant",
        ["malignant", "benign", "benign"],
    ),
    "archive": (
        {
            "m.csv": 'isic_id,diagnosis_1,diagnosis_2,diagnosis_3,diagnosis_4\na,Malignant,x,"Melanoma, NOS",\n'
            'b,Benign,x,Nevus,"Nevus, Spitz"\nc,Benign,x,Dermatofibroma,\n'
        },
        "ham10000",
        ["mel", "nv", "df"],
    ),
    "pad": (
        {"m.csv": "patient_id,lesion_id,diagnostic,img_id\nP1,1,ACK,a.png\nP1,2,NEV,b.png\nP2,3,SEK,c.png\n"},
        "ham10000",
        ["akiec", "nv", "bkl"],
    ),
    "derm7pt": (
        {
            "meta.csv": "case_num,diagnosis,clinic,derm\n1,clark nevus,x/a.jpg,im/a.jpg\n"
            "2,melanoma,x/b.jpg,im/b.jpg\n3,basal cell carcinoma,x/c.jpg,im/c.jpg\n"
        },
        "ham10000",
        ["nv", "mel", "bcc"],
    ),
    "no known name": (
        {"m.csv": "Foto;Befund;Diagnose\na.JPG;1;Melanom\nb.JPG;2;naevus\nc.JPG;3;BCC\n"},
        "ham10000",
        [None, "nv", "bcc"],
    ),
}


@pytest.mark.parametrize("edition", EDITIONS)
def test_every_edition_is_read(tmp_path, edition):
    texts, classes, want = EDITIONS[edition]
    for i, name in enumerate("abc"):
        put(tmp_path / "im" / f"{name}.jpg", i)
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    found = rows_by_name(tmp_path, taxonomy=read_taxonomy(classes))
    assert [found.get(n) for n in "abc"] == want


@quick
@given(
    st.sampled_from([n for n in ALIASES["image_id"] if n not in ("id", "case")]),
    st.sampled_from(["dx", "diagnosis", "Diagnostic", "label", "diagnosis_3"]),
    st.sampled_from(["m.csv", "m.CSV", "m.tab", "m.TSV", "m.txt", "HAM10000_metadata"]),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(ENCODINGS),
    st.sampled_from([str.upper, str.lower, str.title]),
)
def test_a_table_is_found_under_any_name_with_any_names(tmp_path_factory, key, label, name, separator, encoding, case):
    folder = tmp_path_factory.mktemp("d")
    for i in range(3):
        put(folder / "im" / f"ISIC_{i}.jpg", i)
    lines = [
        case(key.replace("_", " ")) + separator + case(label),
        *(f"ISIC_{i}{separator}{'nv mel bkl'.split()[i]}" for i in range(3)),
    ]
    (folder / name).write_bytes("\n".join(lines).encode(encoding))
    assert list(survey(folder).rows.dx) == ["nv", "mel", "bkl"]


def test_labels_that_are_not_known_are_named_with_their_columns_and_the_table_that_fits(tmp_path):
    for i, word in enumerate(("benign", "malignant", "benign")):
        put(tmp_path / "folders" / word / f"{i}.jpg", i)
        put(tmp_path / "plain" / "im" / f"{i}.jpg", i)
    (tmp_path / "plain" / "list.csv").write_text("picture,quality,camera\n0,good,x\n")
    with pytest.raises(SkinLesionError, match=r"'benign' \(2\), 'malignant' \(1\)|use --classes benign-malignant"):
        check(tmp_path / "folders", workers=1)
    with pytest.raises(
        SkinLesionError, match=r"list.csv: .* \(it has picture, quality, camera\).*\n.*columns image_id and dx"
    ):
        check(tmp_path / "plain", workers=1)


def test_when_names_do_not_meet_both_are_shown_and_no_advice_goes_round(tmp_path):
    put(tmp_path / "im" / "ISIC_1.jpg", 1)
    (tmp_path / "m.csv").write_text("image_id,dx\nDERM_1,nv\nDERM_2,nv\n")
    said = CliRunner().invoke(app, ["data", "check", str(tmp_path)])
    assert said.exit_code == 1 and "DERM_1" in said.output and "ISIC_1.jpg" in said.output
    assert "skin-lesion data check" not in said.output


# ---- names of files

parts = st.text("abÄöx19-_ ", min_size=1, max_size=5).map(str.strip).filter(lambda p: p and not p.startswith("."))
paths = st.lists(
    st.tuples(parts, parts, parts, st.sampled_from([".jpg", ".JPG", ".tif", ".png", ".bmp"])), min_size=1, max_size=6
)
MANGLED = {
    "as it is": lambda p: p.as_posix(),
    "backslashes": lambda p: str(p).replace("/", "\\"),
    "capitals": lambda p: p.as_posix().upper(),
    "no suffix": lambda p: p.with_suffix("").as_posix(),
    "another suffix": lambda p: p.with_suffix(".jpeg").as_posix(),
    "composed": lambda p: unicodedata.normalize("NFC", p.as_posix()),
    "apart": lambda p: unicodedata.normalize("NFD", p.as_posix()),
    "name": lambda p: p.name,
    "name without suffix": lambda p: p.stem,
    "old folder": lambda p: f"old/place/{p.name}",
}


@quick
@given(paths, st.sampled_from(sorted(MANGLED)), st.sampled_from(["NFC", "NFD"]))
def test_ids_and_files_meet(found, how, form):
    files = [Path(unicodedata.normalize(form, f"{a}/{b}"), unicodedata.normalize(form, c) + s) for a, b, c, s in found]
    stems = [unicodedata.normalize("NFC", p.stem).casefold() for p in files]
    names = Names(Path(), files)
    for p, stem in zip(files, stems):
        hits = names.find(MANGLED[how](p))
        assert p in hits and (stems.count(stem) > 1 or hits == [p])


@pytest.mark.parametrize("first, second", [("a/1.jpg", "a/1.png"), ("a/1.jpg", "b/1.jpg"), ("a/x.jpg", "a/X.jpg")])
def test_two_pictures_of_one_stem_are_two_images(tmp_path, first, second):
    for i, name in enumerate((first, second)):
        put(tmp_path / "f" / "mel" / name, i)
        put(tmp_path / "t" / "im" / name, i)
    rows = check(tmp_path / "f", workers=1).rows
    assert len(rows) == 2 and rows.image_id.is_unique
    (tmp_path / "t" / "m.csv").write_text(f"file,dx\n{first},mel\n{second},nv\n")
    rows = check(tmp_path / "t", workers=1).rows
    assert sorted(rows.dx) == ["mel", "nv"] and rows.image_id.is_unique


# ---- nothing vanishes


def test_every_file_is_accounted_for(tmp_path):
    put(tmp_path / "d" / "mel" / "1.jpg", 1)
    for i, suffix in enumerate((".jfif", ".JPE", ".dcm", "", ".jpg_large")):
        (tmp_path / "d" / "mel" / f"x{i}{suffix}").write_bytes(put(tmp_path / "t.jpg", 20 + i).read_bytes())
    for name, head in (
        ("a.dcm", bytes(128) + b"DICM"),
        ("b.gif", b"GIF89a"),
        ("c.heic", b"\0\0\0\x18ftypheic"),
        ("d.jp2", b"\0\0\0\x0cjP  "),
    ):
        (tmp_path / "d" / "mel" / name).write_bytes(head + bytes(200))
    (tmp_path / "d" / "film.mp4").write_bytes(b"x")
    (tmp_path / "d" / "far").symlink_to(tmp_path)
    (tmp_path / "d" / "near").symlink_to("mel")
    found = check(tmp_path / "d", workers=1)
    assert len(found.rows) == 6 and [p.name for p in found.found.listing.others] == ["film.mp4"]
    told = dict(zip((Path(p).name for p in found.quarantine.path), found.quarantine.detail))
    assert set(told) == {"a.dcm", "b.gif", "c.heic", "d.jp2", "far"}
    assert "DICOM" in told["a.dcm"] and "JPEG 2000" in told["d.jp2"] and "link" in told["far"]
    assert list(found.aside.reason) == ["identical_copy"]


@pytest.mark.parametrize("order", [("a.csv", "b.csv"), ("b.csv", "a.csv")])
def test_tables_that_disagree_are_believed_neither(tmp_path, order):
    for i in range(3):
        put(tmp_path / f"{i}.jpg", i)
    (tmp_path / order[0]).write_text("image_id,dx\n0,nv\n1,nv\n2,mole\n")
    (tmp_path / order[1]).write_text("isic_id,diagnosis\n0.JPG,melanoma\n1,naevus\n2,nv\n")
    found = check(tmp_path, workers=1)
    assert sorted(found.rows.image_id) == ["1", "2"]
    (detail,) = found.quarantine.detail
    assert "a.csv says" in detail and "b.csv says" in detail and "'melanoma'" in detail and "'nv'" in detail


def test_the_same_file_under_two_diagnoses_is_believed_neither(tmp_path):
    for place in ("mel/1.jpg", "nv/2.jpg", "nv/3.jpg"):
        put(tmp_path / place, 7 if "3" not in place else 8)
    found = check(tmp_path, workers=1)
    assert list(found.rows.image_id) == ["3"] and list(found.quarantine.reason) == ["label_conflict"] * 2


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", ["png", "tif"])
def test_grey_pictures_of_any_depth_are_as_bright_as_they_are(tmp_path, bits, kind):
    grey = np.asarray(photo(3).convert("L"))
    grey = grey.astype(np.uint16) * 255 // grey.max()
    Image.fromarray((grey.astype(np.uint16) << (bits - 8)).astype(np.uint16)).save(tmp_path / f"x.{kind}")
    assert abs(np.asarray(open_image(tmp_path / f"x.{kind}")).mean() - grey.mean()) < 2


def png_of_16_bits(rgb: np.ndarray) -> bytes:
    "A colour PNG of 16 bits, which Pillow reads but does not write."
    h, w, _ = rgb.shape
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rgb)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )


def test_colour_of_twelve_bits_in_sixteen_is_refused_and_of_sixteen_is_not():
    rgb = np.asarray(photo(3)).astype(np.uint16)
    bright = open_image(io.BytesIO(png_of_16_bits(rgb * 257)))
    assert np.abs(np.asarray(bright, float) - rgb).max() <= 1
    with pytest.raises(BadImage, match="too_dark: less than 15 of its 16 bits"):
        open_image(io.BytesIO(png_of_16_bits(rgb * 16)))


@pytest.mark.parametrize(
    "types, used, asked",
    [(("dermoscopic", "clinical: close-up", "TBP tile: close-up"), 2, False), (("TBP tile: close-up",) * 3, 6, True)],
)
def test_other_photographs_among_dermoscopy_are_set_aside(tmp_path, types, used, asked):
    lines = ["isic_id,image_type,diagnosis_3"]
    for i in range(6):
        put(tmp_path / f"ISIC_{i}.jpg", i)
        lines.append(f"ISIC_{i},{types[i % 3]},Nevus")
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    found = describe_folder(tmp_path, 1)
    assert found["usable"] == used and found["quarantined"] == 0
    assert found["aside_reasons"] == ({} if asked else {"not_dermoscopy": 4})
    assert any("no picture is called dermoscopic" in q for q in found["questions"]) == asked


@pytest.mark.parametrize(
    "name, header",
    [
        ("ham_cross_duplicates.csv", "image_id_a,image_id_b"),
        ("ISIC_2020_Training_Duplicates.csv", "image_name_1,image_name_2"),
        ("pairs.tsv", "isic_id_1\tisic_id_2"),
        ("dups.txt", "image;duplicate_of"),
        ("DUPLICATES", "first,second"),
    ],
)
def test_lists_of_duplicates_are_honoured_whatever_they_are_called(tmp_path, name, header):
    separator = next(s for s in ",;\t" if s in header)
    for i in range(4):
        put(tmp_path / "nv" / f"ISIC_{i}.jpg", i)
    (tmp_path / name).write_text(
        f"{header}\nISIC_0{separator}ISIC_1.jpg\nisic_3{separator}ISIC_2\nISIC_9{separator}ISIC_1\n"
    )
    pairs = near_duplicates(check(tmp_path, workers=1).rows)
    assert sorted(map(tuple, pairs.to_numpy())) == [("ISIC_0", "ISIC_1", -1), ("ISIC_2", "ISIC_3", -1)]


# ---- surplus is not damage


def test_surplus_is_set_aside_and_does_not_count(tmp_path):
    lines = ["image_id,dx"]
    for i, dx in enumerate(("nv", "mel", "scc", "unknown", "bkl", "nv")):
        path = put(tmp_path / "part_1" / f"ISIC_{i}.jpg", i)
        lines.append(f"ISIC_{i},{dx}")
        for copy in (tmp_path / "Part_2" / path.name, tmp_path / "Part_2" / f"copy of {i}.jpg"):
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
        put(tmp_path / "small" / path.name, i, size=(50, 38))
        put(tmp_path / "masks" / f"ISIC_{i}_segmentation.png", 50 + i)
        put(tmp_path / "masks" / f"ISIC_{i}.png", 90 + i)
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    found = check(tmp_path, workers=1, limit=0.0)
    assert sorted(found.rows.image_id) == ["ISIC_0", "ISIC_1", "ISIC_4", "ISIC_5"] and (found.rows.width == 60).all()
    assert found.quarantine.empty and set(found.aside.reason) <= set(ASIDE)
    counts = found.aside.reason.value_counts()
    assert counts["mask"] == 12 and counts["derived"] == 4 and counts["other_class"] >= 1 and counts["undiagnosed"] >= 1
    assert len(found.rows) + len(found.aside) == 6 * 6, "every file is somewhere, once"


@pytest.mark.parametrize("more, kept", [("", True), (",L9", False)])
def test_a_row_that_is_there_twice_is_surplus_if_both_say_the_same(tmp_path, more, kept):
    for i in range(2):
        put(tmp_path / f"{i}.jpg", i)
    (tmp_path / "t.csv").write_text(f"image,dx,lesion_id\n0,nv,L0\n1,mel,L1\n0,nv{more or ',L0'}\n")
    found = check(tmp_path, workers=1)
    assert len(found.rows) == 2 and found.quarantine.empty is kept
    assert list(found.aside.reason) == ["repeated_row"] * kept


@pytest.mark.parametrize("marks", ["0,0,0", "1,0,1", ",,"])
def test_a_row_that_marks_no_diagnosis_or_two_is_set_apart(tmp_path, marks):
    for i in range(3):
        put(tmp_path / f"{i}.jpg", i)
    (tmp_path / "t.csv").write_text(f"image,MEL,NV,BCC\n0,1,0,0\n1,{marks}\n2,0,1,0\n")
    found = check(tmp_path, workers=1)
    assert list(found.rows.dx) == ["mel", "nv"] and list(found.quarantine.image_id) == ["1"]


def test_the_same_name_for_other_pictures_is_damage(tmp_path):
    put(tmp_path / "a" / "1.jpg", 1)
    put(tmp_path / "b" / "1.jpg", 2)
    put(tmp_path / "b" / "2.jpg", 3)
    (tmp_path / "m.csv").write_text("image_id,dx\n1,nv\n2,mel\n")
    found = check(tmp_path, workers=1)
    assert list(found.rows.image_id) == ["2"] and list(found.quarantine.reason) == ["ambiguous_name"] * 2


# ---- near-duplicates at scale


@quick
@given(st.integers(0, 2**32 - 1), st.integers(0, 7), st.integers(0, 60))
def test_folded_codes_overlook_no_pair(seed, orientation, changed):
    "Two ways to compare, and the plain one: all pairs of hashes in eight orientations."
    import pandas as pd

    r = np.random.default_rng(seed)
    bits = r.integers(0, 256, (40, 32), dtype=np.uint8)
    bits[:, 0] &= 127
    hashes = [b.tobytes().hex() for b in bits]
    turned = oriented_signs(hashes[:1])[orientation][0]
    turned[r.choice(np.arange(1, 256), changed, replace=False)] *= -1
    hashes[7] = np.packbits(turned > 0).tobytes().hex()
    rows = pd.DataFrame(dict(image_id=[f"{i:02}" for i in range(40)], phash=hashes))
    first = oriented_signs(hashes)[0]
    apart = (255 - np.max([first @ o.T for o in oriented_signs(hashes)], axis=0)) / 2
    want = {(f"{i:02}", f"{j:02}", int(apart[i, j])) for i, j in zip(*np.nonzero(apart <= 35)) if i < j}
    for search in [_search_numpy, *([_search_faiss] if find_spec("faiss") else [])]:
        assert set(map(tuple, near_duplicates(rows, search=search, block=16).to_numpy())) == want


# ---- how it is told


def test_data_check_foretells_what_training_refuses_in_the_same_words(tmp_path):
    from skin_lesion_mlops.model.recipe import class_weights

    for k, dx in enumerate(("akiec", "bcc", "bkl", "mel", "nv")):
        for i in range(6):
            put(tmp_path / dx / f"{dx}{i}.jpg", 10 * k + i)
    with pytest.raises(SkinLesionError) as refused:
        class_weights(np.array([0, 1, 2, 4, 5]))
    assert refused.value.problem == "no training image shows df, vasc"
    found = describe_folder(tmp_path, 1)
    (asked,) = found["questions"]
    assert refused.value.problem in asked


def test_data_check_foretells_the_split_and_names_the_classes_of_few(tmp_path):
    "By the code that divides: the same numbers as a run, and a warning for who has fewer than five lesions in test."
    for dx, n in (("nv", 34), ("mel", 8)):
        for i in range(n):
            put(tmp_path / dx / f"{dx}{i}.jpg", 100 * len(dx) + i, size=(40, 40))
    found = describe_folder(tmp_path, 1)
    divided = split(check(tmp_path, 1).rows)
    assert {c: [f[s] for s in SPLITS] for c, f in found["classes"].items()} == class_balance(divided)[
        list(SPLITS)
    ].T.to_dict("list")
    (warned,) = found["warnings"]
    held = (divided[divided.split == "test"].dx == "mel").sum()
    assert f"mel ({held})" in warned and "nv" not in warned and "df (0)" in warned
    said = folder_summary(found)
    assert f"! {warned}" in said and re.search(r"CLASS .*TRAIN +VALIDATION +TEST", said)


@pytest.mark.parametrize(
    "n, said", [(1, "this cannot be divided: no image is in"), (40, "the test set holds nv alone")]
)
def test_data_check_foretells_what_preprocessing_and_evaluation_refuse(tmp_path, n, said):
    for i in range(n):
        put(tmp_path / "nv" / f"{i}.jpg", i, size=(40, 40))
    rows = split(check(tmp_path, 1).rows)
    assert any(said in q for q in describe_folder(tmp_path, 1)["questions"])
    with pytest.raises(SkinLesionError, match=said.removeprefix("this cannot be divided: ")):
        test = rows[rows.split == "test"]
        write_dataset(rows, {s: tmp_path / s for s in SPLITS}, 16, 1)
        create_predictions(test.dx, np.full((len(test), 7), 1 / 7))


def test_a_namesake_renames_another_picture_aloud_and_takes_nothing_out_of_test(tmp_path):
    "The id is the shortest name that no other picture has; the memory of what was in test knows pictures, not names."
    for i in range(40):
        put(tmp_path / "d" / "nv" / f"{i}.jpg", i, size=(40, 40))
    before = check(tmp_path / "d", 1)
    assert not before.found.notes
    first = split(before.rows)
    note_tested(tmp_path / "memory", first, 5126)
    for i in range(40):
        put(tmp_path / "d" / "mel" / f"{i}.jpg", 100 + i, size=(40, 40))
    after = check(tmp_path / "d", 1)
    assert any("80 pictures have the file name of another one" in n and "mel-0" in n for n in after.found.notes)
    assert after.rows.image_id.nunique() == 80
    second = split(after.rows, tested=lesions_tested_before(after.rows, 5126, tmp_path / "memory"))
    sides = second.set_index("sha256").split
    assert (sides[first.sha256[first.split == "test"]] == "test").all()
    assert "train" in {*split(after.rows).set_index("sha256").split[first.sha256[first.split == "test"]]}


def test_one_screen_and_a_page_with_pictures(tmp_path):
    for i in range(5):
        put(tmp_path / "d" / "mel" / f"{i}.jpg", i)
        put(tmp_path / "d" / "wart" / f"w{i}.jpg", 20 + i)
    (tmp_path / "d" / "mel" / "bad.jpg").write_bytes(b"")
    (tmp_path / "d" / "<b>.txt").write_text("x")
    page = tmp_path / "page.html"
    said = CliRunner().invoke(
        app, ["data", "check", str(tmp_path / "d"), "--report", str(page), "--max-quarantine-share", "0.9"]
    )
    assert said.exit_code == 0, said.output
    line = next(x for x in said.output.splitlines() if x.startswith("label_unknown"))
    assert "w0.jpg, w1.jpg, w2.jpg" in line and "5" in line and "'wart' (5)" in said.output
    html = page.read_text(encoding="utf-8")
    assert (
        html.count("data:image/jpeg;base64,") == 5
        and html.count("no picture") == 1
        and "'wart' (5)" in html.replace("&#39;", "'")
    )
    assert "<script" not in html and "http" not in html


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    put(tmp_path / "mel" / "1.jpg", 1)

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(os, "replace", full)
    said = CliRunner().invoke(app, ["data", "check", str(tmp_path), "--report", str(tmp_path / "page.html")])
    assert said.exit_code == 1 and "No space left on device: " in said.output and "make room" in said.output


@pytest.mark.parametrize(
    "pair",
    ["AccuracyThreshold=85", "MaxQuarantineShare=5", "ImageSize=0", "BatchSize=0", "LearningRate=-1", "MaxEce=nan"],
)
def test_a_value_that_cannot_be_meant_is_refused_before_anything_runs(tmp_path, pair):
    said = CliRunner().invoke(app, ["run", "--data", str(tmp_path), "--home", str(tmp_path / "h"), "-p", pair])
    assert said.exit_code == 2 and f"{pair.partition('=')[0]}=" in said.output and "is not between" in said.output
    assert not (tmp_path / "h").exists()
