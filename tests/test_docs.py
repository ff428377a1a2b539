"The documentation: every page is there, every link leads somewhere, and what the guides tell you to type can be typed."

import os
import re
import shlex
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from typer.main import get_command

from skin_lesion_mlops.cli.app import app

REPO = Path(__file__).resolve().parent.parent
GUIDES = sorted((REPO / "nbs" / "guides").glob("*.md"))
ids = dict(ids=lambda p: p.stem)


@pytest.fixture(scope="module")
def build():
    "The script that makes the pages."
    spec = spec_from_file_location("build_docs", REPO / "nbs" / "guides" / "build.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def docs(build, tmp_path_factory):
    "All pages, as Markdown."
    folder = tmp_path_factory.mktemp("docs")
    build.main(folder)
    return folder


def blocks(guide: Path, language: str) -> list:
    "The blocks of code of a guide."
    return re.findall(rf"^```{language}\n(.*?)^```$", guide.read_text(), re.M | re.S)


def test_every_chapter_and_every_guide_is_a_page_with_what_it_has_shown(build, docs):
    assert {g.stem for g in GUIDES} == set(build.GUIDES)
    chapters = [p for p in (REPO / "nbs").rglob("*.ipynb") if p.name != "index.ipynb"]
    assert len(list((docs / "docs" / "chapters").rglob("*.md"))) == len(chapters) >= 90
    drift = (docs / "docs/chapters/monitor/01_drift.md").read_text()
    assert drift.startswith("# ") and "![a figure](figures/01_drift-0.png)" in drift
    assert (docs / "docs/chapters/monitor/figures/01_drift-0.png").read_bytes().startswith(b"\x89PNG")
    assert "#| export" not in drift and "nbdev_export()" not in drift
    core = (docs / "docs/chapters/core/00_core.md").read_text()
    assert "``` { .text .output }" in core
    api = (docs / "docs/api/core.md").read_text()
    assert "| `low` | `float \\| None` |" in api and "### hash_tree" in api and "hexadecimal digits" in api
    assert "## skin-lesion runs sync" in (docs / "docs/api/commands.md").read_text()


def test_the_picture_of_the_wings_needs_no_script_and_says_who_uses_whom(build, docs):
    page = (docs / "docs" / "contributing.md").read_text()
    assert "mermaid" not in page and "aws uses pipeline, cli uses aws, cli uses monitor, data uses core" in page
    drawn = re.findall(r'<rect x="\d+" y="(\d+)" .*?class="(\w+)"/>\s*<text [^>]+>(\w+)</text>', page)
    height, kind = {n: int(y) for y, _, n in drawn}, {n: k for _, k, n in drawn}
    assert set(height) == set(build.WINGS) and (kind["model"], kind["aws"], kind["cli"]) == (
        "compute",
        "control",
        "node",
    )
    told = re.search(r'aria-label="(.*?)"', page)[1].split(", ")
    assert len(told) == 10 and all(height[a] < height[b] for a, b in (x.split(" uses ") for x in told))
    assert "model uses core" not in told, "it follows from others"


def test_a_link_that_leads_nowhere_is_an_error(build, docs, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "REPO", tmp_path)
    (tmp_path / "infra").mkdir()
    links = build.Links({"a.md": "x/a.md", "b.md": "b.md"}, tmp_path / "out", "https://git")
    (tmp_path / "b.md").touch()
    text = "[b](b.md#top) [away](gone.md) [infra](infra) `[code](gone2.md)` [web](https://x.org)"
    assert links.rewrite(text, "a.md").startswith(
        "[b](../b.md#top) [away](gone.md) [infra](https://git/tree/main/infra)"
    )
    assert links.broken == ["a.md: gone.md"]


def test_the_site_is_built_without_a_warning(docs):
    pytest.importorskip("material", reason="mkdocs-material is not installed: `make docs` installs it")
    config = (docs / "mkdocs.yml").read_text().splitlines()[0]
    assert config.endswith("nbs/guides/mkdocs.yml")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file", str(docs / "mkdocs.yml")]
    done = subprocess.run(line, capture_output=True, text=True, env=dict(os.environ, NO_MKDOCS_2_WARNING="1"))
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    page = (docs / "site" / "guides" / "runbook.html").read_text()
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page)
    assert not [u for u in loaded if "skin-lesion-mlops.github.io" not in u], "something is loaded from elsewhere"


def test_a_notebook_that_cannot_be_read_is_named(tmp_path):
    from tests.notebooks import unreadable

    (tmp_path / "wing").mkdir()
    (tmp_path / "sound.ipynb").write_text('{"cells": []}')
    (tmp_path / "wing" / "half.ipynb").write_text('{"cells": [')
    (tmp_path / "wing" / "merged.ipynb").write_text('{\n<<<<<<< HEAD\n "cells": []\n=======\n>>>>>>> theirs\n}')
    half, merged = unreadable(tmp_path)
    assert "half.ipynb is no notebook: Expecting value" in half
    assert "merged.ipynb" in merged and "notebooks_in_a_team" in merged


