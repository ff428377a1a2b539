"The wheel in an empty environment: it carries everything, and needs no repository. `make release` runs it."

import re
import subprocess
import sys
import tempfile
import venv
from configparser import ConfigParser
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
PACKAGE = REPO / "skin_lesion_mlops"
INSIDE = """
import importlib.metadata, json, pathlib, skin_lesion_mlops as package
folder = pathlib.Path(package.__file__).parent
files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc")
print(json.dumps(dict(version=importlib.metadata.version("skin_lesion_mlops"), files=files)))
"""


def carried() -> set[str]:
    "What a wheel must have: every module, and every file that is read at run time."
    kept = [p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix != ".pyc" and "_pycache_" not in str(p)]
    steps = {f"steps/{p.name}" for p in (REPO / "nbs" / "steps").glob("*.ipynb")}
    return {p.relative_to(PACKAGE).as_posix() for p in kept} | steps


def version() -> str:
    "The version of this repository; its change log must know it."
    config = ConfigParser(delimiters=["="])
    config.read(REPO / "settings.ini", encoding="utf-8")
    found = config["DEFAULT"]["version"]
    known = re.findall(r"^## \[([\d.]+)\] - \d{4}-\d\d-\d\d$", (REPO / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert found in known, f"CHANGELOG.md has no section for {found}"
    return found


def main(wheel: Path) -> None:
    "Install it where there is nothing, and use it where there is nothing."
    import json

    wanted, number = carried(), version()
    with tempfile.TemporaryDirectory() as made:
        folder, home = Path(made, "environment"), Path(made, "empty")
        venv.create(folder, with_pip=True)
        home.mkdir()
        pip = [folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "-qq", "install"]
        subprocess.run([*pip, "-c", REPO / "constraints.txt", f"{wheel.resolve()}[train]"], check=True)
        told = subprocess.run(
            [folder / "bin/python", "-c", INSIDE], cwd=home, check=True, capture_output=True, text=True
        )
        found = json.loads(told.stdout)
        missing = sorted(wanted - set(found["files"]))
        assert found["version"] == number and not missing, f"version {found['version']}, missing: {missing}"
        for line in ("doctor", "pipeline parameters", "demo --images 140 --epochs 1"):
            done = subprocess.run([folder / "bin/skin-lesion", *line.split()], cwd=home)
            assert done.returncode in (0, 3), f"skin-lesion {line} answers {done.returncode}"
        reports = list(home.glob(".skin-lesion/s3/*/runs/*/evaluation_report/*.html"))
        engines = list(home.glob(".skin-lesion/runs/*/Train/log.txt"))
        assert reports and "engines:" in engines[0].read_text(), "the demo has left no report"
    print(f"{wheel.name}: {len(wanted)} files, and a demo in an empty folder")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
