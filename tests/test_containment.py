"What a job may touch: its own copy of its inputs, its own folder, and nothing of anybody's; how things are named."

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skin_lesion_mlops.core import SkinLesionError, s3_path
from skin_lesion_mlops.pipeline import jobs, processes, sandbox, store
from skin_lesion_mlops.pipeline.local import link_data
from tests.test_local import definition, processing, run, training

ML = "import os, pathlib, sys; ml = pathlib.Path(os.environ['SAGEMAKER_BASE_DIR'])\n"


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.jpg").write_text("A")
    (folder / "deep" / "b.jpg").write_text("B")
    return folder


def contents(folder):
    return {n: (folder / n).read_text() for n, _ in store.files_below(folder)}


def shown(uri, code, output="s3://results/r", path="/opt/ml/processing/input"):
    "A step that sees a location and runs some Python."
    step = processing("P", ML + code)
    del step["PropertyFiles"]
    step["Arguments"]["ProcessingInputs"] = [dict(InputName="i", S3Input=dict(S3Uri=uri, LocalPath=path))]
    step["Arguments"]["ProcessingOutputConfig"]["Outputs"] = [
        dict(OutputName="o", S3Output=dict(S3Uri=output, LocalPath="/opt/ml/processing/o"))
    ]
    return step


@pytest.fixture(params=["namespaces", "none"])
def ability(request, monkeypatch, tmp_path):
    "A machine that allows namespaces, and one that does not."
    if request.param == "namespaces" and sandbox.ability(str(tmp_path)) != "overlay":
        pytest.skip("this machine allows no namespaces")
    if request.param != "namespaces":
        monkeypatch.setattr(sandbox, "ability", lambda home: "")
    return request.param


# ---- inputs ------------------------------------------------------------------------------------------------------


def test_a_job_that_changes_its_inputs_changes_its_copy(home, images, ability):
    before, uri = contents(images), f"s3://raw/{link_data(home, images, 'raw')}"
    os.symlink(images / "a.jpg", images / "deep" / "link.jpg")
    code = (
        "i = ml / 'processing/input'; (i / 'a.jpg').unlink(); (i / 'deep/b.jpg').write_text('resized')\n"
        "(i / 'deep/link.jpg').write_text('through a link'); (i / 'new').write_text('n')\n"
        "(ml / 'processing/o/n').write_text(' '.join(sorted(os.listdir(i))))"
    )
    r, _ = run(definition(shown(uri, code)), home)
    assert r.status == "Succeeded", r.reason
    (images / "deep" / "link.jpg").unlink()
    assert contents(images) == before and (home / "s3/results/r/n").read_text() == "deep new"
    assert not (r.folder / "P" / "views").exists()  # what it changed is gone with it


