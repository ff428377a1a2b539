"""Several processes behind one port, each with a core and a copy of the model: for `profile.ipynb`.

    python processes.py BUNDLE ENGINE LATENCY PORT PROCESSES

One process is the service as it is, with a thread for each core. Of several, each is bound to one core and answers one
request at a time; they take connections from one socket, as `uvicorn --workers` does. LATENCY is that
of `skin-lesion serve`, in seconds.
"""

import os
import signal
import socket
import sys
from pathlib import Path


def serve(bundle, engine, latency, listening, cores):
    "One process of the service."
    os.sched_setaffinity(0, cores)
    import uvicorn
    from inside import running

    from skin_lesion_mlops.serve.admission import Limits
    from skin_lesion_mlops.serve.app import create_app
    from skin_lesion_mlops.serve.protocol import create_protocol

    limits = Limits(latency=latency)
    options = dict(log_config=None, access_log=False, http=create_protocol(limits))
    server = uvicorn.Server(uvicorn.Config(create_app(running(Path(bundle), engine), limits), **options))
    server.run(sockets=[listening])


if __name__ == "__main__":
    bundle, engine, latency, port, several = (f(word) for f, word in zip((str, str, float, int, int), sys.argv[1:]))
    listening = socket.create_server(("127.0.0.1", port), backlog=128)
    cores = sorted(os.sched_getaffinity(0))
    shares = [{cores[i % len(cores)]} for i in range(several)] if several > 1 else [set(cores)]
    children = []
    for share in shares:
        child = os.fork()
        if not child:
            serve(bundle, engine, latency, listening, share)
            os._exit(0)
        children.append(child)
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(c, signal.SIGTERM) for c in children])
    for child in children:
        os.waitpid(child, 0)
