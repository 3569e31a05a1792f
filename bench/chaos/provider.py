"""AI services for the chaos: short work of a random length, and a photo that kills the worker that opens it."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from actors.providers.base import Done, Job, MadeImage, Progress
from tests.support.chaos.orders import left_out
from tests.support.pictures import one_pixel_png
from tests.support.providers.local_provider import LocalProvider

STEP_SECONDS = 0.25


class ShortWork(LocalProvider):
    """Each task takes its own time, the same at every attempt.

    options.longest_seconds: 6 by default; most tasks take a third of it or less.
    """

    may_bill_twice = True

    def __init__(self, name: str, settings: Any) -> None:
        self._longest_seconds = float(settings.options.get("longest_seconds", 6))

    async def submit(self, job: Job, progress: Progress) -> Done:
        """A pixel a picture, after a while; of some orders never the last."""
        seconds = 0.1 + self._longest_seconds * (job.seed % 1000 / 1000) ** 2
        steps = max(1, round(seconds / STEP_SECONDS))
        for step in range(steps):
            progress(5 + 90 * step // steps, "making")
            await asyncio.sleep(seconds / steps)
        made = job.count - left_out(str(job.params.get("prompt", "")), job.count)
        return Done(tuple(self._picture(job, n) for n in job.pictures if n < made))

    def _picture(self, job: Job, n: int) -> MadeImage:
        path = job.folder / f"{n}.png"
        path.write_bytes(one_pixel_png((job.seed + n) % 256))
        return MadeImage(n, path, 1, 1)


class Poison(ShortWork):
    """Kills the worker that touches it."""

    async def submit(self, job: Job, progress: Progress) -> Done:
        """Never returns."""
        os.kill(os.getpid(), signal.SIGKILL)
        return await super().submit(job, progress)
