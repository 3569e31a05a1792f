"""A model from an installed package, run by LiteRT: the person of a photo on a clear ground, as PNG.

    [tasks.cut_out]
    provider = "cut_out"
    inputs = { images = [1, 1] }
    count = [1, 1]

    [providers.cut_out]
    kind = "python"
    options = { class = "cut_out:CutOut", processes = 2 }

onnxruntime is used in the same way: `onnxruntime.InferenceSession(path)` in `load`, `session.run(...)` in `make`.
"""

from __future__ import annotations

import io
from importlib.resources import files
from typing import Any

from actors.providers.base import Done, InvalidInput, MadeImage
from actors.providers.warm.model import ModelJob, ModelSettings, Progress

PACKAGE, MODEL = "actors.providers.studio", "models/selfie_segmentation.tflite"
SIDE = 256  # the model sees a square of so many pixels


class CutOut:
    """One loaded interpreter, used for one order after another."""

    def __init__(self, name: str, settings: ModelSettings) -> None:
        self.net: Any = None

    def load(self) -> None:
        """What is heavy is imported here, in the child alone."""
        from ai_edge_litert.interpreter import Interpreter

        self.net = Interpreter(model_content=files(PACKAGE).joinpath(MODEL).read_bytes(), num_threads=1)
        self.net.allocate_tensors()

    def make(self, job: ModelJob, progress: Progress) -> Done:
        """Raises InvalidInput for what is no picture."""
        import numpy as np
        from PIL import Image, UnidentifiedImageError

        progress(5, "reading the photo")
        try:
            photo = Image.open(job.inputs[0]).convert("RGB")
        except UnidentifiedImageError as error:
            raise InvalidInput("The photo can't be read.", code="image_unusable") from error
        progress(20, "looking for the person")
        seen = np.asarray(photo.resize((SIDE, SIDE)), np.float32)[None] / 255
        self.net.set_tensor(self.net.get_input_details()[0]["index"], seen)
        self.net.invoke()
        mask = np.squeeze(self.net.get_tensor(self.net.get_output_details()[0]["index"]))
        alpha = Image.fromarray((np.clip(mask, 0, 1) * 255).astype(np.uint8)).resize(photo.size)
        progress(80, "cutting it out")
        photo.putalpha(alpha)
        encoded, path = io.BytesIO(), job.folder / "0.png"
        photo.save(encoded, "PNG")
        path.write_bytes(encoded.getvalue())
        return Done((MadeImage(0, path, photo.width, photo.height),))

    def close(self) -> None:
        """The interpreter goes with its process."""
