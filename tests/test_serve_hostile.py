"The endpoint against clients that mean no good, or know no better: over real connections, with real certificates."

import base64
import datetime
import io
import ipaddress
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from load import Client, hammer, request_bytes, start_server
from PIL import Image

from skin_lesion_mlops.data.synthetic import create_dataset
from skin_lesion_mlops.model.networks import create_contract, create_model, save_bundle
from skin_lesion_mlops.serve.admission import Limits
from skin_lesion_mlops.serve.app import create_app
from skin_lesion_mlops.serve.predictor import create_predictor

LIMITS = "Limits(seconds=3, head_seconds=1.5, body=4 << 20)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    create_dataset(folder / "raw", n=28, seed=3, size=(200, 150))
    model = create_model("tiny").eval()
    save_bundle(folder / "bundle", model, create_contract(model, 64, thresholds=dict(malignant=0.4)))
    return folder


@pytest.fixture(scope="module")
def jpegs(folder):
    return [p.read_bytes() for p in sorted((folder / "raw").rglob("*.jpg"))]


@contextmanager
def running(folder, jpeg, limits=LIMITS, **options):
    "A service in a process of its own."
    code = (
        "import sys; from skin_lesion_mlops.serve.predictor import create_predictor\n"
        "from functools import partial; from skin_lesion_mlops.serve.server import Limits, run_server\n"
        f"run_server(partial(create_predictor, {str(folder / 'bundle')!r}), port=int(sys.argv[1]), limits={limits})"
    )
    command = [sys.executable, "-c", code, "{port}"]
    server = start_server(command, request_bytes(jpeg), folder / "log", OMP_NUM_THREADS="1", **options)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def server(folder, jpegs):
    with running(folder, jpegs[0]) as server:
        yield server


def answers(server, jpeg):
    "Does it still serve others?"
    return Client(server.port, 120).send(request_bytes(jpeg))[0] == 200


def talk(server, *parts, wait=120):
    "Send bytes on a connection of their own; what comes back until the server hangs up."
    with socket.create_connection(("127.0.0.1", server.port), wait) as s:
        for part in parts:
            try:
                s.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                break
        heard = b""
        try:
            while some := s.recv(1 << 16):
                heard += some
        except ConnectionResetError:
            pass
        return heard


# The documented interface, exercised from its document

MODES = ["positive", "negative"]  # what it allows, and what it does not


@pytest.mark.parametrize("mode", MODES)
def test_what_the_openapi_document_allows_and_what_not(folder, mode):
    schemathesis = pytest.importorskip("schemathesis")
    app = create_app(create_predictor(folder / "bundle"), Limits(body=1 << 20))
    seen = set()

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(data=st.data())
    def exercise(data, operation):
        case = data.draw(operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
        response = case.call()
        seen.add((case.path, response.status_code))
        assert response.status_code < 500, response.text
        if response.status_code >= 400:
            assert response.json()["error"]["reason"] and len(response.json()["error"]["detail"]) > 10

    for found in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations():
        operation = found.ok()
        if mode == "positive" or operation.body:  # there is nothing to get wrong about a path without parameters
            exercise(operation=operation)
    assert any(path == "/invocations" and status >= 400 for path, status in seen)


# Bytes on the wire


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=30),
    value=st.binary(max_size=60),
    known=st.sampled_from(["", "Accept", "Content-Type", "Content-Length", "Transfer-Encoding", "X-Request-Id"]),
)
def test_no_header_makes_it_stumble(server, jpegs, name, value, known):
    "Any bytes as a header: an answer that is no 5xx, or a closed door."
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: image/jpeg\r\n"
    line = (known or name).encode() + b": " + value.replace(b"\n", b"").replace(b"\r", b"") + b"\r\n"
    heard = talk(server, head + line + b"Content-Length: 3\r\n\r\nabc", wait=10)
    assert not heard or heard.split(b" ")[1][:1] in (b"2", b"4"), heard[:200]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(garbage=st.binary(min_size=1, max_size=300))
def test_no_bytes_instead_of_http_make_it_stumble(server, garbage):
    heard = talk(server, garbage + b"\r\n\r\n", wait=10)
    assert not heard or heard.split(b" ")[1][:1] in (b"2", b"4"), heard[:200]


