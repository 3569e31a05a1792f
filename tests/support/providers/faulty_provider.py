"""A third-party AI service for tests: it records its requests and dies at the chosen step.

Its notes are lines `TASK call`, `TASK done` and `TASK cancelled`, so a test sees what really ran, independent of the
rows.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from actors.providers.base import Done, Job, MadeImage, Progress
from supervisor.store.tasks import claims
from tests.support.providers.instant_provider import ONE_PIXEL, opened
from tests.support.providers.local_provider import LocalProvider


def die(*_: object, **__: object) -> None:
    """As `kill -9` does it."""
    os.kill(os.getpid(), signal.SIGKILL)


class FaultyProvider(LocalProvider):
    """options.notes: the file for its notes.  options.wait_seconds: how long each job takes, 0 by default.

    options.gates: a folder; no job ends before a file there has its task's name.

    options.die_at: `start` kills the worker that begins a job; `complete` kills it when a job's first pictures are
    stored and its row does not yet say so.  options.pictures: `none` for jobs that end without any.
    """

    may_bill_twice = True

    def __init__(self, name: str, settings: Any) -> None:
        self._notes = Path(settings.options["notes"])
        self._wait_seconds = float(settings.options.get("wait_seconds", 0))
        self._gates = settings.options.get("gates")
        self._die_at = settings.options.get("die_at", "")
        self._makes_pictures = settings.options.get("pictures", "") != "none"

    async def submit(self, job: Job, progress: Progress) -> Done:
        """One pixel a picture."""
        self._note(job, "call")
        if self._die_at == "start":
            die()
        if self._die_at == "complete" and self._calls(job) == 1:
            claims.complete_all = die  # type: ignore[assignment]
        progress(50, "making")
        try:
            await asyncio.sleep(self._wait_seconds)
            if self._gates:
                await opened(Path(self._gates, job.task_id))
        except asyncio.CancelledError:
            self._note(job, "cancelled")
            raise
        self._note(job, "done")
        if not self._makes_pictures:
            return Done((), without_pictures=True)
        return Done(tuple(self._picture(job, n) for n in job.pictures))

    def _picture(self, job: Job, n: int) -> MadeImage:
        path = job.folder / f"{n}.jpg"
        path.write_bytes(ONE_PIXEL)
        return MadeImage(n, path, 1, 1)

    def _calls(self, job: Job) -> int:
        return self._notes.read_text().splitlines().count(f"{job.task_id} call")

    def _note(self, job: Job, what: str) -> None:
        with self._notes.open("a") as notes:
            notes.write(f"{job.task_id} {what}\n")


class BlockingProvider(FaultyProvider):
    """Blocks the event loop it runs on, the first time a task is made: it sleeps instead of awaiting."""

    async def submit(self, job: Job, progress: Progress) -> Done:
        """The second attempt is well-behaved."""
        if self._calls(job) == 0:
            self._note(job, "call")
            time.sleep(600)  # noqa: ASYNC251 - the fault that this is about
        return await super().submit(job, progress)
