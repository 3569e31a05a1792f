"""GET /v1/works/changes: the feed's changes for clients that can't hold a stream open."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiohttp import web

from supervisor.store.limits.notices import Notice
from web.feed.feed_event import Link, doc_change, snapshot_data
from web.feed.hub import Closing, TooManyStreams
from web.feed.resume import Continuation, Everything, read_opening
from web.handling.context import context_of, user_of
from web.handling.responses import json_answer
from web.http.problems import Problem, unavailable, unprocessable

WAITS = range(26)  # seconds; front ends may wait 30 in all


async def changes(request: web.Request) -> web.Response:
    """200 with the changes after `since`, after waiting up to `wait` seconds for one.

    Without `since` the answer is like `init`; with an unknown or expired one it is like `reset`.
    """
    context, user = context_of(request), user_of(request)
    since, wait = request.query.get("since") or None, _wait_of(request)

    async def read() -> Everything | Continuation:
        return await context.read(request, lambda tx: read_opening(tx, user, since))

    if not wait:
        return _answer(await read(), context.links.link)
    try:
        with context.hub.watcher(user, most=context.settings.limits.streams_per_user) as changed:
            found = await read()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    # What is published late may stand before `since`, so a wake-up may have brought nothing.
                    while _is_nothing(found) and not context.hub.is_closing:
                        await changed.wait()
                        changed.clear()
                        found = await read()
            if _is_nothing(found):
                found = await read()
            return _answer(found, context.links.link)
    except TooManyStreams:
        context.notices.note(Notice.STREAMS, user)
        detail = "You wait for changes in too many places; let one of them end first."
        raise Problem(429, detail, kind="too_many_streams", headers={"Retry-After": "5"}) from None
    except Closing:
        raise unavailable("This process is about to stop.", kind="draining") from None


def _wait_of(request: web.Request) -> int:
    text = request.query.get("wait", "0")
    if text.isascii() and text.isdigit() and len(text) <= 2 and int(text) in WAITS:
        return int(text)
    raise unprocessable("/wait", f"wait must be a whole number of seconds from {WAITS[0]} to {WAITS[-1]}.")


def _is_nothing(found: Everything | Continuation) -> bool:
    return isinstance(found, Continuation) and not found.changes


def _answer(found: Everything | Continuation, link: Link) -> web.Response:
    if isinstance(found, Everything):
        data: dict[str, Any] = snapshot_data(found.kind, found.place.seq, found.snapshot.works, link)
    else:
        data = {"id": found.place.seq, "docChanges": [doc_change(change, link) for change in found.changes]}
    return json_answer({**data, "next": str(found.place)})
