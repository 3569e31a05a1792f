"""A third-party AI service for tests that has its pictures already, in options.folder; `made.json` lists them.

The studio made them, so they have real sizes; returning them takes no time.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

from actors.providers.base import (
    Done,
    Job,
    MadeImage,
    MadeThumbnail,
    Progress,
)
from tests.support.providers.local_provider import LocalProvider


class PrintedProvider(LocalProvider):
    """Hands out one picture after another, in turn."""

    may_bill_twice = True

    def __init__(self, name: str, settings: Any) -> None:
        self._prints = json.loads(Path(settings.options["folder"], "made.json").read_text())
        self._given = 0

    async def submit(self, job: Job, progress: Progress) -> Done:
        """Copies, since storing moves the files out of the job's folder."""
        return Done(tuple([await asyncio.to_thread(self._copied, job.folder, n) for n in job.pictures]))

    def _copied(self, folder: Path, n: int) -> MadeImage:
        self._given += 1
        print_ = self._prints[self._given % len(self._prints)]
        path = Path(shutil.copy(print_["path"], folder / f"{n}.jpg"))
        small = print_["thumbnail"]
        thumbnail = Path(shutil.copy(small["path"], folder / f"{n}-thumbnail.webp"))
        return MadeImage(
            n,
            path,
            print_["width"],
            print_["height"],
            MadeThumbnail(thumbnail, small["width"], small["height"]),
        )
