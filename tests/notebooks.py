"""Names a notebook that cannot be read; nbdev says the same without its name. `make export` and `make test` run it.

With the word `run` it is `nbdev_test --n_workers 0`, in a process that is prepared as those of pytest are."""

import gc
import json
import sys
from functools import partial
from pathlib import Path

MARKS = ("<<<<<<< ", ">>>>>>> ")  # git's, of a conflict by line


def unreadable(folder: Path) -> list[str]:
    "A sentence for each notebook that is none."
    told = []
    for path in sorted(p for p in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts):
        text = path.read_text("utf-8", errors="replace")
        try:
            json.loads(text)
        except ValueError as e:
            merged = any(line.startswith(MARKS) for line in text.splitlines())
            why = "a conflict of git's is in it; nbs/guides/notebooks_in_a_team.md says what to do" if merged else e
            told.append(f"{path} is no notebook: {why}")
    return told


def run() -> None:
    "Execute every notebook in this process, which is prepared as one of pytest's is."
    import nbdev.test

    from tests import conftest  # noqa: F401

    # nobody looks at these pictures: they are drawn once a pixel, not four times
    nbdev.test.CaptureShell = partial(nbdev.test.CaptureShell, mpl_format="png")
    try:
        nbdev.test.nbdev_test(n_workers=0)
    finally:
        gc.freeze()  # each notebook's shell ends with a search for garbage in what all of them have made: a second each


if __name__ == "__main__":
    if sys.argv[1:] == ["run"]:
        sys.exit(run())
    sys.exit("\n".join(unreadable(Path("nbs"))) or 0)
