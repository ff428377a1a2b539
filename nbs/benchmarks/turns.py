"Turns of the loops of `loops.py`, for `training.ipynb`."

import json

import pandas as pd


def turns(processes, rounds, arch, loops):  # Python -> process; loops: name -> (Python, loop, hyperparameters)
    "Milliseconds per picture of every loop in every round."
    rows = []
    for number in range(rounds + 1):
        for name in list(loops)[:: 1 if number % 2 else -1]:
            python, loop, more = loops[name]
            print(
                json.dumps(dict(loop=loop, arch=arch, **more)),
                file=processes[python].stdin,
                flush=True,
            )
            took = json.loads(processes[python].stdout.readline())
            ms = {k: 1000 * took[k] / took["images"] for k in ("processor", "clock")}
            rows.append(dict(arch=arch, loop=name, round=number, **ms))
    return pd.DataFrame([r for r in rows if r["round"]])
