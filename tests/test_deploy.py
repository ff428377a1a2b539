"What the command and the functions must agree on: one manifest, one way of serving, one platform."

import importlib.util
import re
import sys
from pathlib import Path

import boto3
import numpy as np
import pytest

moto = pytest.importorskip("moto")
from PIL import Image  # noqa: E402

from skin_lesion_mlops.aws import deploy, remote, upload  # noqa: E402
from skin_lesion_mlops.cli.aws import files_to_upload  # noqa: E402

REPO = Path(__file__).resolve().parent.parent


def function(verb, monkeypatch):
    "A function's module."
    monkeypatch.syspath_prepend(str(REPO / "lambdas"))
    spec = importlib.util.spec_from_file_location(verb, REPO / "lambdas" / verb / "handler.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, verb, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def s3(monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with moto.mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="raw")
        yield client


@pytest.fixture
def images(tmp_path):
    "Six images in two folders, with EXIF."
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera of Dr Example"
    for i in range(6):
        path = tmp_path / ("mel" if i % 2 else "nv") / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path, exif=exif)
    return tmp_path


def test_the_function_reads_what_the_command_uploads(s3, images, monkeypatch):
    f = function("check_data_availability", monkeypatch)
    upload.upload(images, files_to_upload(images), s3, "raw")
    settings = f.Settings("raw", "ham10000", "processed", "models", 3, 200, {})
    parts = f.read_manifest(s3, settings)
    assert [p["labelled"] for p in parts] == [6] and f.verify(s3, settings, parts, "draw") == 6
    s3.put_object(Bucket="raw", Key="ham10000/nv/0.jpg", Body=b"other", ChecksumAlgorithm="SHA256")
    with pytest.raises(f.DataDamaged, match="nv/0.jpg"):
        f.verify(s3, settings, parts, "draw")


def test_an_upload_in_many_parts(s3, images, monkeypatch):
    monkeypatch.setattr(upload, "ROWS", 4)
    done = upload.upload(images, files_to_upload(images), s3, "raw")
    parts = upload.read_manifest(s3, "raw", "ham10000")
    assert done.sent == 6 and [p["objects"] for p in parts] == [4, 2]
    assert len(upload.read_entries(s3, "raw", parts)) == 6


@pytest.mark.parametrize("mode, save", [("L", "jpg"), ("CMYK", "jpg"), ("RGB", "png"), ("P", "png"), ("I;16", "png")])
def test_stripping_leaves_the_pixels(tmp_path, mode, save):
    from PIL.PngImagePlugin import PngInfo

    rng, path = np.random.default_rng(0), tmp_path / f"a.{save}"
    image = Image.fromarray(rng.integers(0, 255, (9, 7, 3), dtype=np.uint8))
    image = Image.fromarray(rng.integers(0, 65535, (9, 7), dtype=np.uint16)) if mode == "I;16" else image.convert(mode)
    text = PngInfo()
    text.add_text("Author", "Jane Example")
    image.save(path, **(dict(pnginfo=text) if save == "png" else dict(comment=b"Jane Example")))
    assert b"Example" in path.read_bytes()
    before, stripped = np.asarray(Image.open(path)), upload.strip(path)
    path.write_bytes(stripped)
    assert b"Example" not in stripped and np.array_equal(before, np.asarray(Image.open(path)))


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\x00", b"no image at all", b"\x89PNG\r\n\x1a\n\x00"]
)
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_what_cannot_be_stripped_is_not_uploaded(tmp_path, data, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data)
    stripped = upload.strip(path)
    assert stripped is None or stripped == data[: len(stripped)]


