"""A provider that only records when it was called: the end of the start latency's measurement."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import Any

from actors.providers.base import Done, Job, Progress
from tests.support.providers.local_provider import LocalProvider


class ProbeProvider(LocalProvider):
    """Sends `task id, monotonic nanoseconds` to the datagram socket named in options.socket.

    options.wait_seconds: how long each task then waits, 0 by default.
    """

    may_bill_twice = True

    def __init__(self, name: str, settings: Any) -> None:
        self._path = str(settings.options.get("socket", ""))
        self._wait_seconds = float(settings.options.get("wait_seconds", 0))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    async def submit(self, job: Job, progress: Progress) -> Done:
        """Nothing is made."""
        reached = time.monotonic_ns()
        if self._path and os.path.exists(self._path):
            self._socket.sendto(f"{job.task_id} {reached}".encode(), self._path)
        if self._wait_seconds:
            await asyncio.sleep(self._wait_seconds)
        return Done((), without_pictures=True)
