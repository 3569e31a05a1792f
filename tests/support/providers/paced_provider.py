"""A third-party AI service for tests: it works in equal steps and then makes a real picture."""

from __future__ import annotations

import asyncio
from typing import Any

from PIL import Image

from actors.providers.base import Done, Job, MadeImage, Progress
from tests.support.providers.local_provider import LocalProvider


class PacedProvider(LocalProvider):
    """options.steps, options.step_seconds: how a job goes on."""

    may_bill_twice = True

    def __init__(self, name: str, settings: Any) -> None:
        self._steps = int(settings.options.get("steps", 10))
        self._step_seconds = float(settings.options.get("step_seconds", 0.1))

    async def submit(self, job: Job, progress: Progress) -> Done:
        """A plain picture each, after so many steps."""
        for step in range(self._steps):
            progress(5 + 90 * step // self._steps, "developing")
            await asyncio.sleep(self._step_seconds)
        made = []
        for n in job.pictures:
            path = job.folder / f"{n}.png"
            Image.new("RGB", (64, 64), (180, 60 + 20 * n, 60)).save(path)
            made.append(MadeImage(n, path, 64, 64))
        return Done(tuple(made))
