"""A third-party AI service for tests whose results are films and data; the order's parameters choose their contents."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from actors.providers.base import Done, InvalidInput, Job, MadeFile, Progress
from tests.support.providers.local_provider import LocalProvider

# The first box of an MP4, which identifies it, and no picture.
MP4 = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + b"\x00\x00\x00\x08free"


class MadeFilesProvider(LocalProvider):
    """parameters: film (bytes of it), data (JSON), and for every film but the first of an order: refuse (true: it is
    refused), die (a file: a worker that does not find it makes it and dies)."""

    may_bill_twice = True

    def __init__(self, name: str, settings: Any) -> None:
        self._calls = Path(settings.options["calls"])

    async def submit(self, job: Job, progress: Progress) -> Done:
        """A film and data, as they are asked for; each call is a line in the file `calls`."""
        with self._calls.open("a") as calls:
            calls.write(f"{job.task_id} {len(job.inputs)} {job.params.get('prompt', '')}\n")
        asked = job.params["parameters"]
        progress(50, "making")
        await asyncio.sleep(0)
        if min(job.pictures) > 0:
            if asked.get("refuse"):
                raise InvalidInput("There is no second film.")
            if asked.get("die") and not Path(asked["die"]).exists():
                Path(asked["die"]).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        files = []
        if size := asked.get("film"):
            path = job.folder / "film.mp4"
            path.write_bytes(MP4)
            os.truncate(path, size)
            files.append(MadeFile(path, "a/film: one.mp4", 64, 48, 1.5))
        return Done(files=tuple(files), data=asked.get("data"))


class FilmByFilmProvider(MadeFilesProvider):
    """Asked for one film at a time."""

    pictures_per_request = 1
