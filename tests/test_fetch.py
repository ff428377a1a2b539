"The real download clients against a service on this machine."

import base64
import hashlib
import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from skin_lesion_mlops.core import SkinLesionError
from skin_lesion_mlops.data.check import check
from skin_lesion_mlops.data.fetch import CHECKSUMS, PARTIAL, damaged, fetch

requests = pytest.importorskip("requests")
pytest.importorskip("isic_cli", reason="the `fetch` extra is not installed")
pytest.importorskip("kagglehub", reason="the `fetch` extra is not installed")


def jpeg(i: int) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").rotate(7 * i).resize((64, 48)).convert("RGB").save(out, "JPEG")
    return out.getvalue()


class Service(BaseHTTPRequestHandler):
    "A tiny ISIC Archive and a tiny Kaggle in one. `log` records requests; `faults` says what goes wrong next."

    protocol_version = "HTTP/1.0"
    images = {f"ISIC_{i:07}": jpeg(i) for i in range(6)}
    log: list = []
    faults: set = set()

    def log_message(self, *args):
        pass

    def answer(self, body, status=200, kind="application/json", **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), v)
        self.end_headers()
        if self.command != "HEAD":
            half = "break" in self.faults and len(body) > 2000
            self.wfile.write(body[: len(body) // 2] if half else body)

    def do_HEAD(self):
        self.answer(b"")

    def do_GET(self):
        self.log.append(self.path)
        if self.path.startswith("/file/"):
            name = self.path[6:-4]
            return (
                self.answer(b"gone", 404) if name in self.faults else self.answer(self.images[name], kind="image/jpeg")
            )
        if self.path.startswith("/archive.zip"):
            return self.archive()
        if "license-file" in self.path:
            return self.answer(b"CC-0 text", kind="text/plain")
        if "search/size" in self.path:
            return self.answer(dict(size=sum(map(len, self.images.values()))))
        self.answer(dict(count=len(self.images), next=None, results=[self.row(n) for n in self.images]))

    def row(self, name):
        url = f"http://127.0.0.1:{self.server.server_port}/file/{name}.jpg"
        files = dict(full=dict(url=url, size=len(self.images[name])))
        clinical = dict(diagnosis_3="Nevus", age_approx=40, sex="male", lesion_id=f"IL_{name[-1]}")
        metadata = dict(acquisition=dict(image_type="dermoscopic"), clinical=clinical)
        return dict(isic_id=name, attribution="A clinic", copyright_license="CC-0", files=files, metadata=metadata)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.log.append(self.path)
        if "refuse" in self.faults:
            return self.answer(dict(code=401, message="Unauthorized"), 401)
        if self.path.endswith("/DownloadDataset"):
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/archive.zip")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.answer(dict(currentVersionNumber=1, ref="x/y", id=1))

    @classmethod
    def zipped(cls) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as z:
            rows = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
            for i, (name, data) in enumerate(cls.images.items()):
                z.writestr(zipfile.ZipInfo(f"HAM10000_images_part_1/{name}.jpg"), data)
                rows.append(f"HAM_{i},{name},nv,histo,40,male,back")
            z.writestr(zipfile.ZipInfo("HAM10000_metadata.csv"), "\n".join(rows))
        return out.getvalue()

    def archive(self):
        data, start = self.zipped(), 0
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        if "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.log.append(f"resumed at {start} of {len(data)}")
        headers = dict(Accept_Ranges="bytes", X_Goog_Hash=f"md5={md5}")
        self.answer(data[start:], 206 if start else 200, "application/zip", **headers)


def serve(port: int):
    Service.log, Service.faults = [], set()
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Service)
    except OSError:
        pytest.skip(f"port {port}, which the client insists on, is taken")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def only_loopback(monkeypatch, tmp_path):
    "Whatever is not for this machine goes to a proxy that is not there."
    for v in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(v, "http://127.0.0.1:9")
    for v in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(v, "127.0.0.1,localhost")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", "")


@pytest.fixture
def isic(only_loopback, monkeypatch):
    monkeypatch.setenv("ISIC_DEV", "1")
    server = serve(8000)
    yield Service
    server.shutdown()
    server.server_close()


@pytest.fixture
def kaggle(only_loopback, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    server = serve(7777)
    yield Service
    server.shutdown()
    server.server_close()


def test_isic_whole_then_verified_then_repaired(isic, tmp_path, capfd):
    fetch("isic", tmp_path / "d")
    assert "CC-0" in capfd.readouterr().err
    checked = check(tmp_path / "d")
    assert len(checked.rows) == 6 and checked.source == "isic" and set(checked.rows["dx"]) == {"nv"}

    isic.log.clear()
    fetch("isic", tmp_path / "d")
    assert isic.log == [] and "complete" in capfd.readouterr().err

    (tmp_path / "d" / "ISIC_0000002.jpg").write_bytes(b"bit rot")
    (tmp_path / "d" / "ISIC_0000003.jpg").unlink()
    fetch("isic", tmp_path / "d")
    fetched = sorted(p for p in isic.log if p.startswith("/file/"))
    assert fetched == ["/file/ISIC_0000002.jpg", "/file/ISIC_0000003.jpg"], "only what was damaged"
    assert damaged(tmp_path / "d") == []


def test_isic_says_what_did_not_arrive_and_resumes(isic, tmp_path):
    isic.faults.add("ISIC_0000004")
    with pytest.raises(SkinLesionError, match="1 of 6 images did not arrive, e.g. ISIC_0000004"):
        fetch("isic", tmp_path / "d")
    assert not (tmp_path / "d" / CHECKSUMS).exists(), "half a data set is never taken for a whole one"
    isic.faults.clear()
    isic.log.clear()
    fetch("isic", tmp_path / "d")
    assert [p for p in isic.log if p.startswith("/file/")] == ["/file/ISIC_0000004.jpg"]


def test_kaggle_whole_and_verified(kaggle, tmp_path, capfd):
    fetch("ham10000", tmp_path / "d")
    assert "CC BY-NC-SA 4.0" in capfd.readouterr().err
    checked = check(tmp_path / "d")
    assert len(checked.rows) == 6 and checked.source == "ham10000" and not (tmp_path / "d" / PARTIAL).exists()
    kaggle.log.clear()
    fetch("ham10000", tmp_path / "d")
    assert kaggle.log == []


def test_kaggle_resumes_where_it_broke_off(kaggle, tmp_path):
    kaggle.faults.add("break")
    with pytest.raises(SkinLesionError, match="goes on where it stopped"):
        fetch("ham10000", tmp_path / "d")
    assert not (tmp_path / "d" / CHECKSUMS).exists()
    # In its test environment the client reads a whole answer before it saves any, so nothing is left of a broken one.
    # Elsewhere it streams: leave what an interruption leaves.
    archive = tmp_path / "d" / PARTIAL / "datasets" / "kmader" / "skin-cancer-mnist-ham10000" / "1.archive"
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(kaggle.zipped()[:3000])
    kaggle.faults.clear()
    fetch("ham10000", tmp_path / "d")
    assert any(line.startswith("resumed at 3000 ") for line in kaggle.log)
    assert len(check(tmp_path / "d").rows) == 6


def test_kaggle_refuses(kaggle, tmp_path):
    kaggle.faults.add("refuse")
    with pytest.raises(SkinLesionError, match="kaggle.json"):
        fetch("kaggle", tmp_path / "d")


@pytest.mark.parametrize("source", ["isic", "kaggle", "ham10000"])
def test_no_network(only_loopback, source, tmp_path):
    with pytest.raises(SkinLesionError, match="cannot reach .*\n.*check the network"):
        fetch(source, tmp_path / "d")


def test_no_client(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, "isic_cli", None)
    with pytest.raises(SkinLesionError, match="isic-cli is not installed\n.*pip install"):
        fetch("isic", tmp_path / "d")