def test_the_command_and_the_function_serve_alike(monkeypatch):
    "The function's environment and Terraform's parameter give the same deployment."
    f = function("deploy_model", monkeypatch)
    for k, v in dict(
        ROLE_ARN="arn:role",
        CAPTURE_URI="s3://p/capture",
        KMS_KEY_ID="key",
        ALARM_NAMES="a,b",
        SUBNET_IDS="s1,s2",
        MIN_INSTANCES="3",
        MAX_INSTANCES="7",
        SCALE_OUT_ABOVE="900",
        SCALE_IN_BELOW="400",
    ).items():
        monkeypatch.setenv(k, v)
    platform = dict(
        roles=dict(sagemaker="arn:role"),
        capture_uri="s3://p/capture",
        kms_key="key",
        rollback_alarms=["a", "b"],
        subnets=["s1", "s2"],
        endpoint="skin-lesion-endpoint",
        scaling=dict(min=3, max=7, target=900, scale_in_below=400),
    )
    found = remote.endpoint_settings(platform)
    assert found == f.settings() and (found.instances, found.max_instances, found.scale_in_below) == (3, 7, 400)


def test_the_names_are_those_that_terraform_uses():
    "What the function reads and what the parameter is read by, Terraform writes under these names."
    main = (REPO / "infra" / "main.tf").read_text()
    source = (REPO / "lambdas" / "deploy_model" / "handler.py").read_text()
    for name in re.findall(r'env(?:\.get\(|\[)"([A-Z_]+)"', source):
        assert re.search(rf"^ +{name} +=", main, re.M), name
    variables = (REPO / "infra" / "variables.tf").read_text()
    for key in ("min", "max", "target", "scale_in_below"):
        assert re.search(rf"^ +{key} += optional", variables, re.M), key


def test_no_picture_is_captured():
    settings = deploy.EndpointSettings("arn:role", "s3://p/capture", kms_key="key")
    capture = deploy._config(settings)["DataCaptureConfig"]
    assert capture["EnableCapture"] and capture["KmsKeyId"] == "key"
    assert [o["CaptureMode"] for o in capture["CaptureOptions"]] == ["Output"]


def test_a_canary_is_possible():
    "A canary of one instance may be at most half of the fleet."
    settings = deploy.EndpointSettings("arn:role", "s3://p/capture")
    assert settings.instances >= 2 and settings.min_instances <= settings.instances <= settings.max_instances


def test_the_container_answers_the_smoke_test_and_tells_the_monitors_what_it_saw(tmp_path):
    "The real server, as the deployment configures it; of its answers alone a monitor makes the rows it needs."
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from skin_lesion_mlops import core
    from skin_lesion_mlops.cli import serve as serving
    from skin_lesion_mlops.model.networks import create_contract, create_model, save_bundle
    from skin_lesion_mlops.monitor.captures import capture_rows
    from skin_lesion_mlops.serve.app import create_app
    from skin_lesion_mlops.serve.capture import observed
    from skin_lesion_mlops.serve.predictor import create_predictor

    model = deploy._model("arn:package", deploy.EndpointSettings("arn:role", "s3://p/capture"))
    told = model["Containers"][0]["Environment"]
    known = {option.envvar for kind in (serving.Describe, serving.Processes) for option in kind.__metadata__}
    assert set(told) == known and told[serving.Describe.__metadata__[0].envvar] == "1"
    assert serving.check_processes(int(told[serving.Processes.__metadata__[0].envvar])) == core.cpus()
    net = create_model("tiny").eval()
    save_bundle(tmp_path, net, create_contract(net, 64))
    with TestClient(create_app(create_predictor(tmp_path, version="3"), describe=True)) as client:
        answer = client.post("/invocations", content=deploy.sample_picture(), headers={"Content-Type": "image/png"})
    assert deploy.check_answer(answer.content) == ""
    captured = dict(endpointOutput=observed("OUTPUT", answer.json()))
    (row,) = capture_rows(
        dict(captureData=captured, eventMetadata=dict(eventId="e", inferenceTime="2026-01-31T12:00:00Z"))
    )
    assert 0 < row["brightness"] < 1 and row["picture"] and row["model_version"] == "3"
    assert deploy.sample_picture() not in answer.content and b"pixels" not in answer.content
