"The load generator of the benchmark and the endurance test: it loses nothing, and says so when a server does."

import http.server
import itertools
import socket
import threading
import time

import pytest
from load import Client, form_bytes, hammer, request_bytes, start_server

from skin_lesion_mlops.core import SkinLesionError


class Slow(http.server.BaseHTTPRequestHandler):
    "Needs five milliseconds; closes the connection at every tenth request: at /full behind it, at /rude without one."

    protocol_version, seen = "HTTP/1.1", itertools.count(1)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.005)
        tenth = next(self.seen) % 10 == 0
        if self.path == "/rude" and tenth:
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
        self.close_connection = self.path == "/full" and tenth

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def port():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


def test_requests_are_bytes():
    assert request_bytes(b"...", path="/a?b=c").decode().startswith("POST /a?b=c HTTP/1.1\r\nHost: localhost\r\n")
    assert form_bytes(b"pixels", "file", "/predict").endswith(b"pixels\r\n--lesion-boundary--\r\n")


@pytest.mark.parametrize("path", ["/", "/full", "/rude"])
def test_every_request_ends_in_an_answer_or_is_lost(port, path):
    load = hammer(port, [request_bytes(b"x", path=path)], clients=4, total=200, seconds=60)
    assert set(load.statuses) == {200} and len(load.seconds) + load.lost == 200
    assert load.summary()["p50"] >= 5 and load.summary()["failed"] == load.lost
    assert path == "/rude" or load.lost == 0


def test_a_request_without_an_answer_is_lost():
    "A listener that hangs up on everybody."
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=lambda: [listener.accept()[0].close() for _ in range(3)], daemon=True).start()
        load = hammer(listener.getsockname()[1], [request_bytes(b"x")], total=3, seconds=60)
    assert load.lost == 3 and not load.statuses
    with pytest.raises(SkinLesionError, match="no request was answered"):
        load.summary()


def test_an_idle_connection_that_was_closed_is_opened_again(port):
    client = Client(port)
    assert client.send(request_bytes(b"x"))[0] == 200
    client.socket.shutdown(socket.SHUT_RDWR)
    assert client.send(request_bytes(b"x")) == (200, b"ok")


def test_a_server_that_does_not_start():
    with pytest.raises(SkinLesionError, match="false did not start within 120 s"):
        start_server(["false"], request_bytes(b""))
