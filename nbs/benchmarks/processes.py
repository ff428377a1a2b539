"""The service with several processes, of a bundle whose engines nobody has admitted: for `profile.ipynb`.

    python processes.py BUNDLE ENGINE LATENCY PORT PROCESSES

LATENCY is that of `skin-lesion serve`, in seconds.
"""

import sys
from functools import partial
from pathlib import Path

from inside import running

from skin_lesion_mlops.serve.admission import Limits
from skin_lesion_mlops.serve.server import run_server

if __name__ == "__main__":
    bundle, engine, latency, port, several = (f(word) for f, word in zip((Path, str, float, int, int), sys.argv[1:]))
    create = partial(running, bundle, engine)
    run_server(create, port=port, limits=Limits(latency=latency), processes=several)