def test_slow_headers_are_not_waited_for(server, jpegs):
    with socket.create_connection(("127.0.0.1", server.port), 120) as silent:
        with socket.create_connection(("127.0.0.1", server.port), 120) as slow:
            slow.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            assert answers(server, jpegs[0])  # nobody else waits for them
            assert b" 408 " in slow.recv(200) and b" 408 " in silent.recv(200)


def test_slow_headers_of_a_second_request(server, jpegs):
    with socket.create_connection(("127.0.0.1", server.port), 120) as s:
        s.sendall(request_bytes(b"", path="/ping", method="GET"))
        assert b" 200 " in s.recv(4000)
        s.sendall(b"GET /ping HTTP/1.1\r\nHo")
        heard = b""
        while some := s.recv(4000):
            heard += some
        assert b" 408 " in heard


def test_headers_without_end(server, jpegs):
    lines = (b"X-%d: %s\r\n" % (i, b"a" * 1000) for i in range(100_000))
    assert b" 431 " in talk(server, b"POST /invocations HTTP/1.1\r\nHost: x\r\n", *lines)
    assert answers(server, jpegs[0])


@pytest.mark.parametrize("announced", [True, False])
def test_a_gigabyte(server, jpegs, announced):
    "Whether it says so or not, it is turned away after a few megabytes, and memory does not grow."
    before = server.memory()
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    chunk = b"\xff" * (1 << 20)
    if announced:
        parts = [head + b"Content-Length: %d\r\n\r\n" % (1 << 30), *[chunk] * 1024]
    else:
        parts = [head + b"Transfer-Encoding: chunked\r\n\r\n", *[b"100000\r\n" + chunk + b"\r\n"] * 1024]
    heard = talk(server, *parts)
    assert b" 413 " in heard and b"body_too_large" in heard
    assert answers(server, jpegs[0]) and server.memory() - before < 60 << 20


def test_many_slow_bodies_leave_room_for_others(server, jpegs):
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 9999\r\n\r\n\xff"
    slow = [socket.create_connection(("127.0.0.1", server.port), 120) for _ in range(100)]
    for s in slow:
        s.sendall(head)
    assert answers(server, jpegs[0])
    assert all(b" 408 " in s.recv(300) for s in slow)
    for s in slow:
        s.close()


def test_a_client_that_leaves_takes_nothing_with_it(server, jpegs):
    for _ in range(30):
        with socket.create_connection(("127.0.0.1", server.port), 120) as s:
            s.sendall(request_bytes(jpegs[0])[:-50])
    for _ in range(30):
        with socket.create_connection(("127.0.0.1", server.port), 120) as s:
            s.sendall(request_bytes(jpegs[0]))
    until = time.monotonic() + 120
    while not answers(server, jpegs[0]):  # 429 while what they left is worked off
        assert time.monotonic() < until
        time.sleep(0.2)
    while time.monotonic() < until:
        text = Client(server.port).send(request_bytes(b"", path="/metrics", method="GET"))[1].decode()
        if "skin_lesion_busy 0.0\n" in text and "skin_lesion_held_bytes 0.0\n" in text:
            return
        time.sleep(0.2)
    raise AssertionError(text)


# Who may come in


def certificates(folder):
    "A CA, a certificate for this machine and one for a client; files of PEM."
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now, issued = datetime.datetime.now(datetime.timezone.utc), {}
    for name in ("ca", "server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer, signer = (subject, key) if name == "ca" else issued["ca"]
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = (
            x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(address, critical=False)
            .sign(signer, hashes.SHA256())
        )
        issued[name] = subject, key
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        (folder / f"{name}.key").write_bytes(pem)


def test_mutual_tls(folder, jpegs):
    certificates(folder)
    tls = ",".join(str(folder / n) for n in ("server.pem", "server.key", "ca.pem"))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [sys.executable, "-m", "skin_lesion_mlops.cli.app", "serve", "--model", str(folder / "bundle")]
    with open(folder / "tls.log", "wb") as log:
        process = subprocess.Popen([*command, "--port", str(port), "--tls", tls], stdout=log, stderr=log)
    trusting = ssl.create_default_context(cafile=folder / "ca.pem")
    known = ssl.create_default_context(cafile=folder / "ca.pem")
    known.load_cert_chain(folder / "client.pem", folder / "client.key")
    url = f"https://127.0.0.1:{port}/invocations"
    request = urllib.request.Request(url, jpegs[0], {"Content-Type": "image/jpeg"})
    try:
        for _ in range(300):
            try:
                status = urllib.request.urlopen(request, context=known, timeout=120).status
                break
            except urllib.error.URLError:
                assert process.poll() is None, (folder / "tls.log").read_text()
                time.sleep(0.2)
        assert status == 200
        with pytest.raises((urllib.error.URLError, OSError)):  # a stranger
            urllib.request.urlopen(request, context=trusting, timeout=120)
        with pytest.raises((urllib.error.URLError, OSError)):  # not even TLS
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=120)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) in (0, -signal.SIGTERM)


