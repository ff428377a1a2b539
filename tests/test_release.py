"What is released: a wheel that carries everything, built from the sdist, and a change log that knows the version."

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.release import carried, version

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    "The sdist, and the wheel that is built from it."
    pytest.importorskip("build", reason="build is not installed: pip install '.[release]'")
    folder = tmp_path_factory.mktemp("dist")
    line = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(REPO)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    return folder


def test_the_wheel_carries_everything(built):
    names = set(zipfile.ZipFile(next(built.glob("*.whl"))).namelist())
    missing = {f"skin_lesion_mlops/{name}" for name in carried()} - names
    assert not missing
    for kind in (
        r"pipeline\.json",
        r"classes/ham10000\.csv",
        r"page/index\.html",
        r"page/run/.+",
        r"steps/evaluate\.ipynb",
    ):
        assert [n for n in names if re.fullmatch(f"skin_lesion_mlops/{kind}", n)], kind
    assert not [n for n in names if n.startswith(("tests/", "nbs/", "infra/"))]


def test_the_sdist_builds_and_carries_no_data(built):
    names = tarfile.open(next(built.glob("*.tar.gz"))).getnames()
    inside = {n.partition("/")[2] for n in names}
    assert {"settings.ini", "CHANGELOG.md", "constraints.txt", "nbs/steps/evaluate.ipynb"} <= inside
    assert not [n for n in inside if n.endswith((".jpg", ".pt", ".npy")) or n.startswith((".skin-lesion", "build/"))]


def test_the_metadata_is_what_pypi_takes(built):
    pytest.importorskip("twine", reason="twine is not installed: pip install '.[release]'")
    line = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.iterdir())]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("PASSED") == 2, done.stdout


def test_the_change_log_knows_the_version_and_keeps_its_form():
    import skin_lesion_mlops

    assert version() == skin_lesion_mlops.__version__ and re.fullmatch(r"\d+\.\d+\.\d+", version())
    text = (REPO / "CHANGELOG.md").read_text()
    sections = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.M)
    assert sections[0] == ("Unreleased", "") and all(date for _, date in sections[1:])
    dates = [date for _, date in sections[1:]]
    assert dates == sorted(dates, reverse=True)
    kinds = set(re.findall(r"^### (\w+)$", text, re.M))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_default_install_has_nothing_of_what_only_a_team_needs():
    from configparser import ConfigParser

    config = ConfigParser(delimiters=["="])
    config.read(REPO / "settings.ini", encoding="utf-8")
    default = config["DEFAULT"]["requirements"]
    heavy = r"mlflow|mkdocs|twine|nbdime|nbdev|boto|sagemaker"
    assert not re.findall(heavy, default + config["DEFAULT"]["train_requirements"])
