"""A model that takes its time to load, as one of tens of gigabytes does: kept warm, only its first order waits for it.

    [tasks.poster]
    provider = "poster"

    [providers.poster]
    kind = "python"
    env = { CUDA_VISIBLE_DEVICES = "0" }         # of its processes, whatever the worker has

    [providers.poster.options]
    class = "slow_poster:SlowPoster"             # a module on the workers' PYTHONPATH
    loading_seconds = 20                         # its own; all other options here are ours
    load_seconds = 120                           # how long loading may take
    idle_seconds = 600                           # then its process ends, and its memory is free
    memory_mib = 8000                            # above it the process is replaced after an order
    processes = 1                                # in each worker process

Heavy imports belong into `load`: the worker reads this module too, to see what is in it.
"""

from __future__ import annotations

import io
import time

from PIL import Image, ImageDraw

from actors.providers.base import Done, MadeImage
from actors.providers.warm.model import ModelJob, ModelSettings, Progress


class SlowPoster:
    """Says a prompt on a coloured ground."""

    def __init__(self, name: str, settings: ModelSettings) -> None:
        self.loading_seconds = float(settings.options.get("loading_seconds", 20))

    def load(self) -> None:
        """As if weights were read."""
        time.sleep(self.loading_seconds)

    def make(self, job: ModelJob, progress: Progress) -> Done:
        """One poster for each picture that is ordered."""
        made = []
        for n in job.pictures:
            progress(100 * n // job.count, "painting")
            print(f"poster {n} of {job.count}")  # goes to the log, with the task's id
            poster = Image.new("RGB", (640, 480), (job.seed % 200, 60 * n % 256, 120))
            ImageDraw.Draw(poster).text((20, 20), str(job.params.get("prompt") or "no words"), "white")
            encoded = io.BytesIO()  # Pillow does not notice a disk that takes only half of a file
            poster.save(encoded, "JPEG")
            path = job.folder / f"{n}.jpg"
            path.write_bytes(encoded.getvalue())
            made.append(MadeImage(n, path, poster.width, poster.height))
        return Done(tuple(made))

    def close(self) -> None:
        """Nothing to free that the system does not free by itself."""
