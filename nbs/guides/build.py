"""The pages of the documentation, as Markdown, from the notebooks, the modules and the guides: `make docs` calls it.

Every link is followed: one that leads nowhere is an error. A link to a file that is no page leads to the repository.
"""

import ast
import base64
import json
import os
import posixpath
import re
import shutil
import sys
import tokenize
from configparser import ConfigParser
from html import escape
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
WINGS = ("core", "data", "evaluation", "model", "serve", "monitor", "pipeline", "aws", "cli")
PLAIN = {  # file -> page
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "infra/README.md": "infra/index.md",
    "infra/FIRST_DAY.md": "infra/first_day.md",
    "lambdas/README.md": "infra/lambdas.md",
}
GUIDES = (  # in reading order
    "laptop_to_aws",
    "own_data",
    "reading_the_report",
    "studio",
    "new_step",
    "runbook",
    "hipaa",
    "disaster_recovery",
    "release",
    "notebooks_in_a_team",
)


def pages():  # -> dict: file of the repository -> page, both relative
    "What becomes a page."
    found = {f: p for f, p in PLAIN.items() if (REPO / f).is_file()}
    found.update({f"nbs/guides/{g}.md": f"guides/{g}.md" for g in GUIDES})
    for notebook in sorted((REPO / "nbs").rglob("*.ipynb")):
        name = notebook.relative_to(REPO).as_posix()
        folder = notebook.parent.name if notebook.parent != REPO / "nbs" else "core"
        if name != "nbs/index.ipynb" and ".ipynb_checkpoints" not in name:
            found[name] = f"chapters/{folder}/{notebook.stem}.md"
    return found


# ---- graphs

BOX = (118, 34, 30, 34)  # width and height of a box, and the gaps beside and below it, in pixels


def read_graph(text):  # -> edges as (from, to), groups: name -> nodes, headings: name -> its label
    "A graph in Mermaid's words, as far as ours use them: `a & b --> c & d`, `subgraph name[label]`."
    edges, groups, headings, inside = set(), {"": []}, {}, ""
    for line in map(str.strip, text.splitlines()[1:]):
        if m := re.fullmatch(r"subgraph (\w+)(?:\[(.*)\])?", line):
            inside = m[1]
            groups[inside], headings[inside] = [], m[2] or m[1]
        elif "-->" in line:
            many, few = ([w.strip() for w in side.split("&")] for side in line.split("-->"))
            edges |= {(a, b) for a in many for b in few}
        elif line == "end":
            inside = ""
        elif line:
            groups[inside].append(line)
    return edges, groups, headings


def place_graph(edges, groups):  # -> dict: node -> (x, y) of its middle in boxes; y counts from below
    "Every node above all that it points to; each group has its own columns, what is in none stands in the middle."
    nodes = [n for g in groups.values() for n in g]
    rank = dict.fromkeys(nodes, 0)
    for _ in nodes:
        rank.update({a: max(rank[b] + 1 for x, b in edges if x == a) for a, _ in edges})
    left, places = 0.0, {}
    for members in [g for name, g in groups.items() if name]:
        rows = [[n for n in members if rank[n] == r] for r in range(len(nodes))]
        wide = max(map(len, rows))
        for row in rows:
            places.update({n: (left + wide / 2 + i - (len(row) - 1) / 2, rank[n]) for i, n in enumerate(row)})
        left += wide
    return {**places, **{n: (left / 2, rank[n]) for n in groups[""]}}


