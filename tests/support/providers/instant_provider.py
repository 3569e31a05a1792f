"""A third-party AI service for tests: it makes a small real picture at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from actors.providers.base import Done, Job, MadeImage, Progress
from tests.support.providers.local_provider import LocalProvider

# The smallest JPEG: one grey pixel.
ONE_PIXEL = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb004300080606070605080707070909080a0c140d0c0b0b0c1912130f141d1a1f1e1d1a"
    "1c1c20242e2720222c231c1c2837292c30313434341f27393d38323c2e333432ffc0000b080001000101011100ffc4001f0000010501010101"
    "010100000000000000000102030405060708090a0bffc400b5100002010303020403050504040000017d010203000411051221314106135161"
    "07227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a434445464748494a53545556575859"
    "5a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6"
    "c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffda0008010100003f00fbd3ffd9"
)


LOOK_SECONDS = 0.02


async def opened(gate: Path) -> None:
    """Wait until the file is there: a test that has to find a job at work lets it end when it has done so."""
    while not gate.exists():  # noqa: ASYNC110  it is another process that makes it
        await asyncio.sleep(LOOK_SECONDS)


class InstantProvider(LocalProvider):
    """options.wait_seconds: how long each job takes, 0 by default.  options.gate: a file before which none ends.

    options.cost: what each job costs, nothing by default.
    """

    may_bill_twice = True

    def __init__(self, name: str, settings: Any) -> None:
        self._wait_seconds = float(settings.options.get("wait_seconds", 0))
        self._gate = settings.options.get("gate")
        self._cost = settings.options.get("cost")

    async def submit(self, job: Job, progress: Progress) -> Done:
        """One pixel a picture."""
        progress(50, "making")
        await asyncio.sleep(self._wait_seconds)
        if self._gate:
            await opened(Path(self._gate))
        if self._cost:
            job.note_cost(self._cost)
        made = []
        for n in job.pictures:
            path = job.folder / f"{n}.jpg"
            path.write_bytes(ONE_PIXEL)
            made.append(MadeImage(n, path, 1, 1))
        return Done(tuple(made))
