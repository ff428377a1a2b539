"Fixtures shared by all tests."

import json
import os
import re
import shutil
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from tests import forks, once  # noqa: F401

for threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")  # the workers share the cores; read when torch and numpy are imported

# A GPU adds up in another order every time, and resumed is to be equal to uninterrupted, bit by bit.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

settings.register_profile("ours", deadline=None)  # a busy machine is no defect of the code
settings.load_profile("ours")

signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a job in the background ignores it, and so would its children


def _fork_kernels() -> None:
    "A step notebook's kernel imports torch and pandas; see `tests/forks.py`."
    try:
        from jupyter_client import launcher
    except ImportError:
        return
    launcher.Popen = forks.Popen


_fork_kernels()
REPO = Path(__file__).resolve().parent.parent


# The longest first: no process is left alone with one of them in the end
LONG = ("infra", "docs", "monitor", "train", "retraining", "serve", "engines", "cli", "preprocess", "tracking")
LONG += (
    "foreign",
    "bootstrap",
    "account",
    "local",
    "validate",
    "crew",
    "evaluate_step",
    "evaluate",
    "lambdas",
    "house_rules",
)


def pytest_collection_modifyitems(items):
    place = {f"test_{name}": i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session")
def repo() -> Path:
    "The root of this repository."
    return REPO


def _real_data(name: str) -> Path:
    "A folder of real dermoscopy, looked for in $SKIN_LESION_DATA and in `shared/data` beside the repository."
    places = [Path(os.environ["SKIN_LESION_DATA"])] if "SKIN_LESION_DATA" in os.environ else []
    places += [p / "shared" / "data" for p in REPO.parents]
    found = next((p / name for p in places if (p / name).is_dir()), None)
    if found is None:
        pytest.skip(f"real HAM10000 ({name}) is not on this machine: set SKIN_LESION_DATA to the folder that holds it")
    return found


@pytest.fixture(scope="session")
def ham10000() -> Path:
    "All 10,015 images of HAM10000, in the layout of the public download."
    return _real_data("ham10000")


@pytest.fixture(scope="session")
def ham10000_600x450() -> Path:
    "164 images of HAM10000 at their published size."
    return _real_data("ham10000_600x450")


@pytest.fixture(scope="session")
def standin():
    "The AWS of this process. `aws` lends it out."
    from tests.standin import server

    running = server.serve()
    running.leave()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def aws(standin):
    "An AWS for one file, empty in the beginning; a training is pretended and a minute takes milliseconds."
    from tests.standin import pipelines, sagemaker, states

    standin.enter()
    sagemaker.executor, states.scale = pipelines.pretend, 0.001
    yield standin
    standin.leave()


@pytest.fixture(scope="session")
def plans(tmp_path_factory, worker_id):
    "Terraform's plan of each example, made once for all the processes of this session: both at once."
    from tests.standin.terraform import EXAMPLES, make_plan

    if not shutil.which("terraform"):
        pytest.skip("terraform is not on PATH")
    shared = tmp_path_factory.getbasetemp()
    shared = shared if worker_id == "master" else shared.parent
    with FileLock(shared / "plans.lock"):
        if not (shared / "plans.json").exists():
            with ProcessPoolExecutor(2, get_context("spawn")) as pool:
                made = {e: pool.submit(make_plan, e, str(tmp_path_factory.mktemp(e))) for e in EXAMPLES}
                (shared / "plans.json").write_text(json.dumps({e: m.result() for e, m in made.items()}))
    return json.loads((shared / "plans.json").read_text())


@pytest.fixture
def browser():
    "Chromium, driven by Playwright. For one test: its event loop would be in the way of others."
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("there is no chromium on this machine")
    with sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


CONTRAST = """() => {
  const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (c) => rgb(c).slice(0, 3).reduce((sum, v, i) => sum + linear(v / 255) * [0.2126, 0.7152, 0.0722][i], 0);
  const under = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if ((rgb(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255,255,255)";
  };
  const speaks = (e) => e.checkVisibility() && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  return [...document.body.querySelectorAll("*")].filter(speaks).map((e) => {
    const [a, b] = [light(getComputedStyle(e).color), light(under(e))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), e.textContent.trim().slice(0, 40)];
  }).sort((x, y) => x[0] - y[0]);
}"""


SCROLLED = """() => {
  const around = [...document.querySelectorAll("table")].map((t) => t.closest(".jp-OutputArea-output, .wide") || t);
  const wide = around.filter((p) => p.scrollWidth > p.clientWidth);
  return wide.length && wide.every((p) => { p.scrollLeft = 9; return p.scrollLeft > 0; });
}"""


@pytest.fixture
def look_at(browser):
    "Open a report's page on a phone, light and dark: it fits, what is wide scrolls by itself, all can be read."

    def look(page_file):
        for scheme in ("light", "dark"):
            page = browser.new_page(viewport=dict(width=360, height=740), color_scheme=scheme)
            page.goto(page_file.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            assert page.evaluate(SCROLLED)
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, re.findall(r"\d+", paper)[:3])) < 150) == (scheme == "dark"), paper
            least = page.evaluate(CONTRAST)[0]
            assert least[0] >= 4.5, least
            page.close()

    return look
