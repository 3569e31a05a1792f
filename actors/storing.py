"""Finished pictures become durable before any row says that they exist, so the next attempt finds them or nothing.

They are paid for.  While the store can't be used, or has no room, they wait in the scratch folder and are stored again
(`actors.waiting_for_room`).
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from supervisor.store.results import ResultFile

if TYPE_CHECKING:
    from actors.providers.base import Done, MadeImage
    from actors.waiting_for_room import Room
    from actors.worker import Worker
    from supervisor.store.claims import Claim


async def store_pictures(worker: Worker, claim: Claim, done: Done, room: Room) -> list[ResultFile]:
    """The pictures as objects in the store.  Their keys hold the lease, so nobody overwrites another's."""
    return [
        await room.when_stored(lambda picture=picture: asyncio.to_thread(_put, worker, claim, picture))  # type: ignore[misc]
        for picture in done.images
    ]


def _put(worker: Worker, claim: Claim, picture: MadeImage) -> ResultFile:
    key = f"results/{claim.task_id}/{claim.charge}-{claim.lease}-{picture.n}{picture.path.suffix}"
    with picture.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        worker.files.put(key, file)
    return ResultFile(picture.n, key, digest, picture.width, picture.height)
