"""Finished pictures become durable before any row says that they exist, so the next attempt finds them or nothing.

They are paid for.  While the store can't be used they are kept and stored again: the attempt's own limits say for how
long.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import structlog

from supervisor.files import StoreAway
from supervisor.store.results import ResultFile

if TYPE_CHECKING:
    from actors.providers.base import Done, MadeImage
    from actors.worker import Worker
    from supervisor.store.claims import Claim

AGAIN_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)  # and ten more each time

log = structlog.get_logger(__name__)


async def store_pictures(worker: Worker, claim: Claim, done: Done) -> list[ResultFile]:
    """The pictures as objects in the store.  Their keys hold the lease, so nobody overwrites another's."""
    return [await _stored(worker, claim, picture) for picture in done.images]


async def _stored(worker: Worker, claim: Claim, picture: MadeImage) -> ResultFile:
    pauses = iter(AGAIN_SECONDS)
    while True:
        try:
            return await asyncio.to_thread(_put, worker, claim, picture)
        except StoreAway as fault:
            log.warning("picture_not_stored", task=claim.task_id, reason=str(fault))
            await asyncio.sleep(next(pauses, AGAIN_SECONDS[-1]))


def _put(worker: Worker, claim: Claim, picture: MadeImage) -> ResultFile:
    key = f"results/{claim.task_id}/{claim.charge}-{claim.lease}-{picture.n}{picture.path.suffix}"
    with picture.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        worker.files.put(key, file)
    return ResultFile(picture.n, key, digest, picture.width, picture.height)
