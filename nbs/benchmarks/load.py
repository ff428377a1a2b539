"""Many clients at once: how fast is a server, what does it need, and does it ever lose a request?

The benchmark beside this file and the endurance test ask the same question of any HTTP server: send it these requests,
from so many clients, and tell how long each took and how it ended. The client must cost little, since it shares its
processor with what it measures. So requests are bytes made beforehand, sockets stay open, and only as much of an answer
is parsed as is needed to find its end. A connection that the server closes after an answer (as it may after a bad one)
is opened again; a request without an answer is *lost*.
"""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from skin_lesion_mlops.core import SkinLesionError

BOUNDARY = "lesion-boundary"


def request_bytes(
    body: bytes,  # of the request
    kind: str = "image/jpeg",
    path: str = "/invocations",
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> bytes:  # a whole HTTP/1.1 request
    "A request as it goes over the wire."
    lines = {"Host": "localhost", "Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{k}: {v}\r\n" for k, v in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def form_bytes(
    body: bytes,
    field: str,  # name of the form's field
    path: str,
    kind: str = "image/jpeg",  # content type of the file
) -> bytes:  # a whole HTTP/1.1 request
    "A file as a browser's form uploads it."
    disposition = f'Content-Disposition: form-data; name="{field}"; filename="lesion.jpg"'
    head = f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: {kind}\r\n\r\n".encode()
    return request_bytes(
        head + body + f"\r\n--{BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={BOUNDARY}", path
    )


class Client:
    "A keep-alive connection."

    def __init__(
        self,
        port: int,  # on this machine
        timeout: float = 60.0,  # seconds to wait for an answer
    ):
        self.port, self.timeout = port, timeout
        self.socket: socket.socket | None = None
        self.wait = 0.0  # seconds after which the last answer asked to come back

    def send(
        self,
        request: bytes,  # from `request_bytes`
    ) -> tuple[int, bytes]:  # status and body; raises `OSError` when there is no answer
        "Send a request and wait for its answer."
        fresh = self.socket is None
        try:
            return self._send(request)
        except OSError:
            self.close()
            if fresh:
                raise
            return self._send(request)  # the server had closed an idle connection

    def _send(self, request: bytes) -> tuple[int, bytes]:
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port), self.timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.socket.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has answered before it had heard everything
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        numbers = dict(x.split(b":", 1) for x in lines if x.startswith((b"content-length:", b"retry-after:")))
        length, self.wait = (int(numbers.get(name, 0)) for name in (b"content-length", b"retry-after"))
        while len(body) < length:
            body += self._more()
        if b"connection: close" in lines:
            self.close()
        return int(head.split(b" ", 2)[1]), body

    def _more(self) -> bytes:
        assert self.socket is not None
        some = self.socket.recv(1 << 18)
        if not some:
            raise ConnectionError("the server closed the connection without an answer")
        return some

    def close(self) -> None:
        "Close the connection."
        if self.socket is not None:
            self.socket.close()
            self.socket = None


@dataclass
class LoadResult:
    "How a number of requests went."

    seconds: np.ndarray  # (n,), of each request that was answered
    statuses: Counter[int]  # HTTP status -> how many
    lost: int  # without an answer
    wall: float  # seconds that all of it took
    accepted: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (m,), seconds of those answered with 200

    def summary(self) -> dict[str, Any]:  # p50, p95, p99 in milliseconds; per_second; failed: 5xx and lost
        "The numbers that matter."
        if not len(self.seconds):
            raise SkinLesionError("no request was answered", "is the server running?")
        p50, p95, p99 = np.percentile(1000 * self.seconds, (50, 95, 99)).round(1).tolist()
        failed = self.lost + sum(n for status, n in self.statuses.items() if status >= 500)
        return dict(p50=p50, p95=p95, p99=p99, per_second=round(len(self.seconds) / self.wall, 1), failed=failed)


def hammer(
    port: int,  # on this machine
    requests: Sequence[bytes],  # from `request_bytes`; sent in order, again and again
    clients: int = 1,  # connections, each with one request at a time
    seconds: float = 5.0,
    total: int = 0,  # stop after so many requests; 0 for never
    patient: bool = False,  # does a client that is refused come back when it was told to, or at once?
) -> LoadResult:
    "Send requests from many clients at once."
    numbers, until = itertools.count(), time.perf_counter() + seconds
    found: list[tuple[float, int]] = []

    def work() -> None:
        client = Client(port)
        while time.perf_counter() < until:
            number = next(numbers)
            if total and number >= total:
                break
            start = time.perf_counter()
            try:
                status = client.send(requests[number % len(requests)])[0]
            except OSError:
                client.close()
                status = 0
            found.append((time.perf_counter() - start, status))
            if patient and client.wait:
                time.sleep(client.wait)
        client.close()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    start = time.perf_counter()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    answered = np.array([s for s, status in found if status])
    accepted = np.array([s for s, status in found if status == 200])
    statuses = Counter(status for _, status in found)
    return LoadResult(answered, statuses, statuses.pop(0, 0), time.perf_counter() - start, accepted)


@dataclass
class Server:
    "A server process."

    process: subprocess.Popen
    port: int
    started: float  # seconds from its start to its first good answer

    def processes(self) -> list[Any]:  # each a `psutil.Process`
        "The process and its children."
        import psutil

        try:
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        except psutil.Error:
            return []

    def memory(self) -> int:  # bytes; pages shared between its processes are counted once
        "What it holds now."
        found = [p.memory_full_info() for p in self.processes()]
        return sum(getattr(m, "pss", 0) or m.rss for m in found)

    def cpu(self) -> float:  # seconds of processor time
        "What it has used so far, which does not depend on what else the machine was doing."
        return sum(t.user + t.system for t in (p.cpu_times() for p in self.processes()))

    def stop(self) -> None:
        "End it and its children."
        processes = self.processes()
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for p in processes:
            if p.is_running() and p.pid != self.process.pid:
                p.kill()


def free_port() -> int:
    "A TCP port that nobody uses."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def start_server(
    command: Sequence[str],  # program and arguments; `{port}` in them becomes the port
    request: bytes,  # that it must answer with 200 before it counts as started
    log: str | Path = os.devnull,  # where its output goes
    timeout: float = 120.0,  # seconds
    **env: str,  # further environment variables
) -> Server:  # raises `SkinLesionError` when it does not start
    "Start a server and wait until it works."
    port, start = free_port(), time.perf_counter()
    words = [w.replace("{port}", str(port)) for w in command]
    with open(log, "wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **env})
    client = Client(port)
    while time.perf_counter() - start < timeout and process.poll() is None:
        try:
            if client.send(request)[0] == 200:
                client.close()
                return Server(process, port, time.perf_counter() - start)
        except OSError:
            client.close()
        time.sleep(0.02)
    Server(process, port, 0).stop()
    raise SkinLesionError(f"{' '.join(words)} did not start within {timeout:g} s", f"see {log}")
