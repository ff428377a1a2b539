"Tables of classes: what is read, what is refused, what travels."

import csv
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skin_lesion_mlops.core import SkinLesionError
from skin_lesion_mlops.taxonomy import (
    BUILT_IN,
    COLUMNS,
    HAM10000,
    LEAVE_OUT,
    TABLES as FOLDER,
    Diagnosis,
    Taxonomy,
    best_fit,
    describe_taxonomy,
    is_diagnosis,
    read_label,
    read_taxonomy,
    taxonomy_of,
)

TABLES = {name: read_taxonomy(name) for name in BUILT_IN}


@pytest.mark.parametrize(
    "label, ham, isic, pad, two",
    [
        ("Melanocytic Naevi", "nv", "nv", "nev", "benign"),
        ("superficial-spreading melanoma", "mel", "mel", "mel", "malignant"),
        ("SEBORRHOEIC_KERATOSES", "bkl", "bkl", "sek", "benign"),
        ("bkl", "bkl", "bkl", "", "benign"),  # more than seborrheic keratosis: PAD-UFES-20 must not guess
        ("Bowen's disease", "akiec", "scc", "scc", "malignant"),
        ("Squamous cell carcinoma, NOS", "", "scc", "scc", "malignant"),
        ("solar or actinic keratosis", "akiec", "ak", "ack", ""),
        ("Haemangioma", "vasc", "vasc", "", "benign"),
        ("2. BasalCellCarcinoma", "bcc", "bcc", "bcc", "malignant"),
        ("malignant", "", "", "", "malignant"),
        ("UNK", "", LEAVE_OUT, "", ""),
        ("eczema", "", "", "", ""),
        (float("nan"), "", "", "", ""),
    ],
)
def test_a_label_in_every_table(label, ham, isic, pad, two):
    assert [read_label(t, label) for t in TABLES.values()] == [ham, isic, pad, two]


def test_the_default_is_what_models_were_trained_with():
    assert HAM10000.codes == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    assert HAM10000.malignant == ("akiec", "bcc", "mel")
    assert taxonomy_of(dict(classes=list(HAM10000.codes))) is HAM10000
    assert taxonomy_of(dict(dataset=dict(classes=dict.fromkeys(HAM10000.codes, 3)))) is HAM10000


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_class_is_added_in_a_copy_of_the_table(name, tmp_path):
    "What the README promises: the diagnoses are a file."
    rows = list(csv.reader((FOLDER / f"{name}.csv").open()))
    assert tuple(rows[0]) == COLUMNS
    mine = tmp_path / "mine.csv"
    with open(mine, "w", newline="") as f:
        csv.writer(f).writerows(
            [*rows, ["mcc", "Merkel cell carcinoma", "rare skin cancer", "yes", "trabecular tumour", ""]]
        )
    t = read_taxonomy(mine)
    assert t.codes == (*TABLES[name].codes, "mcc") and t.malignant == (*TABLES[name].malignant, "mcc")
    assert read_label(t, "Merkel-cell carcinomas") == read_label(t, "Trabecular tumours") == "mcc"
    assert not is_diagnosis("Merkel cell carcinoma") and read_label(TABLES[name], "mcc") == ""


words = st.text("abcdefgh", min_size=4, max_size=12)
classes = st.lists(
    st.builds(
        lambda code, name, sick: Diagnosis(code, name, "", sick, (name + "oid",)),
        st.text("abcdefghijklmnopqrtuvw0123456789", min_size=1, max_size=8),
        words,
        st.booleans(),
    ),
    min_size=2,
    max_size=50,
    unique_by=(lambda d: d.code, lambda d: d.name),
).filter(
    lambda ds: len({w for d in ds for w in {d.code, d.name, *d.synonyms}})
    == sum(len({d.code, d.name, *d.synonyms}) for d in ds)
)


