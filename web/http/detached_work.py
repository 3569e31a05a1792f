"""Work that is finished although its caller has disconnected: the handler is cancelled with its connection, but its
work is not.

The result of such work is dropped.  An error that would have been a normal answer, such as a missing task, is dropped
too; an unexpected failure is logged.
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
    """The result of the work.  A caller that disconnects does not stop it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.add_done_callback(note_end)
        raise
    return task.result()


async def finished_first(work: Awaitable[T]) -> T:
    """The same, but the handler of a disconnected caller waits for the work's end, because the work uses the handler's
    resources."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        await asyncio.wait([task])
        note_end(task)
        raise
    return task.result()


def note_end(task: asyncio.Future[Any]) -> None:
    """Handle the end of the work in place of the caller."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, Exception) and problem_of(error) is None:
        log.error("what a caller had asked for failed after they had left", exc_info=error)
