"What every notebook and module of this repository keeps to."

import ast
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
PACKAGE = REPO / "skin_lesion_mlops"
WINGS = ("core", "data", "evaluation", "model", "serve", "monitor", "pipeline", "aws", "cli")  # in reading order
COMPUTE, CONTROL = ("data", "evaluation", "model", "serve", "monitor"), ("pipeline", "aws")
LIBRARY = sorted(p for p in (REPO / "nbs").rglob("*.ipynb") if re.match(r"\d", p.name))
STEPS = sorted((REPO / "nbs" / "steps").glob("*.ipynb"))
REPORTS = STEPS + sorted((REPO / "nbs" / "benchmarks").glob("*.ipynb"))
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.stem not in ("__init__", "_modidx"))


def cells(notebook: Path, kind: str = "") -> list:
    return [c for c in json.loads(notebook.read_text())["cells"] if not kind or c["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def module_of(notebook: Path) -> str:
    found = [re.match(r"# ?\|\s*default_exp ([\w.]+)", source(c)) for c in cells(notebook, "code")]
    return next(m.group(1) for m in found if m)


def name_of(module: Path) -> str:
    "The dotted name of a file, without the package's."
    return ".".join(module.relative_to(PACKAGE).with_suffix("").parts)


ids = dict(ids=lambda p: p.relative_to(REPO).with_suffix("").as_posix())


def imports(module: Path) -> set:
    "The absolute name of everything imported anywhere in a file, also inside functions."
    found, inside = set(), module.relative_to(REPO).parts
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        if isinstance(node, ast.ImportFrom):
            base = ".".join([*(inside[: -node.level] if node.level else ()), *filter(None, [node.module])])
            found |= {base, *(f"{base}.{a.name}" for a in node.names)}
    return found


def ours(module: Path) -> set:
    "The modules of this package that a module imports."
    names = {name_of(m) for m in MODULES}
    return {n for i in imports(module) if (n := i.partition(".")[2]) in names and i.startswith(f"{PACKAGE.name}.")}


def wing_of(name: str) -> str:
    return name.split(".")[0] if "." in name else "core"


def test_every_notebook_is_one_module_in_the_wing_of_its_folder():
    made = {module_of(p): p for p in LIBRARY}
    assert len(made) == len(LIBRARY) >= 45, "two notebooks write one module, or a folder was not searched"
    assert set(made) == {name_of(m) for m in MODULES}
    folders = {p.name for p in (REPO / "nbs").iterdir() if p.is_dir()} - {"steps", "benchmarks", "images", "guides"}
    assert folders == set(WINGS) - {"core"} == {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    for name, notebook in made.items():
        folder, title = [("nbs", *name.split("."))[-2], name.split(".")[-1]]
        assert notebook.parent.name == folder and re.fullmatch(
            rf"\d\d_{title}", notebook.stem
        ), f"{notebook} writes {name}"


@pytest.mark.parametrize("notebook", LIBRARY, **ids)
def test_library_notebook_reads_like_a_chapter(notebook):
    n, prose = len(cells(notebook)), len(cells(notebook, "markdown"))
    assert n <= 80, f"{n} cells: split it"
    assert prose >= n / 4, f"{prose} of {n} cells are prose"
    assert source(cells(notebook, "markdown")[0]).startswith("# "), "the first words are the title"
    assert "\n> " in source(cells(notebook, "markdown")[0]), "a one-line promise follows the title"
    assert not [c for c in cells(notebook) if "parameters" in c["metadata"].get("tags", [])]


@pytest.mark.parametrize("notebook", LIBRARY, **ids)
def test_export_cells_are_short(notebook):
    "Define, show, assert: about 40 lines are enough before something is shown; a cell of imports may be longer."
    for c in cells(notebook, "code"):
        text = source(c)
        if re.match(r"# ?\|\s*export", text) and not all(
            isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(text).body
        ):
            assert len(text.splitlines()) <= 48, f"{c['id']} has {len(text.splitlines())} lines: divide it"


@pytest.mark.parametrize("notebook", LIBRARY + REPORTS, **ids)
def test_code_is_formatted_by_black(notebook):
    black = pytest.importorskip("black")
    for c in cells(notebook, "code"):
        code = re.sub(r"^#\| ", "# | ", source(c), flags=re.M)
        if not re.search(r"^[%!]", code, re.M):
            ended = code.rstrip("\n") + "\n"  # black goes over it once more where anything changes
            clean = black.format_str(ended, mode=black.Mode(line_length=120)).rstrip()
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


UNITS = "ms|px|USD|seconds|bytes|kB|MB|hours|UTC|NaN|ISO|JSON|HTML|SHA|URI|ARN|days|minutes|pixels|images|lesions|month"


@pytest.mark.parametrize("module", MODULES, **ids)
def test_a_comment_behind_a_parameter_says_something(module):
    "Unit, shape, range, error or source, in three words or in symbols; what the name says already is left out."
    lines = module.read_text().splitlines()
    nodes = ast.walk(ast.parse("\n".join(lines)))
    for f in (n for n in nodes if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))):
        for line in lines[f.lineno - 1 : f.body[0].lineno - 1]:
            comment = line.partition("  # ")[2]
            technical = re.search(rf"[^\w\s,;.-]|\d|_|\b({UNITS})\b", comment)
            assert not comment or technical or len(comment.split()) > 2, f"{f.name}: leave out '{comment}'"


ORDER = [module_of(p) for w in WINGS for p in LIBRARY if wing_of(module_of(p)) == w]


@pytest.mark.parametrize("module", MODULES, **ids)
def test_a_module_imports_only_what_comes_before_it(module):
    "Within a wing by number; a wing imports wings before it in `WINGS`; control wings import no compute wing."
    name = name_of(module)
    after = [m for m in ours(module) if ORDER.index(m) >= ORDER.index(name)]
    assert not after, f"{name} imports {after}"
    if wing_of(name) in CONTROL:
        compute = [m for m in ours(module) if wing_of(m) in COMPUTE]
        assert not compute, f"{name} imports {compute}"


def test_the_picture_of_the_wings_is_what_the_imports_say():
    text = (REPO / "CONTRIBUTING.md").read_text()
    drawn = set()
    for left, right in re.findall(r"^ +([\w &]+) --> ([\w &]+)$", text, re.M):
        drawn |= {(a, b) for a in left.split(" & ") for b in right.split(" & ") if b != "core"}
    real = {(wing_of(name_of(m)), wing_of(o)) for m in MODULES for o in ours(m)}
    assert drawn == {(a, b) for a, b in real if a != b and b != "core"}


@pytest.mark.parametrize("notebook", LIBRARY, **ids)
def test_the_readme_has_a_row_for_every_module_with_its_promise(notebook):
    prose = "\n".join(source(c) for c in cells(notebook, "markdown"))
    promise = re.search(r"^> (.*(?:\n> .*)*)", prose, re.M)[1].replace("\n> ", " ")
    path, name = notebook.relative_to(REPO).as_posix(), module_of(notebook).split(".")[-1]
    row = f"| [{path[4:-6]}]({path}) | `{name}` | {promise} |"
    assert (REPO / "README.md").read_text().splitlines().count(row) == 1, f"README.md (nbs/index.ipynb) lacks {row}"


@pytest.mark.parametrize("module", MODULES, **ids)
def test_two_colours(module):
    roots, wing = {i.split(".")[0] for i in imports(module)}, wing_of(name_of(module))
    if wing in (*COMPUTE, "core"):
        assert not roots & {"boto3", "botocore", "sagemaker"}
    if wing in (*CONTROL, "core"):
        assert not roots & {"torch", "torchvision"}


@pytest.mark.parametrize("module", [m for m in MODULES if wing_of(name_of(m)) in ("core", "data", "pipeline")], **ids)
def test_runs_on_the_oldest_container(module):
    "The scikit-learn 1.2-1 container has Python 3.9."
    text = module.read_text()
    assert "from __future__ import annotations" in text
    ast.parse(text, feature_version=(3, 9))


def test_file_names_are_written_once():
    from skin_lesion_mlops.core import Files

    names = [v for k, v in vars(Files).items() if k.isupper() and v not in ("metadata.csv", "index.csv", "split.csv")]
    for module in MODULES:
        strings = {n.value for n in ast.walk(ast.parse(module.read_text())) if isinstance(n, ast.Constant)}
        spelled = [n for n in names if n in strings]
        assert module.stem == "core" or not spelled, f"{module.name} spells {spelled}: use core.Files"


def test_make_keeps_bytecode_also_where_the_machine_does_not(tmp_path):
    (tmp_path / "Makefile").write_text(f'include {REPO}/Makefile\nkept:\n\t@echo "[$$PYTHONDONTWRITEBYTECODE]"\n')
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(["make", "-C", tmp_path, "kept"], env=env, capture_output=True, text=True)
    assert "[]" in done.stdout, done.stderr
