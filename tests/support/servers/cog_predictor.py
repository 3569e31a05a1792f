"""A predictor for cog: our half of a real model server, with Pillow instead of a model. Only cog imports it."""

import base64
import io
import time
from pathlib import Path

from cog import BaseRunner
from PIL import Image, ImageOps


class Predictor(BaseRunner):
    """Turns a picture inside out.  A file `setup` beside this: `waits`, until the file is gone, or `fails`."""

    def setup(self) -> None:
        """What loads a model elsewhere."""
        told = Path(__file__).with_name("setup")
        while told.exists():
            if told.read_text() == "fails":
                raise RuntimeError("weights/model.safetensors is not there")
            time.sleep(0.02)

    def run(self, image: str, seconds: float = 0.0, fail: bool = False, full: str = "") -> str:
        """image: a data: URI; the answer is one too.  full: how the memory's end is told; `-` for without a word."""
        print("predicting")
        Path(__file__).with_name("running").touch()  # a cancel that comes before this is lost on cog
        over = time.monotonic() + seconds
        while time.monotonic() < over:  # in steps: a cancel strikes between two of Python's, never within one
            time.sleep(0.02)
        if full:
            raise MemoryError if full == "-" else RuntimeError(full)
        if fail:
            raise ValueError("NSFW content detected" if seconds else "no such thing")
        given = Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2]))).convert("RGB")
        out = io.BytesIO()
        ImageOps.invert(given.resize((64, 64))).save(out, "PNG")
        return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
