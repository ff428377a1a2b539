"Packaging: everything is read from settings.ini."

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]

extras = {k[: -len("_requirements")]: v.split() for k, v in cfg.items() if k.endswith("_requirements")}
apart = ("docs", "release")  # what the tests do without
extras["dev"] = sorted({r for name, rs in extras.items() if name not in apart for r in rs})

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    keywords=cfg["keywords"],
    author=cfg["author"],
    author_email=cfg["author_email"],
    license="Apache-2.0",
    url=cfg["git_url"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Healthcare Industry",
        "Programming Language :: Python :: 3",
    ],
    python_requires=f">={cfg['min_python']}",
    # The step notebooks travel with the package: a job runs them wherever it is installed.
    packages=[*find_packages(include=["skin_lesion_mlops*"]), "skin_lesion_mlops.steps"],
    package_dir={"skin_lesion_mlops": "skin_lesion_mlops", "skin_lesion_mlops.steps": "nbs/steps"},
    package_data={
        "skin_lesion_mlops": ["py.typed", "*.json", "page/*", "page/run/*", "model/*.json", "classes/*.csv"],
        "skin_lesion_mlops.steps": ["*.ipynb"],
    },
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": cfg["console_scripts"].split()},
    zip_safe=False,
)
