"""Finished pictures become durable before any row names them, so a named picture always exists.

They are paid for.  While the store is unreachable or full, they wait in the scratch folder and are tried again
(`actors.attempts.wait_for_space`).  Nothing waits for a thumbnail: if it can't be stored at once, it is left out.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from actors.providers.base import ResultLost
from supervisor.media.file_kinds import HEAD_BYTES, UNKNOWN, file_kind
from supervisor.media.file_names import plain_name
from supervisor.media.plain_data import NotKept, plain_data
from supervisor.media.shown_outputs import MOST_DATA_BYTES, MOST_INLINE_BYTES, data_bytes
from supervisor.pictures.media_types import EXTENSIONS, picture_type
from supervisor.store.tasks.results import FILES_OF_A_PICTURE, FIRST_DATA, FIRST_FILE, ResultFile

if TYPE_CHECKING:
    from actors.attempts.wait_for_space import Room
    from actors.providers.base import Done, Job, MadeFile, MadeImage, MadeThumbnail
    from actors.worker.worker import Worker
    from supervisor.core.claim import Claim


MOST_SIDE = 1_000_000  # pixels

log = structlog.get_logger(__name__)


async def store_pictures(
    worker: Worker, claim: Claim, done: Done, room: Room, *, job: Job
) -> list[ResultFile]:
    """Pictures, files and data as objects in the store.  Their keys contain the lease, so no attempt overwrites
    another's files.

    job: the request that made them; where it has made no picture, its files and data came instead.  Raises ResultLost
    for results that were not ordered, and for data that can't be kept."""
    if done.images or done.files:
        await asyncio.to_thread(_refuse_unordered, done, job)
    first = min(job.pictures, default=0)
    of = () if done.images else job.pictures
    data = None if done.data is None else _kept(done.data)
    text = None if data is None else _text_of(data)
    puts: list[Callable[[], ResultFile]] = [partial(_put, worker, claim, picture) for picture in done.images]
    for number, made in enumerate(done.files[:FILES_OF_A_PICTURE]):
        n = FIRST_FILE + FILES_OF_A_PICTURE * first + number
        puts.append(partial(_put_file, worker, claim, n, made, of))
    if text is not None:
        puts.append(partial(_put_data, worker, claim, FIRST_DATA + first, data, text, of))
    return [
        await room.when_stored(lambda put=put: asyncio.to_thread(put))  # type: ignore[misc]
        for put in puts
    ]


def _refuse_unordered(done: Done, job: Job) -> None:
    """Raises ResultLost: a class of a user's own may return anything, and rows and the store believe it."""
    numbers = [picture.n for picture in done.images]
    for picture in done.images:
        if type(picture.n) is not int or picture.n not in job.pictures or numbers.count(picture.n) > 1:
            raise ResultLost(
                f"The AI service has sent a picture {picture.n!r}; one each of {list(job.pictures)} was ordered."
            )
        if not all(type(side) is int and 1 <= side <= MOST_SIDE for side in (picture.width, picture.height)):
            raise ResultLost(
                f"The AI service has sent picture {picture.n} with a size that no picture has: "
                f"{picture.width!r} x {picture.height!r}."
            )
    paths = [picture.path for picture in done.images] + [made.path for made in done.files]
    paths += [picture.thumbnail.path for picture in done.images if picture.thumbnail is not None]
    folder = job.folder.resolve()
    if not all(path.resolve().is_relative_to(folder) for path in paths):
        raise ResultLost("The AI service has named a file outside the folder of its job.")


def _put(worker: Worker, claim: Claim, picture: MadeImage) -> ResultFile:
    stem = f"results/{claim.task_id}/{claim.charge}-{claim.lease}-{picture.n}"
    key = f"{stem}{picture.path.suffix}"
    with picture.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        worker.files.put(key, file)
    thumbnail = _put_thumbnail(worker, claim, f"{stem}-thumbnail.webp", picture.thumbnail)
    return ResultFile(picture.n, key, digest, picture.width, picture.height, thumbnail)


def _kept(data: Any) -> Any:
    """The data in the form that both databases and all readers take.  Raises ResultLost: it may have been paid for,
    and a repeated order would give the same result."""
    try:
        return plain_data(data)
    except NotKept as reason:
        raise ResultLost(f"The data from the AI service can't be kept: it holds {reason}.") from None


def _text_of(data: Any) -> bytes:
    """Its stored form.  Raises ResultLost."""
    text = data_bytes(data)
    if len(text) > MOST_DATA_BYTES:
        raise ResultLost(
            f"The AI service has sent {len(text):,} bytes of data; at most {MOST_DATA_BYTES:,} are kept."
        )
    return text


def _put_file(worker: Worker, claim: Claim, n: int, made: MadeFile, of: tuple[int, ...]) -> ResultFile:
    """In pieces: a film may be larger than memory."""
    with made.path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        size = os.fstat(file.fileno()).st_size
        media_type, extension = _told(head, whole=size <= len(head))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        key = f"results/{claim.task_id}/{claim.charge}-{claim.lease}-{n}.{extension}"
        worker.files.put(key, file)
    shown = {
        "media_type": media_type,
        "bytes": size,
        "name": plain_name(made.name or made.path.name),
    }
    for name in ("width", "height", "duration_seconds"):
        if getattr(made, name) is not None:
            shown[name] = getattr(made, name)
    return ResultFile(n, key, digest, 0, 0, about=_about("file", shown, of))


def _told(head: bytes, *, whole: bool) -> tuple[str, str]:
    """(media type, extension) of a file that begins so."""
    picture = picture_type(head)
    if picture is not None:
        return picture, EXTENSIONS[picture]
    kind = file_kind(head, whole=whole)
    return (UNKNOWN, "bin") if kind is None else (kind.media_type, kind.extension)


def _put_data(
    worker: Worker, claim: Claim, n: int, data: Any, text: bytes, of: tuple[int, ...]
) -> ResultFile:
    """The row holds only small data, because every list and every feed event contains the row."""
    key = f"results/{claim.task_id}/{claim.charge}-{claim.lease}-{n}.json"
    worker.files.put(key, io.BytesIO(text))
    shown = data if len(text) <= MOST_INLINE_BYTES else None
    return ResultFile(n, key, hashlib.sha256(text).hexdigest(), 0, 0, about=_about("data", shown, of))


def _about(kind: str, shown: Any, of: tuple[int, ...]) -> dict[str, Any]:
    """whole: for workers of an older program, which know no `of`."""
    return {kind: shown, "whole": bool(of), "of": list(of)}


def _put_thumbnail(
    worker: Worker, claim: Claim, key: str, thumbnail: MadeThumbnail | None
) -> dict[str, Any] | None:
    """{"key", "width", "height"} of a durable thumbnail; None if there is none, or if it can't be stored."""
    if thumbnail is None:
        return None
    try:
        with thumbnail.path.open("rb") as file:
            worker.files.put(key, file)
    except Exception as fault:  # noqa: BLE001  the picture was paid for, and is stored already
        log.warning("thumbnail_not_stored", task=claim.task_id, reason=str(fault))
        return None
    return {"key": key, "width": thumbnail.width, "height": thumbnail.height}