@pytest.mark.parametrize("ability", ["namespaces"], indirect=True)
@pytest.mark.parametrize("aim", ["images/a.jpg", "home/s3/kept/k", "home/registry/g/1/model.tar.gz"])
def test_nor_can_it_by_the_originals_own_name(home, images, tmp_path, ability, aim):
    uri = f"s3://raw/{link_data(home, images, 'raw')}"
    for name in ("home/s3/kept/k", "home/registry/g/1/model.tar.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("A")
    r, _ = run(definition(shown(uri, f"open({str(tmp_path / aim)!r}, 'a').write('x')")), home)
    assert r.status == "Failed" and "Read-only file system" in r.reason and (tmp_path / aim).read_text() == "A"


def test_inputs_within_inputs_and_outputs_within_inputs(home, images, ability):
    (home / "s3/code").mkdir(parents=True)
    (home / "s3/code/x.py").write_text("1")
    uri, before = f"s3://raw/{link_data(home, images, 'raw')}", contents(images)
    step = shown(uri, "i = ml / 'processing/input'; (i / 'out/r').write_text(' '.join(sorted(os.listdir(i))))")
    step["Arguments"]["ProcessingInputs"].append(
        dict(InputName="c", S3Input=dict(S3Uri="s3://code/x.py", LocalPath="/opt/ml/processing/input/code"))
    )
    step["Arguments"]["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["LocalPath"] = "/opt/ml/processing/input/out"
    for _ in range(2):
        r, _ = run(definition(step), home, cache=False)
        assert r.status == "Succeeded", r.reason
    assert contents(images) == before and (home / "s3/results/r/r").read_text() == "a.jpg code deep out"


# ---- /opt/ml -----------------------------------------------------------------------------------------------------

LITERAL = """
import os, pathlib
d = pathlib.Path('/opt/ml/processing/o')
d.mkdir(parents=True, exist_ok=True)
(d / 't.csv').write_text(pathlib.Path('/opt/ml/processing/data/t').read_text())
"""


def test_a_script_may_name_opt_ml_literally(home, ability):
    before = os.path.exists("/opt/ml")
    for name, text in (("code/p.py", LITERAL), ("data/t", "1")):
        (home / "s3" / name).parent.mkdir(parents=True)
        (home / "s3" / name).write_text(text)
    step = shown("s3://code/p.py", "", path="/opt/ml/processing/input/code")
    step["Arguments"]["ProcessingInputs"].append(
        dict(InputName="t", S3Input=dict(S3Uri="s3://data", LocalPath="/opt/ml/processing/data"))
    )
    step["Arguments"]["AppSpecification"]["ContainerEntrypoint"] = ["python3", "/opt/ml/processing/input/code/p.py"]
    r, _ = run(definition(step), home)
    assert r.status == "Succeeded", r.reason
    assert (home / "s3/results/r/t.csv").read_text() == "1" and os.path.exists("/opt/ml") == before
    assert (home / "s3/code/p.py").read_text() == LITERAL


@pytest.mark.parametrize("ability", ["none"], indirect=True)
def test_without_namespaces_an_empty_output_says_where_to_write(home, ability):
    r, _ = run(definition(processing("P", "print(1)")), home)
    assert r.status == "Failed" and "left its output out empty" in r.reason and "SAGEMAKER_BASE_DIR" in r.reason


# ---- outputs -----------------------------------------------------------------------------------------------------


def test_outputs_are_added_to_what_is_there(home):
    (home / "s3/out/other").mkdir(parents=True)
    (home / "s3/out/other/keep.txt").write_text("k")
    (home / "s3/out/1").write_text("old")
    steps = [shown("s3://out/other", f"(ml / 'processing/o/{n}').write_text('{n}')", "s3://out") for n in (1, 2)]
    steps[1].update(Name="Q", DependsOn=["P"])
    r, _ = run(definition(*steps), home)
    assert r.status == "Succeeded", r.reason
    assert contents(home / "s3/out") == {"1": "1", "2": "2", "other/keep.txt": "k"}
    again, _ = run(definition(*steps), home)
    assert all(s.cached for s in again.steps), "what another step put beside an output does not spoil it"


def test_nothing_is_written_below_linked_data(home, images):
    uri, before = f"s3://raw/{link_data(home, images, 'raw')}", contents(images)
    r, _ = run(definition(shown(uri, "(ml / 'processing/o/n').write_text('n')", f"{uri}/deep")), home)
    assert r.status == "Failed" and "linked, not owned" in r.reason and contents(images) == before


@pytest.mark.parametrize(
    "make", ["os.symlink('/etc', o / 'e')", "os.symlink('/etc/passwd', o / 'e')", "os.mkfifo(o / 'e')"]
)
@pytest.mark.parametrize("kind", ["Processing", "Training"])
def test_a_link_out_of_an_output_is_refused_by_its_name(home, make, kind):
    folder = {"Processing": "processing/out", "Training": "model"}[kind]
    code = ML + f"o = ml / '{folder}'; (o / 'good').write_text('g'); {make}"
    step = training(code) if kind == "Training" else processing("A", code)
    r, _ = run(definition(step), home)
    assert r.status == "Failed" and "the output e is" in r.reason and not list((home / "s3").rglob("good"))


def test_a_link_inside_an_output_is_the_file_it_names(home):
    code = ML + "o = ml / 'processing/out'; (o / 'n.pt').write_text('w'); os.symlink(o / 'n.pt', o / 'a-last.pt')"
    r, _ = run(definition(processing("A", code)), home)
    assert contents(home / "s3/out" / r.id / "A") == {"n.pt": "w", "a-last.pt": "w"}, r.reason


def test_what_a_link_in_the_store_leads_to_is_not_read(home, tmp_path):
    (home / "s3/b").mkdir(parents=True)
    os.symlink("/etc", home / "s3/b/left")
    with pytest.raises(SkinLesionError, match="leads out of the store, to /etc"):
        run(definition(shown("s3://b/left", "")), home)


# ---- names -------------------------------------------------------------------------------------------------------

NASTY = st.sampled_from(
    ["..", ".", "", "/", "//", "a", "é", "e\u0301", "\0", "\n", "~", "%2e%2e", "\\", " ", "\ud800", "a" * 300]
)
URIS = st.one_of(st.text(max_size=40), st.lists(NASTY, max_size=6).map("/".join).map("s3://".__add__))


@given(URIS)
def test_no_location_leaves_the_store(uri):
    "Whatever is written as a location is refused, or is a path below the store, and the same one when written twice."
    try:
        path = s3_path("/home", uri)
    except SkinLesionError:
        return
    parts = path.relative_to("/home/s3").parts
    assert parts and not {"..", ".", ""} & {*parts} and os.path.normpath(path) == str(path)
    assert s3_path("/home", f"s3://{'/'.join(parts)}") == path


@given(st.one_of(st.text(max_size=40), st.lists(NASTY, max_size=6).map("/".join).map("/opt/ml/".__add__)))
def test_no_path_of_a_job_leaves_its_folder(path):
    job = jobs.Job("A", "Processing", {}, Path("/home/runs/r/A"), Path("/home"), "r")
    try:
        place = job.place(path)
    except SkinLesionError:
        return
    assert os.path.normpath(place).startswith("/home/runs/r/A/ml/")


@pytest.mark.parametrize("name", ["../../out", "/tmp/out", ".", "a b", "", "x" * 65, "ünder"])
def test_a_step_has_a_plain_name(home, name):
    with pytest.raises(SkinLesionError, match="no name for a step"):
        run(definition(dict(processing("A"), Name=name)), home)
    assert not home.exists() or not (home / "runs").exists()


@pytest.mark.parametrize("channel", ["../CH", "..", "a/b", ""])
def test_a_channel_has_a_plain_name(home, channel):
    (home / "s3/raw").mkdir(parents=True)
    with pytest.raises(SkinLesionError, match="cannot name a channel"):
        run(definition(training("", inputs={channel: "s3://raw"})), home)


# ---- processes ---------------------------------------------------------------------------------------------------


def test_what_a_job_leaves_running_ends_with_it_and_it_is_tried_again(home, tmp_path):
    code = ML + (
        f"n = pathlib.Path({str(tmp_path / 'n')!r}); k = n.exists(); n.write_text('x')\n"
        "if os.fork() == 0:\n    import time; time.sleep(60); os._exit(0)\n"
        "(ml / 'output/failure').write_text('' if k else 'InternalServerError: x'); os._exit(not k)"
    )
    policy = dict(ExceptionType=["SageMaker.JOB_INTERNAL_ERROR"], IntervalSeconds=0, BackoffRate=1.0, MaxAttempts=2)
    step = dict(processing("P", code), RetryPolicies=[policy], PropertyFiles=[])
    r, _ = run(definition(step), home)
    assert r.status == "Succeeded" and r.step("P").attempts == 2, r.reason
    assert processes.try_lock(r.folder / "P" / "lock") is not None


def test_a_plain_user_has_a_place_of_his_own_too(tmp_path):
    "The tests may run as root, who needs no user namespace; most users are not."
    if os.getuid() != 0 or sandbox.ability(str(tmp_path)) != "overlay":
        pytest.skip("this is a plain user, or there are no namespaces")
    code = (
        "import os, sys, tempfile; os.setgid(65534); os.setuid(65534)\n"
        "sys.path.insert(0, sys.argv[1]); import sandbox\n"
        "sandbox.__file__ = sys.argv[1] + '/sandbox.py'; print(sandbox.ability(tempfile.mkdtemp()))"
    )
    where = Path(sandbox.__file__).parent
    place = tmp_path / "readable"
    place.mkdir()
    (place / "sandbox.py").write_text((where / "sandbox.py").read_text())
    for folder in (place, *place.parents):
        if os.access(folder, os.W_OK) and "pytest" in str(folder):
            folder.chmod(0o755)
    if not os.access("/usr/bin/python3", os.X_OK):
        pytest.skip("no interpreter that another user may start")
    done = subprocess.run(["/usr/bin/python3", "-c", code, str(place)], capture_output=True, text=True)
    assert done.stdout.strip() in ("overlay", "bind"), (done.stdout, done.stderr)


def test_ten_thousand_images_are_staged_at_once_and_not_twice(home, tmp_path, ham10000):
    if sandbox.ability(str(home)) != "overlay":
        pytest.skip("this machine copies")
    import time

    uri = f"s3://raw/{link_data(home, ham10000, 'raw')}"
    a = shown(uri, "")["Arguments"]
    job = jobs.Job("A", "Processing", a, home / "runs" / "r" / "A", home, "r")
    start = time.process_time()
    jobs.prepare(job)
    assert time.process_time() - start < 2
    assert sum(s.st_size for _, s in store.files_below(job.folder)) < 100_000
