"""The models: loaded once per process, run on one thread."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from actors.providers.studio.vision.planes import Plane


class Net:
    """A model file as a function from one array to its outputs, in the model's order.  Not for several
    threads."""

    def __init__(self, content: bytes) -> None:
        # one thread: several image processes run side by side, and more threads than cores only fight
        self._interpreter: Any = Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]

    def __call__(self, pixels: Plane) -> list[Plane]:
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(pixels[None], np.float32))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


@cache
def net(name: str) -> Net:
    """The model `name` of the package folder `models`."""
    return Net(files("actors.providers.studio").joinpath("models", f"{name}.tflite").read_bytes())
