"Names a notebook that cannot be read; nbdev says the same without its name. `make export` and `make test` run it."

import json
import sys
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


if __name__ == "__main__":
    sys.exit("\n".join(unreadable(Path("nbs"))) or 0)