def graph_picture(text):  # -> str: SVG in the page's own colours
    "A graph as a picture that needs no script; an arrow that follows from others is left out."
    edges, groups, headings = read_graph(text)
    places, (w, h, dx, dy) = place_graph(edges, groups), BOX
    top = max(y for _, y in places.values())
    at = {n: (round(x * (w + dx)), round((top - y + 0.5) * (h + dy))) for n, (x, y) in places.items()}
    reach = {a: {b for x, b in edges if x == a} for a in places}
    for _ in places:
        reach = {a: bs.union(*(reach[b] for b in bs)) for a, bs in reach.items()}
    drawn = [(a, b) for a, b in sorted(edges) if not any(b in reach[c] for x, c in edges if x == a)]
    lines = [(*at[a], *at[b]) for a, b in drawn]
    parts = [
        f'<path d="M{x} {y + h // 2}C{x} {y + h} {v} {z - h} {v} {z - h // 2 - 7}" class="edge"/>'
        for x, y, v, z in lines
    ]
    parts += [f'<path d="M{v - 4} {z - h // 2 - 8}h8l-4 7z" class="head"/>' for _, _, v, z in lines]
    for name, members in groups.items():
        box = f'width="{w}" height="{h}" rx="6" class="{name or "node"}"'
        for n in members:
            parts.append(f'<rect x="{at[n][0] - w // 2}" y="{at[n][1] - h // 2}" {box}/>')
            parts.append(f'<text x="{at[n][0]}" y="{at[n][1] + 5}">{n}</text>')
    size = f"{max(x for x, _ in at.values()) + (w + dx) // 2} {(top + 1) * (h + dy)}"
    told = ", ".join(f"{a} uses {b}" for a, b in drawn)
    keys = "".join(f'<span class="{n}">{escape(label)}</span>' for n, label in headings.items())
    picture = f'<svg viewBox="0 0 {size}" role="img" aria-label="{told}">{"".join(parts)}</svg>'
    return f'<figure class="graph">{picture}<figcaption>{keys}</figcaption></figure>\n'


# ---- notebooks -> Markdown


def _fence(text, language):
    "A block of code, whatever is in it."
    ticks = "`" * max(3, *(len(m) + 1 for m in re.findall(r"`+", text)), 3)
    return f"{ticks} {{ .{language} }}\n{text.rstrip()}\n{ticks}\n"


def _output(output, picture):  # picture: a function that keeps a PNG and answers its address
    "What a cell has shown."
    if output["output_type"] == "stream":
        return _fence(re.sub(r"\x1b\[[0-9;]*m", "", "".join(output["text"])), "text .output")
    data = output.get("data", {})
    if "image/png" in data:
        return f"![a figure]({picture(''.join(data['image/png']))})\n"
    if "text/html" in data:
        return re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.S).replace("\n\n", "\n") + "\n"
    if "text/markdown" in data:
        return "".join(data["text/markdown"]) + "\n"
    return _fence("".join(data["text/plain"]), "text .output") if "text/plain" in data else ""


def notebook_page(notebook, picture):
    "A notebook as Markdown, with what it has shown; directives and hidden cells are left out."
    parts, cells = [], json.loads(notebook.read_text("utf-8"))["cells"]
    for c in sorted(cells, key=lambda c: not "".join(c["source"]).startswith("# ")):  # the title before its imports
        text = "".join(c["source"])
        if c["cell_type"] == "markdown":
            parts.append(text + "\n")
        if c["cell_type"] != "code" or re.match(r"#\| *(hide|default_exp)", text):
            continue
        code = re.sub(r"^#\|.*\n?", "", text, flags=re.M).strip()
        parts.append(_fence(code, "python") if code else "")
        parts += [_output(o, picture) for o in c["outputs"] if o.get("name") != "stderr"]
    return "\n".join(parts)


# ---- modules -> Markdown


def _comments(module):  # -> dict: line -> the comment at its end
    with open(module, "rb") as f:
        return {t.start[0]: t.string[1:].strip() for t in tokenize.tokenize(f.readline) if t.type == tokenize.COMMENT}


def _rows(entries):  # (name, type, default, meaning)
    if not entries:
        return ""
    rows = [" | ".join(f"`{c}`" if c and i < 3 else c for i, c in enumerate(e)) for e in entries]
    head = "| name | type | default | meaning |\n|---|---|---|---|\n"
    return head + "\n".join("| " + r.replace("\n", " ").replace("||", "\\|\\|") + " |" for r in rows) + "\n"


def _cell(node):
    return ast.unparse(node).replace("|", "\\|") if node else ""


