"`python -m tests.standin [--port 5060] [--door 5061]`: an AWS on this machine, until interrupted."

import argparse

from tests.standin import pipelines, sagemaker, states
from tests.standin.server import serve, wait_for_ever

cli = argparse.ArgumentParser(prog="python -m tests.standin", description=__doc__)
cli.add_argument("--port", type=int, default=5060, help="where AWS answers")
cli.add_argument("--door", type=int, default=5061, help="where the HTTP API answers: /API_ID/path")
cli.add_argument("--scale", type=float, default=0.05, help="real seconds per second of a Wait state")
args = cli.parse_args()
states.scale = args.scale
sagemaker.executor = pipelines.execute
running = serve(args.port, args.door)
print(f"AWS_ENDPOINT_URL={running.url}\nHTTP_API={running.door}", flush=True)
try:
    wait_for_ever()
except KeyboardInterrupt:
    running.stop()
