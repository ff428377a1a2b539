"Several machines, on loopback, prepare a data set as one would; and one of them is lost."

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from skin_lesion_mlops.core import SPLITS, Files, SkinLesionError, read_json, s3_path
from skin_lesion_mlops.data import crew as crew_module
from skin_lesion_mlops.data.check import check
from skin_lesion_mlops.data.duplicates import near_duplicates
from skin_lesion_mlops.data.shards import write_dataset
from skin_lesion_mlops.data.split import assign_groups, split
from skin_lesion_mlops.data.statistics import image_statistics
from skin_lesion_mlops.data.synthetic import create_dataset
from skin_lesion_mlops.pipeline.definition import PARAMETERS, definition
from skin_lesion_mlops.pipeline.local import run_pipeline
from skin_lesion_mlops.pipeline.store import link_data

pytest.importorskip("distributed")

PREPARE = """if True:
    import os, sys
    from tests.test_crew import prepare
    from skin_lesion_mlops.core import ml_dir
    from skin_lesion_mlops.data.crew import create_crew
    crew = create_crew()
    prepare(ml_dir("processing", "input", "raw"), ml_dir("out"), crew)
    crew.close()
"""
WAIT = """if True:
    import time
    from pathlib import Path
    from skin_lesion_mlops.core import ml_dir
    from skin_lesion_mlops.data.crew import create_crew
    from tests.test_crew import slow_work
    crew = create_crew()
    crew.where = {str(i): crew.hosts[i % len(crew.hosts)] for i in range(10_000)}
    for done in crew.each(slow_work, [str(i) for i in range(10_000)]):
        ml_dir("begun").touch()
"""


def slow_work(paths: list) -> list:
    "A second of work."
    time.sleep(1)
    return paths


def prepare(raw: Path, out: Path, crew: object = None) -> None:
    "What the Preprocess step does."
    checked = check(raw, 1, crew=crew)
    rows = checked.rows
    rows["group"] = assign_groups(rows, near_duplicates(rows))
    rows = split(rows)
    write_dataset(rows, {s: out / s for s in SPLITS}, 48, 1, crew=crew)
    for name, table in (("rows", rows), ("quarantine", checked.quarantine), ("aside", checked.aside)):
        table.assign(path=table.path.map(lambda p: os.path.relpath(p, raw) if p else "")).to_csv(out / f"{name}.csv")


def contents(folder: Path) -> dict:
    "Every file below a folder."
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    "Pictures, some of which are broken, and some of which are copies that no row names."
    folder = create_dataset(tmp_path_factory.mktemp("raw"), n=140, bad=1, odd=1, size=(120, 90))
    picture = sorted(folder.rglob("*.jpg"))[7]
    (picture.parent / "holiday.jpg").write_bytes(picture.read_bytes())
    return folder


@pytest.fixture(scope="module")
def alone(raw, tmp_path_factory) -> dict:
    "What one machine with its pool of processes makes of them."
    out = tmp_path_factory.mktemp("alone")
    prepare(raw, out)
    return contents(out)


class Site:
    "Machines of one job."

    def __init__(self, folder: Path, count: int, workers: int, program: str, raw: Path) -> None:
        "Start them, each with its share of the files."
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.ml = [folder / f"ml-{k}" for k in range(1, count + 1)]
        names, self.processes = [f"algo-{k}" for k in range(1, count + 1)], []
        for k, (ml, name) in enumerate(zip(self.ml, names)):
            for p in sorted(x for x in raw.rglob("*") if x.is_file())[k::count]:
                place = ml / "processing" / "input" / "raw" / p.relative_to(raw)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(p, place)
            (ml / "config").mkdir(parents=True)
            config = dict(current_host=name, hosts=names)
            (ml / "config" / "resourceconfig.json").write_text(json.dumps(config))
            more = dict(SAGEMAKER_BASE_DIR=str(ml), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            env = {**os.environ, **more, "SKIN_LESION_WORKERS": str(workers), "PYTHONPATH": str(Path.cwd())}
            command = [sys.executable, "-m", "skin_lesion_mlops.data.crew", "-c", program]
            log = open(folder / f"{name}.log", "w")
            self.processes.append(
                subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            )

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *error: object) -> None:
        for p in self.processes:
            if p.poll() is None:
                os.killpg(p.pid, signal.SIGKILL)
            p.wait()

    def wait(self) -> list:
        "Their exit statuses."
        return [p.wait(120) for p in self.processes]

    def begun(self) -> None:
        "Wait until results have come in."
        end = time.monotonic() + 60
        while not (self.ml[0] / "begun").exists():
            assert time.monotonic() < end and all(p.poll() is None for p in self.processes)
            time.sleep(0.1)

    def part(self, machine: int, word: str) -> int:
        "The process of a machine's scheduler or workers."
        of = self.processes[machine].pid
        found = subprocess.run(["pgrep", "-g", str(of), "-f", f"data.crew {word} "], capture_output=True, text=True)
        return int(found.stdout.split()[0])

    def message(self, machine: int) -> str:
        "Why a machine says it has failed."
        return (self.ml[machine] / "output" / "message").read_text()