@settings(max_examples=30)
@given(classes)
def test_what_is_written_is_read(tmp_path_factory, ds):
    t = Taxonomy("mine", tuple(ds), (("zzzz", LEAVE_OUT),))
    assert taxonomy_of(json.loads(json.dumps(dict(taxonomy=describe_taxonomy(t))))) == t
    file = tmp_path_factory.mktemp("table") / "mine.csv"
    with open(file, "w", newline="") as f:
        rows = [[d.code.upper(), d.name, d.plain, "yes" if d.malignant else "no", "|".join(d.synonyms), ""] for d in ds]
        csv.writer(f).writerows([COLUMNS, *rows, ["zzzz", "", "", "", "", LEAVE_OUT]])
    assert read_taxonomy(file) == t
    assert all(read_label(t, w.upper()) == d.code for d in ds for w in (d.code, d.name, *d.synonyms))
    assert t.tells_malignancy == (len({d.malignant for d in ds}) == 2)


@pytest.mark.parametrize(
    "text, problem",
    [
        ("code,name\nnv,Nevus", "malignant is '' for nv"),
        ("code,name,malignant\nnv,Nevus,perhaps\nmel,Melanoma,yes", "malignant is 'perhaps' for nv"),
        ("code,malignant\nnv,no", "has 1 classes"),
        ("name,malignant\nnv,no", "no column code"),
        ("code,malignant\nnv!,no\nmel,yes", "'nv!' is no code"),
        ("code,malignant\nnv,no\nNV,no", "two classes have one code"),
        ("code,malignant,synonyms\nnv,no,mole\nmel,yes,Moles", "'mole' stands for two classes"),
        ("code,malignant,instead\nnv,no,\nmel,yes,\nsk,,bkl", "there is no class for sk -> bkl"),
        ("code,malignant\n" + "\n".join(f"c{i},no" for i in range(51)), "has 51 classes"),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path, text, problem):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SkinLesionError, match=problem.replace("?", r"\?")) as e:
        read_taxonomy(tmp_path / "t.csv")
    assert "t.csv" in e.value.problem and e.value.remedy


def test_spreadsheets_write_tables_their_own_way(tmp_path):
    table = "Code;Name;Malignant;Instead\r\nnv;Nävus;NO;\r\nmel;Melanom;Yes;\r\nwarze;;;nv\r\n;;;\r\n"
    for name, encoding in (("a", "utf-8-sig"), ("b", "latin-1")):
        (tmp_path / f"{name}.csv").write_bytes(table.encode(encoding))
    a, b = (read_taxonomy(tmp_path / f"{n}.csv") for n in "ab")
    assert a.classes == b.classes and a["nv"].name == "Nävus" and read_label(a, "Warze") == "nv"


def test_rules_may_take_a_class_of_the_base_away(tmp_path):
    (tmp_path / "t.toml").write_text('base = "isic2019"\n[instead]\nscc = "ak"\ndf = "leave out"\n')
    t = read_taxonomy(tmp_path / "t.toml")
    assert t.codes == ("mel", "nv", "bcc", "ak", "bkl", "vasc")
    assert read_label(t, "squamous cell carcinoma") == "ak" and read_label(t, "Dermatofibromas") == LEAVE_OUT


@pytest.mark.parametrize(
    "labels, used, name, known",
    [
        (["benign", "malignant"], HAM10000, "benign-malignant", 2),
        (["ACK", "BCC", "MEL", "NEV", "SCC", "SEK"], HAM10000, "pad-ufes-20", 6),
        (["dermatofibroma", "nevus", "squamous cell carcinoma"], HAM10000, "isic2019", 3),
        (["nv", "benign"], TABLES["isic2019"], "benign-malignant", 2),
    ],
)
def test_the_table_that_fits_is_named(labels, used, name, known):
    fit = best_fit(labels, used)
    assert fit.taxonomy.name == name and fit.known == known and f"--classes {name}" in str(fit)


@pytest.mark.parametrize("labels", [["nv", "mel"], ["eczema"], [], ["nv", "eczema"]])
def test_no_table_fits_better(labels):
    assert best_fit(labels) is None
