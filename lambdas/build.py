"""Build the functions' zips: `python lambdas/build.py [OUT]`, by default into build/lambdas.

The same sources give the same bytes on every machine: files in order, one fixed date, one fixed mode, no compression
(whose result depends on the zlib version). So Terraform updates a function exactly when its code has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARY = {  # modules of skin_lesion_mlops that a function uses
    "check_data_availability": ("__init__", "core"),
    "approve_model": ("__init__", "core"),
    "evaluate_model": ("__init__", "core"),
    "deploy_model": ("__init__", "core", "aws/__init__", "aws/deploy"),
}


def functions() -> list[str]:
    "Every function: a folder with a handler."
    return sorted(p.parent.name for p in HERE.glob("*/handler.py"))


def contents(
    name: str,
) -> dict[str, Path]:  # path in the zip -> source
    "What a function consists of."
    library = {
        f"skin_lesion_mlops/{m}.py": HERE.parent / "skin_lesion_mlops" / f"{m}.py" for m in LIBRARY.get(name, ())
    }
    return {"handler.py": HERE / name / "handler.py", "common.py": HERE / "common.py", **library}


def build(
    name: str,
    out: Path,  # folder for the zip
) -> Path:
    "Zip a function."
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        for inside, source in sorted(contents(name).items()):
            info = zipfile.ZipInfo(inside, date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr, info.create_system = 0o644 << 16, 3
            z.writestr(info, source.read_bytes())
    return path


if __name__ == "__main__":
    cli = argparse.ArgumentParser(description="Build the functions' zips.")
    cli.add_argument("out", nargs="?", type=Path, default=HERE.parent / "build" / "lambdas")
    folder = cli.parse_args().out
    for function in functions():
        zipped = build(function, folder)
        print(f"{hashlib.sha256(zipped.read_bytes()).hexdigest()[:12]}  {zipped.stat().st_size // 1024:3} kB  {zipped}")