SLOW = pytest.mark.slow


@pytest.mark.parametrize("count, workers", [(2, 1), *(pytest.param(*n, marks=SLOW) for n in ((1, 1), (2, 2), (4, 1)))])
def test_machines_write_what_one_writes(raw, alone, tmp_path, count, workers):
    with Site(tmp_path, count, workers, PREPARE, raw) as site:
        assert site.wait() == [0] * count, (tmp_path / "algo-1.log").read_text()
    assert contents(site.ml[0] / "out") == alone
    assert not any((ml / "out").exists() for ml in site.ml[1:])  # each machine uploads its own folder


def test_what_was_left_out_is_among_what_is_compared(alone):
    "The fixture is worth something only if the copy was found over the borders of machines."
    assert b"identical_copy" in alone["aside.csv"] + alone["quarantine.csv"]
    assert alone["quarantine.csv"].count(b"\n") > 5


def test_statistics_do_not_depend_on_who_shares_a_batch():
    "Machines decode other batches than one would: not a bit of a sum may depend on it."
    for side in (48, 160, 224):
        pictures = np.random.default_rng(side).integers(0, 256, (33, side, side, 3), dtype=np.uint8)
        whole = image_statistics(pictures).to_numpy()
        for n in (1, 2, 3, 7, 32):
            parts = [image_statistics(pictures[i : i + n]).to_numpy() for i in range(0, 33, n)]
            assert (np.concatenate(parts) == whole).all()


@SLOW
def test_workers_that_are_killed_are_replaced(raw, tmp_path):
    "Of each machine, half-way."
    program = WAIT.replace("10_000", "200").replace("slow_work", "brittle_work")
    with Site(tmp_path, 2, 1, program, raw) as site:
        assert site.wait() == [0, 0], (tmp_path / "algo-1.log").read_text()
    assert all((ml / "killed").exists() for ml in site.ml)


