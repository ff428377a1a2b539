"Fixtures shared by all tests."

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ours", deadline=None)  # a busy machine is no defect of the code
settings.load_profile("ours")

signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a job in the background ignores it, and so would its children

REPO = Path(__file__).resolve().parent.parent


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
