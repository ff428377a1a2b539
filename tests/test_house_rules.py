"What every notebook and module of this repository keeps to."

import ast
import json
import re
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
LIBRARY = sorted(p for p in (REPO / "nbs").glob("*.ipynb") if re.match(r"\d", p.name))
STEPS = sorted((REPO / "nbs" / "steps").glob("*.ipynb"))
REPORTS = STEPS + sorted((REPO / "nbs" / "benchmarks").glob("*.ipynb"))
COMPUTE = {"data", "fetch", "synthetic", "preprocess", "models", "train", "evaluate", "explain", "serve", "monitor"}
COMPUTE |= {"bundle", "engines", "familiarity", "predictor", "messages", "telemetry", "capture", "load"}
COMPUTE |= {"drift", "quality", "bias"}
CONTROL = {"registry", "pipeline", "local", "deploy", "watch"}


def cells(notebook: Path, kind: str = "") -> list:
    return [c for c in json.loads(notebook.read_text())["cells"] if not kind or c["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def module_of(notebook: Path) -> str:
    found = [re.match(r"# ?\|\s*default_exp (\w+)", source(c)) for c in cells(notebook, "code")]
    return next(m.group(1) for m in found if m)


ORDER = {module_of(p): i for i, p in enumerate(LIBRARY)}
MODULES = sorted(REPO / "skin_lesion_mlops" / f"{m}.py" for m in ORDER)
ids = dict(ids=lambda p: p.stem)


def imports(module: Path) -> set:
    "Every module imported anywhere in a file, also inside functions."
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


@pytest.mark.parametrize("notebook", LIBRARY, **ids)
def test_library_notebook_reads_like_a_chapter(notebook):
    n, prose = len(cells(notebook)), len(cells(notebook, "markdown"))
    assert n <= 80, f"{n} cells: split it"
    assert prose >= n / 4, f"{prose} of {n} cells are prose"
    assert source(cells(notebook, "markdown")[0]).startswith("# "), "the first words are the title"
    assert "\n> " in source(cells(notebook, "markdown")[0]), "a one-line promise follows the title"
    assert not [c for c in cells(notebook) if "parameters" in c["metadata"].get("tags", [])]


@pytest.mark.parametrize("notebook", LIBRARY + REPORTS, **ids)
def test_code_is_formatted_by_black(notebook):
    black = pytest.importorskip("black")
    for c in cells(notebook, "code"):
        code = re.sub(r"^#\| ", "# | ", source(c), flags=re.M)
        if not re.search(r"^[%!]", code, re.M):
            clean = black.format_str(code, mode=black.Mode(line_length=120)).rstrip()
            assert code.rstrip(";\n") == clean.rstrip(";\n"), "run `make format`"


@pytest.mark.parametrize("notebook", REPORTS, **ids)
def test_step_notebook_is_a_report(notebook):
    from skin_lesion_mlops.pipeline.launch import parameters_of

    code = [source(c) for c in cells(notebook, "code")]
    assert len(code) <= 12, f"{len(code)} code cells"
    assert not [c for c in code if re.search(r"^# ?\|\s*export", c, re.M)]
    for c in code:
        plain = "\n".join(line for line in c.splitlines() if not line.startswith(("%", "!")))
        bad = [n for n in ast.walk(ast.parse(plain)) if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
        assert not bad, f"{bad[0].name} belongs in the library"
    for p in parameters_of(notebook).values():
        assert p.type in ("str", "int", "float", "bool") and p.help, f"{p.name} lacks a type or a meaning"


@pytest.mark.parametrize("notebook", LIBRARY + REPORTS, **ids)
def test_outputs_are_small_and_carry_no_path_of_a_machine(notebook):
    assert notebook.stat().st_size < 400_000
    text = "".join(json.dumps(c.get("outputs", [])) for c in cells(notebook, "code"))
    text = re.sub(r'"image/(png|jpeg)": "[^"]*"', "", text)
    assert not re.search(r"/(root|home|work|Users)/", text)
    assert not [o for c in cells(notebook, "code") for o in c["outputs"] if o["output_type"] == "error"]


@pytest.mark.parametrize("module", MODULES, **ids)
def test_functions_are_short_and_documented(module):
    lines = module.read_text().splitlines()
    tree = ast.parse("\n".join(lines))
    methods = [n for c in tree.body if isinstance(c, ast.ClassDef) for n in c.body]
    for node in tree.body + methods:  # a function inside another is its business
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        length = node.end_lineno - node.lineno + 1
        assert length <= 40, f"{module.name}: {node.name} has {length} lines"
        if node in methods or not node.name.startswith("_"):
            assert ast.get_docstring(node) or node.name.startswith("_"), f"{module.name}: {node.name} has no docstring"
        if node not in methods and not node.name.startswith("_"):
            bare = [a.arg for a in node.args.args + node.args.kwonlyargs if not _explained(lines[a.lineno - 1], a.arg)]
            assert not bare, f"{module.name}: {node.name} does not explain {bare}"


def _explained(line: str, arg: str) -> bool:
    return arg in ("self", "cls") or "  # " in line or "help=" in line


@pytest.mark.parametrize("module", MODULES, **ids)
def test_a_module_imports_only_lower_numbers(module):
    ours = {i.split(".")[1] for i in imports(module) if i.startswith("skin_lesion_mlops.")}
    above = [m for m in ours if m in ORDER and ORDER[m] >= ORDER[module.stem] and m != module.stem]
    assert not above, f"{module.stem} imports {above}"


@pytest.mark.parametrize("module", MODULES, **ids)
def test_two_colours(module):
    roots = {i.split(".")[0] for i in imports(module)}
    if module.stem in COMPUTE:
        assert not roots & {"boto3", "botocore", "sagemaker"}
    if module.stem in CONTROL:
        assert not roots & {"torch", "torchvision"}


@pytest.mark.parametrize("name", ["core", "launch", "data", "preprocess"])
def test_runs_on_the_oldest_container(name):
    "The scikit-learn 1.2-1 container has Python 3.9."
    text = (REPO / "skin_lesion_mlops" / f"{name}.py").read_text()
    assert "from __future__ import annotations" in text
    ast.parse(text, feature_version=(3, 9))


def test_file_names_are_written_once():
    from skin_lesion_mlops.core import Files

    names = [v for k, v in vars(Files).items() if k.isupper() and v not in ("metadata.csv", "index.csv", "split.csv")]
    for module in MODULES:
        strings = {n.value for n in ast.walk(ast.parse(module.read_text())) if isinstance(n, ast.Constant)}
        spelled = [n for n in names if n in strings]
        assert module.stem == "core" or not spelled, f"{module.name} spells {spelled}: use core.Files"
