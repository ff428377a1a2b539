"""The workflows and what they need: variables, roles, limits. `make infra-check` has actionlint and zizmor."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).resolve().parent.parent
WORKFLOWS = {p.stem: p for p in sorted((REPO / ".github" / "workflows").glob("*.yml"))}
README = (REPO / "infra" / "README.md").read_text()
EIGHT = (  # the mission's jobs, in its order, by the words of their names
    "Code quality (Black, Flake8, MyPy",
    "Unit tests (nbdev_test, pytest with coverage",
    "Security scan (Bandit, Safety",
    "Terraform validate",
    "Build Docker images, push to ECR",
    "Terraform apply",
    "Deploy SageMaker pipeline",
    "Integration tests",
)


def jobs() -> dict[str, dict]:
    "Every job of every workflow."
    return {f"{w}.{name}": j for w, p in WORKFLOWS.items() for name, j in yaml.safe_load(p.read_text())["jobs"].items()}


JOBS = jobs()
WORK = {name: j for name, j in JOBS.items() if "uses" not in j}  # those that run themselves


def read_by(text: str) -> set[str]:
    "Variables and secrets that a text of a workflow refers to, GitHub's own token aside."
    return set(re.findall(r"\b(?:vars|secrets)\.(\w+)", text)) - {"GITHUB_TOKEN"}


def listed() -> dict[str, str]:
    "Name and meaning of every variable in infra/README.md."
    return dict(re.findall(r"^\| `([A-Z_]+)`(?: \*)? \| (.*) \|$", README.partition("## From GitHub")[2], re.M))


def test_the_readme_lists_every_variable_and_no_other():
    assert set(listed()) == read_by("".join(p.read_text() for p in WORKFLOWS.values()))


@pytest.mark.parametrize("name", WORK)
def test_a_job_asks_for_what_it_reads(name):
    "The first step behind the checkout names every variable that the job cannot do without."
    steps = WORK[name]["steps"]
    wanted = {v for v in read_by(json.dumps(steps)) if not listed()[v].endswith("optional")}
    asked = [s["run"] for s in steps if "settings.py" in s.get("run", "")]
    assert set(" ".join(asked).split()[1:]) == wanted
    if wanted:
        assert "settings.py" in steps[1]["run"], "before anything is done"


def settings(*names, **given):
    "What settings.py says of these variables."
    script = REPO / ".github" / "settings.py"
    return subprocess.run(
        [script, *names], env={**os.environ, "SETTINGS": json.dumps(given)}, capture_output=True, text=True
    )


def test_a_missing_variable_fails_the_job_by_its_name():
    assert settings("AWS_REGION", "TF_BACKEND", AWS_REGION="eu-west-1", TF_BACKEND="a\nb").returncode == 0
    done = settings("AWS_REGION", "TF_BACKEND", "TF_VARIABLES", AWS_REGION="eu-west-1", TF_BACKEND="")
    assert done.returncode == 1
    assert re.findall(r"^::error title=Variable (\w+) is not set::", done.stdout, re.M) == [
        "TF_BACKEND",
        "TF_VARIABLES",
    ]


def test_the_missions_eight_jobs():
    names = sorted(j["name"] for j in WORK.values())
    for number, words in enumerate(EIGHT, 1):
        assert [n for n in names if n.startswith(f"{number}. {words}")], words
    assert len([n for n in names if n.startswith("8.")]) == 2, "the sandbox before, the endpoint after"


def test_every_action_is_pinned_by_commit_and_says_its_version():
    for path in WORKFLOWS.values():
        for line in re.findall(r"uses: (.*)", path.read_text()):
            assert line.startswith("./.github/") or re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", line), line


@pytest.mark.parametrize("name", WORK)
def test_every_job_has_its_limits(name):
    job = WORK[name]
    assert 0 < job["timeout-minutes"] <= 60 and job["permissions"], name
    for step in job["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    if "id-token" in job["permissions"]:
        assert "environment" in job or "pull_request" in job["if"]


def test_production_waits_for_everything_and_staging_is_an_option():
    checks = {n.partition(".")[2] for n, j in WORK.items() if n.startswith("ci.") and "if" not in j}
    staging, production = JOBS["ci.staging"], JOBS["ci.production"]
    assert set(staging["needs"]) == checks and set(production["needs"]) == checks | {"staging"}
    assert "vars.STAGING == 'on'" in staging["if"] and "!failure()" in production["if"]
    for job in (staging, production):
        assert "github.ref == 'refs/heads/main'" in job["if"] and "vars.DEPLOY != 'off'" in job["if"]
        assert job["uses"] == "./.github/workflows/deploy.yml"
