"""Programs as processes of their own that need not import torch anew: forked from one that has.

A program of ours takes seconds to import what it stands on, and tests start it a hundred times. Here a process imports
those libraries once, none of ours among them, and forks. What comes of it is a process like any other, with number,
folder, environment, streams and signals of its own, and a child of who has asked. `Popen` and `run` are those of
`subprocess`; where the command is not `python -m MODULE`, or the system not Linux, they do what `subprocess` does.
The forked ones share one hash seed: what must not depend on it is tested with `subprocess` itself.
"""

import atexit
import ctypes
import fcntl
import gc
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from importlib import import_module
from typing import Any

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl: orphans among our descendants become our children
WORDS = (
    "typer.testing",
    "rich.console",
    "rich.table",
    "rich.markup",
    "pydantic.main",
    "jinja2",
    "boto3",
    "urllib.request",
)
JOBS = (*WORDS, "tqdm", "PIL.Image", "numpy", "pandas", "scipy.stats", "torch", "torch._dynamo", "sklearn.metrics")
JOBS += ("sklearn.linear_model", "sklearn.neighbors", "sklearn.isotonic", "ipykernel.kernelapp", "IPython", "onnx")
JOBS += ("papermill", "nbconvert")
LIBRARIES = dict(words=WORDS, jobs=JOBS, tracked=(*WORDS, "mlflow"))  # of the command line, of jobs, with a tracker
GIVEN = "args executable preexec_fn close_fds pass_fds cwd env startupinfo creationflags shell".split()
PIPES = "p2cread p2cwrite c2pread c2pwrite errread errwrite".split()


class Server:
    "The process that forks, as one process sees it; started when first needed."

    def __init__(self, kind: str) -> None:
        "None yet."
        self.kind = kind
        self.lock, self.socket, self.process, self.owner = threading.Lock(), None, None, 0
        self.libc: Any = ctypes.CDLL(None)

    def start(self) -> socket.socket:
        "The socket that leads there."
        if self.owner != os.getpid():
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                command = [sys.executable, "-I", __file__, self.kind, str(theirs.fileno())]
                self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
            self.socket, self.owner = ours, os.getpid()
        return self.socket

    def fork(self, request: dict, fds: list) -> int:
        "A new child's number."
        with self.lock:
            way = self.start()
            self.libc.prctl(SUBREAPER, 1, 0, 0, 0)
            try:
                socket.send_fds(way, [json.dumps(request).encode()], fds)
                if not (answer := way.recv(64)):
                    raise OSError("the process that forks has ended")
            finally:
                self.libc.prctl(SUBREAPER, 0, 0, 0, 0)
            return int(answer)


SERVERS = {kind: Server(kind) for kind in LIBRARIES}


class Popen(subprocess.Popen):
    "A process that was forked."

    def __init__(self, args, *, start_new_session=False, **more):
        "As `subprocess.Popen`."
        self.alone = start_new_session
        super().__init__(args, start_new_session=start_new_session, **more)

    def _execute_child(self, *given):
        "Ask for it, instead of becoming it."
        x = dict(zip(GIVEN + PIPES, given))
        words = [os.fspath(a) for a in x["args"]] if not isinstance(x["args"], (str, bytes)) else []
        if words[:2] != [sys.executable, "-m"] or sys.platform != "linux" or x["preexec_fn"] or x["shell"]:
            return super()._execute_child(*given)
        env = dict(os.environ if x["env"] is None else x["env"])
        if any(not isinstance(v, str) for pair in env.items() for v in pair):
            return super()._execute_child(*given)
        request = dict(words=words[2:], env=env, cwd=os.fspath(x["cwd"] or os.getcwd()), alone=self.alone)
        streams = [fd if fd != -1 else n for n, fd in enumerate((x["p2cread"], x["c2pwrite"], x["errwrite"]))]
        kept = sorted(x["pass_fds"])
        spoken, tracked = words[2].startswith("skin_lesion_mlops.cli"), words[2] == "mlflow"
        tracked |= spoken and env.get("MLFLOW_TRACKING_URI", "").startswith("http")
        kind = "tracked" if tracked else "words" if spoken else "jobs"
        self.pid = SERVERS[kind].fork(dict(request, kept=kept), [*streams, *kept])
        self._child_created = True
        self._close_pipe_fds(*(x[p] for p in PIPES))


def run(command, *, capture_output=False, text=None, check=False, **more) -> subprocess.CompletedProcess:
    "As `subprocess.run`."
    if capture_output:
        more.update(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with Popen(command, text=text, **more) as process:
        out, err = process.communicate()
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


# ---- the process that forks


def serve(way: socket.socket) -> dict:
    "Fork for everybody who asks. Returns in each child, with what it was asked to be."
    while True:
        text, fds, *_ = socket.recv_fds(way, 1 << 20, 64)
        if not text:
            os._exit(0)
        told, tell = os.pipe()
        if (between := os.fork()) == 0:
            if (child := os.fork()) == 0:
                way.detach()
                return become(json.loads(text), fds)
            os.write(tell, str(child).encode())
            os._exit(0)
        os.waitpid(between, 0)  # now the child is an orphan, and who has asked takes it in
        way.send(os.read(told, 64))
        for fd in (*fds, told, tell):
            os.close(fd)


def become(x: dict, fds: list) -> dict:
    "Be what was asked for: session, streams, folder, environment."
    if x["alone"]:
        os.setsid()
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 200) for fd in fds]
    os.closerange(3, 200)
    for fd, target in zip(high, [0, 1, 2, *x["kept"]]):
        os.dup2(fd, target)
        os.close(fd)
    os.environ.clear()
    os.environ.update(x["env"])
    os.chdir(x["cwd"])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    for n, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        raw = open(n, f"{mode}b", buffering=0 if n and unbuffered else -1, closefd=False)
        how = dict(line_buffering=n == 2 or os.isatty(n), write_through=unbuffered) if n else {}
        stream = io.TextIOWrapper(raw, "utf-8", "backslashreplace" if n == 2 else "strict", **how)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    path = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:0] = [x["cwd"], *path]
    sys.argv[:] = x["words"]
    return x


def main() -> None:
    "Import the libraries, then fork; in a child: run the module."
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    for name in LIBRARIES[sys.argv[1]]:
        with suppress(ImportError):
            import_module(name)
    if len(sys.argv) < 3:  # in `.ci/run`: now they are compiled
        return
    way = socket.socket(fileno=int(sys.argv[2]))
    assert threading.active_count() == 1, "a thread would not be in a child"
    gc.collect()
    gc.freeze()
    become_module(serve(way)["words"][0])


def become_module(name: str) -> None:
    "Run it as `python -m` does, and end without the third of a second that it takes to clear torch away."
    if name != "ipykernel_launcher":  # our modules would take themselves for notebooks
        for loaded in [m for m in sys.modules if m.split(".")[0] == "ipykernel"]:
            del sys.modules[loaded]
    status, interrupted = 0, False
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
        if status == 1 and not isinstance(e.code, int):
            print(e.code, file=sys.stderr)
    except BaseException as e:
        sys.excepthook(type(e), e, e.__traceback__)
        status, interrupted = 1, isinstance(e, KeyboardInterrupt)
    with suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status & 0xFF)


if __name__ == "__main__":
    main()
