"""A third-party AI service for tests that reads its mood from a file at each request, so it can change."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from actors.providers.base import (
    Accepted,
    ContentRejected,
    Done,
    Failed,
    Job,
    Progress,
    ProviderDown,
    RateLimited,
    Running,
    Transient,
)
from tests.support.providers.instant_provider import InstantProvider


class MoodyProvider(InstantProvider):
    """options.mood: a file that holds `well`, `hangs`, `500`, `rejects`, `429`, `key`, `poison` or `remote`."""

    paid = True

    def __init__(self, name: str, settings: Any) -> None:
        super().__init__(name, settings)
        self._mood = Path(settings.options["mood"])

    async def submit(self, job: Job, progress: Progress) -> Done | Accepted:
        """As it is in the mood."""
        match await asyncio.to_thread(self._mood.read_text):
            case "hangs":
                progress(40, "developing")
                await asyncio.sleep(600)
            case "500":
                raise Transient("The AI service answered HTTP 500.")
            case "rejects":
                raise ContentRejected("The AI service rejects every picture.")
            case "429":
                raise RateLimited("The AI service answered HTTP 429.", wait_seconds=20)
            case "key":
                raise ProviderDown("The AI service answered HTTP 401: the key is wrong.")
            case "poison":
                os.kill(os.getpid(), signal.SIGKILL)
            case "remote":
                return Accepted(f"job-{job.task_id[-6:]}", poll_after_seconds=2.0)
        return await super().submit(job, progress)

    async def poll(self, remote: Accepted, job: Job) -> Running | Done | Failed:
        """It works on it for ever."""
        return Running(poll_after_seconds=2.0)