# ---- what is typed


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    "A folder with lesions, and a home; the guide that registers version 1 is read first."
    from skin_lesion_mlops.data.synthetic import create_dataset

    folder = tmp_path_factory.mktemp("guides")
    create_dataset(folder / "lesions", n=140)
    (folder / "bin").mkdir()
    for name, module in {"skin-lesion": "skin_lesion_mlops.cli.app", "python3": ""}.items():
        tool = folder / "bin" / name
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" {f"-m {module}" if module else ""} "$@"\n')
        tool.chmod(0o755)
    return folder


TYPED = ("laptop_to_aws", *sorted({g.stem for g in GUIDES if blocks(g, "sh")} - {"laptop_to_aws"}))


def typed(machine: Path, guide: str) -> subprocess.CompletedProcess:
    "Type what a guide says."
    tools = os.pathsep.join([str(machine / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    env = dict(os.environ, PATH=tools, SKIN_LESION_HOME=str(machine / "home"), PYTHONPATH=str(REPO), HOME=str(machine))
    env.update(MLFLOW_TRACKING_URI="", MPLBACKEND="agg", GIT_CONFIG_NOSYSTEM="1")
    script = "set -euo pipefail\n" + "\n".join(blocks(REPO / "nbs" / "guides" / f"{guide}.md", "sh"))
    return subprocess.run(["bash", "-c", script], cwd=machine, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def first(machine):
    "The guide that registers version 1, which others look at."
    return typed(machine, "laptop_to_aws")


@pytest.mark.parametrize("guide", TYPED)
def test_the_blocks_of_a_guide_do_what_they_say(machine, guide, request):
    if guide == "notebooks_in_a_team":
        pytest.importorskip("nbdime", reason="nbdime is not installed: `make dev` installs it")
    text = "".join(blocks(REPO / "nbs" / "guides" / f"{guide}.md", "sh"))
    done = request.getfixturevalue("first") if re.search("skin-lesion (runs|models)", text) else None
    done = done if done and guide == "laptop_to_aws" else typed(machine, guide)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    if guide == "notebooks_in_a_team":
        assert "['def f(x): return 1 + x', 'assert f(1) == 2 and f(-1) == 0']" in done.stdout
    if guide == "disaster_recovery":
        assert done.stdout.count("Approved") >= 2


def _commands(program: str) -> list:
    "Every command of a program that a guide names, in a block or in a line."
    found = []
    for g in GUIDES:
        text = g.read_text().replace("\\\n", " ")
        lines = re.findall(rf"^(?:\$ )?({program} [^|>#\n]*)", text, re.M) + re.findall(rf"`({program} [^`]*)`", text)
        found += [(g.stem, shlex.split(re.sub(r" [|>#] .*", "", line), comments=True)[1:]) for line in lines]
    return found


def test_every_command_of_ours_that_a_guide_names_exists():
    commands = _commands("skin-lesion")
    assert len(commands) > 45
    for guide, words in commands:
        group = get_command(app)
        while words and hasattr(group, "commands") and words[0] in group.commands:
            group, words = group.commands[words[0]], words[1:]
        told = f"{guide}: {words}"
        assert not hasattr(group, "commands") or group.invoke_without_command, told
        known = {o for p in group.params for o in p.opts} | {"--help"}
        assert {w for w in words if w.startswith("-") and w != "-"} <= known, told


def test_every_command_of_awss_that_a_guide_names_exists():
    session = pytest.importorskip("botocore.session").get_session()
    from botocore import xform_name

    named = {(w[0], w[1]): (g, w[2:]) for g, w in _commands("aws")}
    own = {("s3", "ls"), ("s3", "cp"), ("s3", "sync"), ("logs", "tail")}  # no operations of the service
    assert len(named) > 10
    for (service, verb), (guide, words) in named.items():
        if (service, verb) in own:
            continue
        model = session.get_service_model(service.replace("s3api", "s3"))
        operations = {xform_name(o, "-"): o for o in model.operation_names}
        assert verb in operations, f"{guide}: aws {service} {verb}"
        shape = model.operation_model(operations[verb]).input_shape
        known = {f"--{xform_name(m, '-')}" for m in (shape.members if shape else {})}
        assert {w for w in words if w.startswith("--")} <= known, f"{guide}: aws {service} {verb} {words}"


def test_the_runbook_has_every_alarm_with_its_first_commands_and_when_to_go_back():
    text = (REPO / "nbs" / "guides" / "runbook.md").read_text()
    told = {m[1]: m[2] for m in re.finditer(r"^## (\S+)\n(.*?)(?=^## |\Z)", text, re.M | re.S)}
    main = (REPO / "infra" / "modules" / "monitoring" / "main.tf").read_text()
    alarms = set(re.findall(r"^    ([a-z0-9-]+) = \{\n      description", main, re.M)) | {"monthly-cost"}
    assert len(alarms) >= 8 and alarms == set(told), alarms ^ set(told)
    for name, section in told.items():
        assert len(re.findall(r"^\$ ", section, re.M)) == 3, name
        assert re.search(r"\*\*[^*]*([Gg]o back|Going back)", section), name