def _parameters(f, comments):
    "The parameters of a function, and what it returns."
    a = f.args
    given = [*a.posonlyargs, *a.args]
    defaults = [None] * (len(given) - len(a.defaults)) + a.defaults
    starred = [x for x in (a.vararg,) if x]
    more = [*zip(given, defaults), *((x, None) for x in starred), *zip(a.kwonlyargs, a.kw_defaults)]
    more += [(a.kwarg, None)] if a.kwarg else []
    rows = []
    for arg, default in more:
        if arg.arg not in ("self", "cls", "_"):
            line = (default or arg).end_lineno
            alone = line != f.lineno  # on a line of its own
            told = comments.get(line, "") if alone else ""
            rows.append((arg.arg, _cell(arg.annotation), _cell(default), told.replace("|", "\\|")))
    told = comments.get(f.returns.end_lineno, "") if f.returns else ""
    if f.returns and _cell(f.returns) != "None":
        rows.append(("returns", _cell(f.returns), "", told.replace("|", "\\|")))
    return rows


def _entry(node, comments):
    "A function or a class."
    said = (ast.get_docstring(node) or "").partition("\n\n")[0]
    if not isinstance(node, ast.ClassDef):
        return f"### {node.name}\n\n{said}\n\n{_rows(_parameters(node, comments))}"
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
    rows = [(_cell(n.target), _cell(n.annotation), _cell(n.value), comments.get(n.end_lineno, "")) for n in fields]
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
    told = [f"- `{m.name}`: {ast.get_docstring(m) or ''}" for m in methods]
    return f"### {node.name}\n\n{said}\n\n{_rows(rows)}\n" + "\n".join(told) + "\n"


def module_page(module, chapter):  # chapter: address of its notebook
    "The public names of a module, with their parameters."
    tree, comments = ast.parse(module.read_text("utf-8")), _comments(module)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [n for n in tree.body if isinstance(n, kinds) and not n.name.startswith("_")]
    head = f"## {module.stem}\n\n{ast.get_docstring(tree)} [The chapter]({chapter}) shows it at work.\n\n"
    return head + "\n".join(_entry(n, comments) for n in public)


def api_page(wing, known):
    "A wing's modules."
    folder = REPO / "skin_lesion_mlops" / ("" if wing == "core" else wing)
    parts = [f"# {wing}\n"]
    for notebook in known:
        m = re.fullmatch(r"nbs/(?:(\w+)/)?\d\d_(\w+)\.ipynb", notebook)
        if m and (m[1] or "core") == wing:
            parts.append(module_page(folder / f"{m[2]}.py", f"../{known[notebook]}"))
    return "\n".join(parts)


def commands_page():
    "Every verb of `skin-lesion`, as `--help` explains it."
    from typer.main import get_command
    from typer.testing import CliRunner

    from skin_lesion_mlops.cli.app import app

    def verbs(group, path=()):
        yield path
        for name, c in sorted(getattr(group, "commands", {}).items()):
            yield from verbs(c, (*path, name))

    runner, parts = CliRunner(env=dict(COLUMNS="80", TERMINAL_WIDTH="80")), ["# Commands\n"]
    for words in verbs(get_command(app)):
        told = runner.invoke(app, [*words, "--help"], prog_name="skin-lesion").output
        parts.append(f"## {' '.join(('skin-lesion', *words))}\n\n{_fence(told, 'text')}")
    return "\n".join(parts)


# ---- links

LINK = re.compile(r"(?<!\\)(\]\()([^)\s]+)(\))")


