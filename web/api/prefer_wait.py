"""`Prefer: wait=N` (RFC 7240): a caller that waits for the end instead of polling.

A wait holds no database connection: the tailer reports the task's end, as to every stream.  A preference that can't be
met is no error: it is ignored, and the answer has no `Preference-Applied`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiohttp import web

from supervisor.core.lifecycle import FINAL
from supervisor.store.tasks import user_actions
from web.feed.hub import Closing
from web.handling.context import Context

WAITS = range(1, 61)  # seconds
MOST_WAITERS = 256  # of this process; further ones are answered at once

View = dict[str, Any]


def wait_of(request: web.Request) -> int | None:
    """The seconds of `wait`; None without a valid one.  The first counts."""
    text = asked_wait(request) or ""
    if text.isascii() and text.isdigit() and len(text) <= 2 and int(text) in WAITS:
        return int(text)
    return None


def asked_wait(request: web.Request) -> str | None:
    """The value of the first `wait`; "" if it has none; None if the header has no `wait`."""
    for header in request.headers.getall("Prefer", []):
        for preference in header.split(","):
            name, _, value = preference.partition(";")[0].partition("=")
            if name.strip().lower() == "wait":
                return value.strip().strip('"')
    return None


async def task_after(
    context: Context, view: View, seconds: float, most_waiters: int | None = None
) -> tuple[View, bool]:
    """The task when it has ended or the time is over, and whether there was room to wait.

    most_waiters: of this process; None means MOST_WAITERS.
    """
    if view["status"] in FINAL:
        return view, True
    if context.hub.waiter_count >= (MOST_WAITERS if most_waiters is None else most_waiters):
        return view, False
    try:
        with (
            context.hub.end_of(view["task_id"], view["user_openid"]) as ended,
            contextlib.suppress(TimeoutError),
        ):
            async with asyncio.timeout(seconds):
                while True:
                    view = await _now(context, view)  # after the subscription, so that no end is missed
                    if view["status"] in FINAL:
                        return view, True
                    if context.hub.is_closing:
                        return view, False
                    await ended.wait()
                    ended.clear()
    except Closing:
        return view, False
    return await _now(context, view), True


async def _now(context: Context, view: View) -> View:
    found = await context.database.read_async(lambda tx: user_actions.get(tx, view["task_id"]))
    return view if found is None else found
