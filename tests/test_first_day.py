"`infra/FIRST_DAY.md` and the READMEs: the commands they tell a person to type are commands that exist."

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from skin_lesion_mlops.cli.app import app

REPO = Path(__file__).resolve().parent.parent
PAGES = [REPO / "README.md", REPO / "infra" / "README.md", REPO / "infra" / "FIRST_DAY.md"]
INFRA = {root: "".join(p.read_text() for p in (REPO / "infra" / root).glob("*.tf")) for root in (".", "bootstrap")}


def typed(page: Path) -> list[str]:
    "Every command in the page's shell blocks, continued lines joined, comments dropped."
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = [re.sub(r"\s+#.*", "", line).strip() for line in lines]
    return [c for line in commands for c in re.split(r" && | ; |; do ", line) if c]


def commands(program: str) -> list[tuple[str, str]]:
    "The page and the words of every command of one program."
    return [(p.name, c) for p in PAGES for c in typed(p) if re.match(rf"{program}\b", c)]


@pytest.mark.parametrize("page,line", commands("skin-lesion"))
def test_a_verb_exists_and_takes_what_it_is_given(page, line):
    words, verb = shlex.split(line.replace("$(", "").replace(")", ""))[1:], get_command(app)
    while words and words[0] in getattr(verb, "commands", {}):
        verb = verb.commands[words.pop(0)]
    known = {o for p in verb.params for o in p.opts}
    if hasattr(verb, "commands"):
        assert verb.invoke_without_command and not [w for w in words[:1] if w[0] != "-"], f"{line}: no such verb"
    for word in words:
        assert not re.match(r"--?[a-z]", word) or word in known, f"{line}: no option {word}"


@pytest.mark.parametrize("page,line", [c for c in commands("terraform") if "state list" not in c[1]])
def test_terraform_knows_its_variables_outputs_and_files(page, line):
    root = "bootstrap" if "-chdir=bootstrap" in line else "."
    for name in re.findall(r"-var[ =]'?([a-z_]+)=", line):
        assert f'variable "{name}"' in INFRA[root], f"{line}: no variable {name}"
    for name in re.findall(r"output (?:-raw |-json )?([a-z_]+)", line):
        assert f'output "{name}"' in INFRA[root], f"{line}: no output {name}"
    for path in re.findall(r"-var-file=(examples/\S+)", line):
        assert (REPO / "infra" / path).exists(), path


def test_the_first_day_names_what_it_cannot_know():
    text = (REPO / "infra" / "FIRST_DAY.md").read_text()
    assert "None of this was ever run on a real account" in text
    steps = re.findall(r"^## \d\. (.*)$", text, re.M)
    assert len(steps) == 9
    for step in steps[:7]:
        assert re.search(r"\(.*(minute|hour).*; .*(USD|free).*\)", step), f"{step}: how long, and what does it cost?"