class Links:
    "Where a link of a file leads to, on the page that the file becomes."

    def __init__(self, known, out, url):
        self.known, self.out, self.url, self.broken = known, out, url, []

    def rewrite(self, text, source):  # source: a file of the repository, relative
        "The text with its links as they must be on its page; what is in code stays."
        pieces = re.split(r"(^```.*?^```+ *$|`[^`\n]*`(?!\]))", text, flags=re.M | re.S)
        return "".join(p if i % 2 else LINK.sub(lambda m: self._link(m, source), p) for i, p in enumerate(pieces))

    def _link(self, m, source):
        address, _, anchor = m[2].partition("#")
        if re.match(r"[a-z]+:", m[2]) or not address or address.startswith("figures/"):
            return m[0]
        places = [posixpath.join(posixpath.dirname(source), address)]
        places += [posixpath.join("nbs", address)] if source.endswith(".ipynb") else []  # as nbdev has them
        real = next((p for p in map(posixpath.normpath, places) if (REPO / p).exists()), None)
        if real is None:
            self.broken.append(f"{source}: {m[2]}")
            return m[0]
        return m[1] + self._target(real, source) + (f"#{anchor}" if anchor else "") + m[3]

    def _target(self, real, source):
        here = posixpath.dirname(self.known[source])
        if real in self.known:
            return posixpath.relpath(self.known[real], here or ".")
        if re.search(r"\.(png|svg|jpg)$", real):
            kept = f"assets/{real}"
            (self.out / kept).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPO / real, self.out / kept)
            return posixpath.relpath(kept, here or ".")
        return f"{self.url}/{'tree' if (REPO / real).is_dir() else 'blob'}/main/{real}"


# ---- the site


def title_of(text):
    "The first heading."
    return re.search(r"^# (.+)$", text, re.M)[1].replace("`", "")


def navigation(titles, known):  # titles: page -> title
    "What stands at the side."
    chapters = []
    for wing in (*WINGS, "steps", "benchmarks"):
        inside = [p for p in known.values() if p.startswith(f"chapters/{wing}/")]
        chapters.append({wing: [{titles[p]: p} for p in inside]})
    api = [{"skin-lesion": "api/commands.md"}, *({w: f"api/{w}.md"} for w in WINGS)]
    guides = [{titles[p]: p} for p in known.values() if p.startswith("guides/")]
    infra = [{titles[p]: p} for p in known.values() if p.startswith("infra/")]
    more = [{"Contributing": "contributing.md"}, {"Changes": "changelog.md"}]
    return [{"Start": "index.md"}, {"Guides": guides}, {"Chapters": chapters}, {"API": api}, {"AWS": infra}, *more]


def write_pages(out):  # -> dict: page -> title; raises SystemExit where a link leads nowhere
    "All pages, in a folder."
    config = ConfigParser(delimiters=["="])
    config.read(REPO / "settings.ini", encoding="utf-8")
    known, titles = pages(), {}
    links = Links(known, out, config["DEFAULT"]["git_url"])
    for source, page in known.items():
        path = out / page
        path.parent.mkdir(parents=True, exist_ok=True)
        figures = path.parent / "figures"

        def picture(data, stem=path.stem, figures=figures):
            figures.mkdir(exist_ok=True)
            name = f"{stem}-{len(list(figures.glob(f'{stem}-*')))}.png"
            (figures / name).write_bytes(base64.b64decode(data))
            return f"figures/{name}"

        is_notebook = source.endswith(".ipynb")
        text = notebook_page(REPO / source, picture) if is_notebook else (REPO / source).read_text("utf-8")
        text = re.sub(r"^```mermaid\n(.*?)^```\n", lambda m: graph_picture(m[1]), text, flags=re.M | re.S)
        path.write_text(links.rewrite(text, source), "utf-8")
        titles[page] = title_of(text)
    (out / "api").mkdir(exist_ok=True)
    for wing in WINGS:
        (out / f"api/{wing}.md").write_text(api_page(wing, known), "utf-8")
    (out / "api/commands.md").write_text(commands_page(), "utf-8")
    for extra in ("style.css", "iframe-worker.js"):
        shutil.copyfile(Path(__file__).parent / extra, out / extra)
    if links.broken:
        sys.exit("links that lead nowhere:\n" + "\n".join(sorted(set(links.broken))))
    return known, titles


def main(build):
    "Write the pages and the configuration that has them in order."
    shutil.rmtree(build / "docs", ignore_errors=True)
    known, titles = write_pages(build / "docs")
    base = os.path.relpath(Path(__file__).parent / "mkdocs.yml", build)
    nav = json.dumps(navigation(titles, known))
    (build / "mkdocs.yml").write_text(f"INHERIT: {base}\ndocs_dir: docs\nsite_dir: site\nnav: {nav}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
