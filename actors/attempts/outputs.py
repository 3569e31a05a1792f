"""Finished pictures become durable before any row says that they exist, so the next attempt finds them or nothing.

They are paid for.  While the store can't be used, or has no room, they wait in the scratch folder and are stored again
(`actors.attempts.wait_for_space`).  Nothing waits for a thumbnail: one that can't be stored at once is left out.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import structlog

from supervisor.store.tasks.results import ResultFile

if TYPE_CHECKING:
    from actors.attempts.wait_for_space import Room
    from actors.providers.base import Done, MadeImage, MadeThumbnail
    from actors.worker.worker import Worker
    from supervisor.core.claim import Claim


log = structlog.get_logger(__name__)


async def store_pictures(worker: Worker, claim: Claim, done: Done, room: Room) -> list[ResultFile]:
    """The pictures as objects in the store.  Their keys hold the lease, so nobody overwrites another's."""
    return [
        await room.when_stored(lambda picture=picture: asyncio.to_thread(_put, worker, claim, picture))  # type: ignore[misc]
        for picture in done.images
    ]


def _put(worker: Worker, claim: Claim, picture: MadeImage) -> ResultFile:
    stem = f"results/{claim.task_id}/{claim.charge}-{claim.lease}-{picture.n}"
    key = f"{stem}{picture.path.suffix}"
    with picture.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        worker.files.put(key, file)
    thumbnail = _put_thumbnail(worker, claim, f"{stem}-thumbnail.webp", picture.thumbnail)
    return ResultFile(picture.n, key, digest, picture.width, picture.height, thumbnail)


def _put_thumbnail(
    worker: Worker, claim: Claim, key: str, thumbnail: MadeThumbnail | None
) -> dict[str, Any] | None:
    """{"key", "width", "height"} of a thumbnail that is durable; None when there is none, or it can't be stored."""
    if thumbnail is None:
        return None
    try:
        with thumbnail.path.open("rb") as file:
            worker.files.put(key, file)
    except Exception as fault:  # noqa: BLE001  the picture was paid for, and is stored already
        log.warning("thumbnail_not_stored", task=claim.task_id, reason=str(fault))
        return None
    return {"key": key, "width": thumbnail.width, "height": thumbnail.height}