def brittle_work(paths: list) -> list:
    "Work at which the first worker of a machine is killed, some tasks on."
    ml = Path(os.environ["SAGEMAKER_BASE_DIR"])
    if (ml / "second").exists() and not (ml / "killed").exists():
        (ml / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (ml / "second").touch()
    return paths


def test_a_lost_scheduler_fails_the_job_with_its_reason(raw, tmp_path):
    with Site(tmp_path, 2, 1, WAIT, raw) as site:
        site.begun()
        os.kill(site.part(0, "schedule"), signal.SIGKILL)
        assert site.wait() == [1, 1]
        assert "the scheduler was killed (SIGKILL)" in site.message(0)
        assert "algo-2 has lost algo-1" in site.message(1)


@SLOW
def test_a_lost_first_machine_ends_the_others(raw, tmp_path):
    with Site(tmp_path, 2, 1, WAIT, raw) as site:
        site.begun()
        os.killpg(site.processes[0].pid, signal.SIGKILL)
        assert site.wait() == [-signal.SIGKILL, 1]
        assert "algo-2 has lost algo-1" in site.message(1)


@SLOW
def test_a_lost_machine_fails_the_job(raw, tmp_path):
    with Site(tmp_path, 3, 1, WAIT, raw) as site:
        site.begun()
        os.killpg(site.processes[1].pid, signal.SIGKILL)
        assert site.wait() == [1, -signal.SIGKILL, 1]
        assert "the machine algo-2 was lost" in site.message(0)
        assert "algo-3 has lost algo-1" in site.message(2)


def test_a_failing_program_lets_the_others_end_well(raw, tmp_path):
    with Site(tmp_path, 2, 1, "import sys; sys.exit(3)", raw) as site:
        assert site.wait() == [3, 0]


def test_a_machine_that_does_not_come_is_named(monkeypatch):
    monkeypatch.setattr(crew_module, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as door:
        with pytest.raises(SkinLesionError, match="algo-2, algo-3 did not come"):
            crew_module._gather(door, ["algo-2", "algo-3"], "tcp://x")


def test_without_dask_a_pool_does(monkeypatch, capsys):
    monkeypatch.setattr(crew_module, "find_spec", lambda name: None)
    assert crew_module.create_crew(2) is None and "not installed: a pool of 2" in capsys.readouterr().out


def test_the_definition_gives_preprocess_its_machines():
    "The images are shared out; what everybody needs is everywhere; other steps have one machine."
    steps = {s["Name"]: s["Arguments"] for s in definition()["Steps"]}
    cluster = steps["Preprocess"]["ProcessingResources"]["ClusterConfig"]
    assert cluster["InstanceCount"] == {"Get": "Parameters.ProcessingInstanceCount"}
    assert steps["Evaluate"]["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == 1
    how = {i["InputName"]: i["S3Input"].get("S3DataDistributionType") for i in steps["Preprocess"]["ProcessingInputs"]}
    assert how.pop("raw") == "ShardedByS3Key" and set(how.values()) <= {None, "FullyReplicated"}
    assert "--together" in steps["Preprocess"]["AppSpecification"]["ContainerArguments"]
    assert "--together" not in steps["Evaluate"]["AppSpecification"]["ContainerArguments"]


@SLOW
def test_the_step_of_the_pipeline_runs_on_two_machines(raw, tmp_path, monkeypatch):
    "The whole way, with the runner: the artefacts of two machines are those of one."
    monkeypatch.setenv("SKIN_LESION_WORKERS", "1")
    found = {}
    for count in (1, 2):
        home = tmp_path / str(count)
        link_data(home, raw, PARAMETERS["RawBucket"][0])
        whole = definition()
        whole["Steps"] = [s for s in whole["Steps"] if s["Name"] == "Preprocess"]
        prefix = link_data(home, raw, PARAMETERS["RawBucket"][0])
        s3_path(home, "s3://skin-lesion-models-artifacts/classes/none").mkdir(parents=True)
        given = dict(ProcessingInstanceCount=count, ImageSize=32, RawPrefix=prefix, MaxQuarantineShare=0.2)
        run = run_pipeline(whole, given, home, on_event=lambda e, r: None)
        log = (run.folder / "Preprocess" / "log.txt").read_text()
        assert run.status == "Succeeded", log
        assert ("2 machines work together, with 1 processes each" in log) is (count == 2)
        outputs = run.step("Preprocess").outputs
        found[count] = {n: contents(s3_path(home, u)) for n, u in outputs.items() if n != "report"}
        report = s3_path(home, outputs["report"])
        found[count]["csv"] = {n: (report / n).read_bytes() for n in (Files.QUARANTINE, Files.SPLIT)}
        assert read_json(report / Files.RECEIPT)["status"] == "Succeeded"
    found[1]["csv"].pop(Files.QUARANTINE), found[2]["csv"].pop(Files.QUARANTINE)
    assert found[1] == found[2]


def test_who_asks_for_workers_hears_whose_they_are(monkeypatch, capsys):
    from skin_lesion_mlops.cli import run as verb

    monkeypatch.setenv(crew_module.WORKERS, "1")
    for found, said in ((True, "3 processes, by dask"), (None, "3 processes, as a pool, for dask is not installed")):
        monkeypatch.setattr(verb, "find_spec", lambda name, found=found: found)
        verb._ask_for(3)
        assert said in capsys.readouterr().err and crew_module.asked_workers() == 3
