"The service inside this process, so that its parts can be timed: for `profile.ipynb`."

import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import torch
import uvicorn
from load import free_port, hammer, start_server
from torch.utils.flop_counter import FlopCounterMode

from skin_lesion_mlops.core import Files, cpus
from skin_lesion_mlops.model.engines import open_engine, write_int8, write_onnx
from skin_lesion_mlops.model.ensemble import Ensemble
from skin_lesion_mlops.model.networks import create_contract, create_model, load_bundle, save_bundle
from skin_lesion_mlops.serve.admission import Limits
from skin_lesion_mlops.serve.app import create_app
from skin_lesion_mlops.serve.predictor import create_predictor, decode
from skin_lesion_mlops.serve.protocol import WatchedProtocol


def serving(tmp, arch, size, folds=1, views=1, ranged=None):
    "A predictor with networks of random weights, on OpenVINO; in eight bits where pictures set their range."
    members = [create_model(arch) for _ in range(folds)]
    model = members[0] if folds == views == 1 else Ensemble(members, views)
    folder = save_bundle(tmp / f"{arch}-{folds}-{views}", model.eval(), create_contract(model, size))
    write_onnx(folder / Files.ONNX, load_bundle(folder))
    if ranged is not None:
        write_int8(folder / Files.INT8, folder / Files.ONNX, ranged)
    return running(folder, "openvino" if ranged is None else "openvino-int8")


def running(folder, name):
    "The predictor of a bundle whose engines nobody has admitted."
    return replace(create_predictor(folder, engine="torch"), engine=open_engine(name, folder)[0], engine_name=name)


def cost(works, n, rounds, middle=np.median):  # name -> function of a picture's number
    "Processor milliseconds of each, in turns: their median, or another middle."
    took = {name: [] for name in works}
    for i in [*range(2), *range(n)] * rounds:
        for name, work in works.items():
            start = time.process_time()
            work(i)
            took[name].append(1000 * (time.process_time() - start))
    return pd.Series({name: middle(t[2:]) for name, t in took.items()})


def opened_door(predictor, **limits):
    "A service in a thread: its port, its admission and how to close it."
    app, port = create_app(predictor, Limits(**limits)), free_port()
    options = dict(log_config=None, access_log=False, http=partial(WatchedProtocol, limits=Limits(**limits)))
    server = uvicorn.Server(uvicorn.Config(app, port=port, **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)

    def close():
        server.should_exit = True
        thread.join()

    return port, app.state.service.admission, close


def _forever(work):
    while True:
        work()


@contextmanager
def company(work, others):
    "So many other processes that do the same again and again: two cores may be one, seen twice."
    fork = get_context("fork")
    processes = [fork.Process(target=_forever, args=(work,), daemon=True) for _ in range(others)]
    for p in processes:
        p.start()
    try:
        yield
    finally:
        for p in processes:
            p.kill()
            p.join()


def fastest_product(side=2048, times=12):
    "Thousand million operations a second of one core in a large matrix product, in the number format that is fastest."
    weights = onnx.numpy_helper.from_array(np.full((side, side), 3, np.int8), "b")
    a, c = (
        onnx.helper.make_tensor_value_info(name, kind, [side, side])
        for name, kind in (("a", onnx.TensorProto.UINT8), ("c", onnx.TensorProto.INT32))
    )
    node = onnx.helper.make_node("MatMulInteger", ["a", "b"], ["c"])
    graph = onnx.helper.make_graph([node], "product", [a], [c], [weights])
    product = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(product.SerializeToString(), options)
    whole, half = dict(a=np.full((side, side), 5, np.uint8)), torch.randn(side, side).bfloat16()
    best = cost(dict(int8=lambda i: session.run(None, whole), bf16=lambda i: half @ half), times, 1, min)
    return 2 * side**3 / best.min() / 1e6


def least_cost(arch, side, jpegs, rounds, peak):
    "Processor ms of a server that only decodes, on all cores at once, and multiplies as fast as this processor can."
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        create_model(arch).eval()(torch.zeros((1, 3, side, side), dtype=torch.uint8))
    with company(lambda: decode(jpegs[0], side), cpus() - 1):
        decoding = cost({"decode": lambda i: decode(jpegs[i], side)}, len(jpegs), rounds)["decode"]
    return decoding + counter.get_total_flops() / 1e6 / peak


def apart(bundle, engine, latency, several, sent):
    "A service of so many processes in a program of its own, warm."
    words = [sys.executable, "processes.py", str(bundle), engine, str(latency), "{port}", str(several)]
    server = start_server(words, sent[0])
    time.sleep(2)  # the other processes
    hammer(server.port, sent, 8, 60, total=60)
    return server
