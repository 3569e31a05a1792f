#!/bin/sh
# One would guess: what a session of onnxruntime took for a large picture is free again when its answer was read and dropped, so a
# process that serves small pictures is small.
# What happens: the session's CPU arena keeps the memory of the largest input that it has ever seen, for as long as the session lives.
# Small inputs after it bring nothing back, and neither does the garbage collector.  It ends with the session, or is not begun
# with `enable_cpu_mem_arena = False`.
# Why it matters to us: a model that stays loaded grows to the dearest order that it ever had and stays there; `memory_mib` has to look
# at a process after each job, and its being large is no leak.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2 2> pip.log || { cat pip.log; exit 1; }
cat > seen.py <<'PY'
import gc
import importlib.metadata
import sys

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper

MIB = 1024 * 1024


def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 // MIB


# Three times "add one", on an array of any length: what lies between the steps is the session's own.
nodes = [helper.make_node("Add", [a, "one"], [b]) for a, b in (("x", "p"), ("p", "q"), ("q", "y"))]
shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
graph = helper.make_graph(nodes, "thrice", [shape[0]], [shape[1]], [one])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def grown_after(with_arena):
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = with_arena
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    small = numpy.zeros(1000, numpy.float32)
    session.run(None, {"x": small})
    before = resident_mib()
    large = numpy.zeros(50 * MIB // 4, numpy.float32)
    (answer,) = session.run(None, {"x": large})
    assert answer[0] == 3.0
    del large, answer
    for _ in range(20):
        session.run(None, {"x": small})
    gc.collect()
    kept = resident_mib() - before
    del session
    gc.collect()
    return kept, resident_mib() - before


kept, after_end = grown_after(True)
kept_without, _ = grown_after(False)
print(f"onnxruntime {importlib.metadata.version('onnxruntime')}")
print(f"an input of 50 MiB, answered, dropped, and followed by 20 of 4 kB: the process stays {kept} MiB larger")
print(f"the same when the session was deleted: {after_end} MiB; and with enable_cpu_mem_arena = False: {kept_without} MiB")
if not (kept >= 50 and after_end < kept / 2 and kept_without < kept / 2):
    sys.exit("This has changed.")
PY
env/bin/python seen.py
