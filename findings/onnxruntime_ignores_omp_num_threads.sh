#!/bin/sh
# One would guess: OMP_NUM_THREADS=1 keeps onnxruntime to one thread, as it keeps numpy's libraries and as pages on the web say.
# What happens: the wheels of onnxruntime are built without OpenMP.  A session starts a pool of a thread for each core (less the caller's
# own), whatever OMP_NUM_THREADS says; only `SessionOptions.intra_op_num_threads` counts.
# Why it matters to us: several processes with a model each on one host fight for its cores, though their environment is set as for
# every other library.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2 2> pip.log || { cat pip.log; exit 1; }
cat > seen.py <<'PY'
import importlib.metadata
import os
import sys

import numpy
import onnxruntime
from onnx import TensorProto, helper

cores = len(os.sched_getaffinity(0))
if cores < 2:
    sys.exit("This needs two cores to be seen.")
shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in ("x", "y")]
graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "square", [shape[0]], [shape[1]])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def threads_of_a_session(most):
    """How many more threads this process has while the session lives."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = most
    before = len(os.listdir("/proc/self/task"))
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": numpy.eye(4, dtype=numpy.float32)})
    return len(os.listdir("/proc/self/task")) - before


usual, single = threads_of_a_session(0), threads_of_a_session(1)
print(f"onnxruntime {importlib.metadata.version('onnxruntime')}, OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}, {cores} cores")
print(f"threads that a session adds: {usual} by default, {single} with intra_op_num_threads = 1")
if not (usual >= 1 and single == 0):
    sys.exit("This has changed.")
PY
OMP_NUM_THREADS=1 env/bin/python seen.py