def test_the_token_comes_from_the_environment(folder, jpegs):
    command = [sys.executable, "-m", "skin_lesion_mlops.cli.app", "serve", "--model", str(folder / "bundle")]
    ping = request_bytes(b"", path="/ping", method="GET")
    server = start_server([*command, "--port", "{port}"], ping, SKIN_LESION_TOKEN="s3cret")
    try:
        assert Client(server.port).send(request_bytes(jpegs[0]))[0] == 401
        bearer = {"Authorization": "Bearer s3cret"}
        assert Client(server.port).send(request_bytes(jpegs[0], headers=bearer))[0] == 200
        bad = {"Authorization": "Bearer s3cre\xe9"}
        assert Client(server.port).send(request_bytes(jpegs[0], headers=bad))[0] == 401
    finally:
        server.stop()


# Endurance

REQUESTS = int(os.environ.get("SOAK_REQUESTS", 50_000))


def mixed(jpegs, n=1000, bad=0.05):
    "Requests of every kind, one in twenty of them bad; which are which."
    rng, out = random.Random(7), []
    photo = io.BytesIO()
    Image.effect_noise((200, 150), 80).convert("RGB").save(photo, "PNG")
    array = io.BytesIO()
    np.save(array, np.zeros((60, 80, 3), np.uint8))
    several = json.dumps({"images": [base64.b64encode(j).decode() for j in jpegs[:3]]}).encode()
    good = [request_bytes(j) for j in jpegs] + [
        request_bytes(several, "application/json", headers={"Accept": "text/csv"})
    ]
    good += [request_bytes(photo.getvalue(), "image/png"), request_bytes(array.getvalue(), "application/x-npy")]
    wrong = [
        request_bytes(jpegs[0][:2000]),
        request_bytes(b""),
        request_bytes(b"GIF89a", "image/gif"),
        request_bytes(b"\xff\xfe{}", "application/json"),
        request_bytes(b'{"images": ["*"]}', "application/json"),
        request_bytes(b"%PDF-1.7"),
        request_bytes(jpegs[0], path="/nowhere"),
        request_bytes(jpegs[0], headers={"Accept": "image/webp"}),
    ]
    for i in range(n):
        out.append(rng.choice(wrong if i < n * bad else good))
    rng.shuffle(out)
    return out, sum(r in wrong for r in out) / n


@pytest.mark.slow
def test_soak(folder, jpegs, capsys):
    "Fifty thousand mixed requests: none lost, no 5xx, flat memory."
    requests, share = mixed(jpegs)
    with running(folder, jpegs[0], "Limits(latency=0)") as server:
        hammer(server.port, requests, 8, 600, total=2000)  # everything has been allocated that ever will be
        samples, done = [server.memory()], threading.Event()

        def watch():
            while not done.wait(1):
                samples.append(server.memory())

        watcher = threading.Thread(target=watch)
        watcher.start()
        load = hammer(server.port, requests, 8, 3000, total=REQUESTS)
        done.set()
        watcher.join()
        quarter = max(1, len(samples) // 4)
        grown = np.median(samples[-quarter:]) - np.median(samples[:quarter])
        with capsys.disabled():
            memory = f"{np.median(samples[:quarter]) / 1e6:.0f} MB -> {np.median(samples[-quarter:]) / 1e6:.0f} MB"
            print(
                f"\n{REQUESTS:,} requests, {dict(load.statuses)}, {load.lost} lost, memory {memory}, {load.summary()}"
            )
    refused = sum(n for status, n in load.statuses.items() if 400 <= status < 500)
    assert load.lost == 0 and not [s for s in load.statuses if s >= 500]
    assert sum(load.statuses.values()) == REQUESTS and refused == pytest.approx(share * REQUESTS, rel=0.02)
    assert grown < 10e6
