"""Work that is finished though its caller has left: a handler is cancelled with its connection, its work is not.

How such work ends is told to nobody.  What could have been an answer, as that a task is not there, needs no word
either; a failure that nobody foresaw is for the log, as any other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, TypeVar

from web.http.problems import problem_of

T = TypeVar("T")

log = logging.getLogger("darkroom.web")


async def finished(work: Awaitable[T]) -> T:
    """What the work returns.  A caller who leaves does not stop it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.add_done_callback(note_end)
        raise
    return task.result()


async def finished_first(work: Awaitable[T]) -> T:
    """The same, but a caller who leaves is held until the work has ended: it uses what they have opened."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        await asyncio.wait([task])
        note_end(task)
        raise
    return task.result()


def note_end(task: asyncio.Future[Any]) -> None:
    """Look at how it ended, in place of the caller who has left."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, Exception) and problem_of(error) is None:
        log.error("what a caller had asked for failed after they had left", exc_info=error)
