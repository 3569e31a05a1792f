"""Requests that are held until a task has ended, or anything of it has changed.  None holds a database connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from supervisor.core.lifecycle import FINAL
from supervisor.store.tasks import user_actions
from web.api.prefer_wait import task_after
from web.feed.hub import Closing
from web.handling.context import Context, address_of, context_of
from web.handling.repeated_polls import poller_of
from web.http.problems import unavailable

View = dict[str, Any]

MOST_HELD = 2048  # by one process; each holds a connection and a few kilobytes
STEP_SECONDS = 15.0  # of an idle stream, so that no proxy on the way closes it
POLL_SECONDS = 3.0  # a question for the status waits so long for news,
# or so long when an SDK asks again at once, up to ten times a second; one gives up after 30
LOOP_SECONDS = 20.0


class Draining(ConnectionResetError):
    """The process is about to stop: the connection is given up, and the SDK's repeat takes the order over elsewhere."""


class TooLate(ConnectionResetError):
    """A task has failed after its answer had begun as a success: the connection is given up, for the same reason."""


def check_room(context: Context) -> None:
    """Whether one more may wait here.  Raises a Problem, 503: before anything is stored."""
    if context.hub.is_closing or context.hub.waiter_count >= MOST_HELD:
        raise unavailable("Too many requests wait for their pictures here; try again in a moment.")


async def ended(context: Context, view: View, seconds: float) -> View:
    """The task once it has ended, or after so long.  Raises Draining."""
    view, _ = await task_after(context, view, seconds, MOST_HELD)
    if view["status"] not in FINAL and context.hub.is_closing:
        raise Draining
    return view


async def news(
    request: web.Request, task_id: str, user: str, read: Callable[[], Awaitable[View | None]]
) -> View | None:
    """The task as it is once anything of it changes; at once if it has ended, or has changed since this poller was
    answered last.

    After POLL_SECONDS at the latest, or LOOP_SECONDS if that answer was given a moment ago.
    """
    context = context_of(request)
    poller = poller_of(address_of(request), request.headers.get("User-Agent", ""))
    told = context.repeated_polls.last_answer(task_id, poller)
    view = await _news(context, task_id, user, read, told)
    if view is not None:
        context.repeated_polls.note(task_id, poller, _state(view))
    return view


async def _news(
    context: Context, task_id: str, user: str, read: Callable[[], Awaitable[View | None]], told: Any
) -> View | None:
    if context.hub.waiter_count >= MOST_HELD:
        return await read()
    try:
        with context.hub.changes_of(task_id, user) as changed:
            known = await read()
            if known is None or known["status"] in FINAL or told not in (None, _state(known)):
                return known
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS if told is None else LOOP_SECONDS):
                    while not context.hub.is_closing:
                        await changed.wait()
                        changed.clear()
                        view = await read()
                        if view is None or _state(view) != _state(known):
                            return view  # else it was a change that had been seen, and is published late
            if not changed.is_set() and not context.hub.is_closing:
                return known  # nothing has changed: reading it again would cost as much as all the rest
    except Closing:
        pass
    return await read()


def _state(view: View) -> tuple[Any, ...]:
    return tuple(view[member] for member in _NEWS)


_NEWS = ("status", "stage", "progress")


async def sent(request: web.Request, response: web.Response) -> web.Response:
    """The answer, fully written."""
    await response.prepare(request)
    await response.write_eof()
    return response


async def steps(context: Context, view: View) -> AsyncIterator[View]:
    """The task at each change that its user can see, and at least every STEP_SECONDS; the last time when it has ended.

    Raises Draining.
    """
    task_id, user = view["task_id"], view["user_openid"]
    try:
        with context.hub.changes_of(task_id, user) as changed:
            while True:
                found = await context.database.read_async(lambda tx: user_actions.get(tx, task_id))
                view = view if found is None else found
                yield view
                if view["status"] in FINAL:
                    return
                if context.hub.is_closing:
                    raise Draining
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STEP_SECONDS):
                        await changed.wait()
                changed.clear()
    except Closing:
        raise Draining from None
