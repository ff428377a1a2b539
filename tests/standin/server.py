"moto's server with every change in place, on one loopback port."

from __future__ import annotations

import functools
import logging
import os
import socket
import threading
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from tests import once  # noqa: F401  # before moto
from tests.standin import (
    account,
    alarms,
    events,
    faults,
    functions,
    gateway,
    pipelines,
    provider,
    refusals,
    sagemaker,
    states,
    storage,
)


@dataclass
class StandIn:
    "A running AWS."

    url: str
    door: str  # the HTTP API's: `{door}/{api id}/retrain`
    _moto: Any
    _gateway: Any
    _before: dict[str, str | None] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        "A client of it."
        return faults.client(service, "operator")

    def reset(self) -> None:
        "An empty account."
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")).read()
        sagemaker.reset()
        provider.reset()
        faults.reset()
        refusals.reset()
        pipelines.reset()
        states.reset()
        account.reset()

    def enter(self) -> None:
        "Point this process at it, with an empty account, whatever was in it."
        wanted = dict(AWS_ENDPOINT_URL=self.url, MOTO_PORT=self.url.rpartition(":")[2], AWS_DEFAULT_REGION="us-east-1")
        wanted.update(
            AWS_ACCESS_KEY_ID="operator", AWS_SECRET_ACCESS_KEY="standin", SF_EXECUTION_HISTORY_TYPE="SUCCESS"
        )
        self._before = {k: os.environ.get(k) for k in wanted}
        os.environ.update(wanted)
        faults.url = self.url
        states.execute(True)
        self.reset()

    def leave(self) -> None:
        "Leave the process as it was; the AWS goes on, and can be entered again."
        states.execute(False)
        faults.url, sagemaker.executor = "", None
        before, self._before = self._before, {}
        for k, v in before.items():
            os.environ.pop(k, None) if v is None else os.environ.update({k: v})

    def stop(self) -> None:
        "Leave, and shut down."
        self.leave()
        functions.stop()
        self._gateway.shutdown()
        self._moto.stop()


def serve(
    port: int = 0,  # 0: any free one
    door: int = 0,  # the same for the HTTP API
) -> StandIn:
    "Start an AWS, its account empty whatever this process did in an earlier one."
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    port = port or _free_port()
    for part in (functions, states, events, sagemaker, alarms, storage, provider, account, refusals):
        part.install()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no access log
    logging.getLogger("moto.stepfunctions").setLevel(logging.CRITICAL)  # no word on a path that a Choice does not find
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    moto.start()
    front = gateway.serve(door)
    _know_services_by_heart()
    running = StandIn(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{front.server_port}", moto, front)
    running.enter()
    return running


def _know_services_by_heart() -> None:
    "For every request moto lists its folders, tries two hundred patterns, goes through a class: a fifth of its time."
    from moto import backends
    from moto.core import responses
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication as Dispatcher

    if hasattr(Dispatcher, "known"):
        return
    listed, find, Dispatcher.known = frozenset(backends.list_of_moto_modules()), Dispatcher.get_backend_for_host, {}
    backends.list_of_moto_modules = lambda: listed
    responses.method_names_from_class = functools.cache(responses.method_names_from_class)

    def get_backend_for_host(self: Any, host: str | None) -> Any:
        if host not in self.known:
            if not (found := find(self, host)):
                return found
            self.known[host] = found
        return self.known[host]

    Dispatcher.get_backend_for_host = get_backend_for_host


def _free_port() -> int:
    "A port nobody listens on."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for_ever() -> None:
    "Until interrupted."
    threading.Event().wait()
