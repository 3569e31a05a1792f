"""/v1/ops/bulk: actions on many tasks.  What one would concern is shown first; a thread does its parts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from supervisor.core.errors import BulkNotFound
from supervisor.selection.task_filter import Action, BadFilter, TaskFilter, read_action, read_filter
from supervisor.services.bulk_action_runner import run_all
from supervisor.store.operators import bulk_actions
from web.handling.background_loops import repeat
from web.handling.context import CONTEXT, context_of
from web.handling.path_names import id_in_path
from web.handling.request_bodies import judge_json, members_of
from web.handling.responses import json_answer
from web.http.problems import Problem, unprocessable
from web.operators.action_requests import write
from web.operators.authorisation import operator_of, viewer_of

LOOK_EVERY_SECONDS = 5.0  # for an action whose runner has died, or that the command line has begun
MOST_EXPECTED = 1_000_000_000

log = logging.getLogger("darkroom.web")

WOKEN = web.AppKey("WOKEN", asyncio.Event)


async def preview(request: web.Request) -> web.Response:
    """200 with what an action would concern: how many tasks, which credits, and a sample.  Changes nothing."""
    viewer_of(request)
    action, wanted, _ = await judge_json(request, lambda body: _asked(body, ("action", "filter")))
    return json_answer(await _preview(request, action, wanted))


async def start(request: web.Request) -> web.Response:
    """202 with the action, which begins at once; 409 if more tasks match than were expected."""
    operator = operator_of(request)
    action, wanted, expected = await judge_json(
        request, lambda body: _asked(body, ("action", "filter", "expected"))
    )
    seen = await _preview(request, action, wanted)
    if seen["count"] > expected:
        detail = (
            f"{seen['count']} tasks match by now, and {expected} were expected; look at the preview again."
        )
        raise Problem(409, detail, kind="more_than_expected")
    begun = await write(request, lambda tx: bulk_actions.start(tx, operator, action, seen))
    request.app[WOKEN].set()
    return json_answer(begun, status=202)


async def list_actions(request: web.Request) -> web.Response:
    """200 with the newest actions."""
    viewer_of(request)
    return json_answer({"items": await context_of(request).read(request, bulk_actions.newest)})


async def show(request: web.Request) -> web.Response:
    """200 with an action and how far it has come."""
    viewer_of(request)
    bulk_id = id_in_path(request, "bulk_id", BulkNotFound)
    return json_answer(await context_of(request).read(request, lambda tx: bulk_actions.get(tx, bulk_id)))


async def stop(request: web.Request) -> web.Response:
    """202 with the action, which does nothing more after the part that is being done."""
    operator, bulk_id = operator_of(request), id_in_path(request, "bulk_id", BulkNotFound)
    return json_answer(await write(request, lambda tx: bulk_actions.stop(tx, operator, bulk_id)), status=202)


async def resume(request: web.Request) -> web.Response:
    """202 with the action, which goes on where it was stopped."""
    operator, bulk_id = operator_of(request), id_in_path(request, "bulk_id", BulkNotFound)
    goes_on = await write(request, lambda tx: bulk_actions.resume(tx, operator, bulk_id))
    request.app[WOKEN].set()
    return json_answer(goes_on, status=202)


async def run_bulk_actions(app: web.Application) -> AsyncIterator[None]:
    """Do the parts of all actions for as long as the application runs; what is cut off goes on after the next start."""
    app[WOKEN], stopping = asyncio.Event(), threading.Event()
    metrics = app[CONTEXT].metrics
    running = asyncio.create_task(
        repeat("bulk", lambda: _run_once(app, stopping), metrics), name="bulk actions"
    )
    yield
    stopping.set()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _run_once(app: web.Application, stopping: threading.Event) -> None:
    """Do what is to be done, then wait until there may be more."""
    context, woken = app[CONTEXT], app[WOKEN]
    woken.clear()

    def failed(bulk_id: str, error: Exception) -> None:
        log.error("the action %s on many tasks could not go on", bulk_id, exc_info=error)
        context.metrics.loop_failures.labels("bulk").inc()

    await asyncio.to_thread(run_all, context.database, context.settings, stopping, failed)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(woken.wait(), LOOK_EVERY_SECONDS)


def _asked(body: Any, members: tuple[str, ...]) -> tuple[Action, TaskFilter, int]:
    """(action, filter, expected).  Raises a Problem, 422."""
    given, wrong = members_of(body, members)
    if wrong:
        raise Problem(422, "The action can't be understood.", kind="bad_params", errors=wrong)
    words, expected = given.get("filter", {}), given.get("expected", 0)
    if not isinstance(words, dict):
        raise unprocessable("/filter", "filter must be an object.")
    is_number = isinstance(expected, int) and not isinstance(expected, bool)
    if (
        not is_number
        or not 0 <= expected <= MOST_EXPECTED
        or ("expected" in members and "expected" not in given)
    ):
        raise unprocessable("/expected", "expected must be the number of tasks that the preview has shown.")
    try:
        action = read_action(given.get("action"))
        return action, read_filter(words, action), expected
    except BadFilter as bad:
        raise _problem(bad) from None


async def _preview(request: web.Request, action: Action, wanted: TaskFilter) -> dict[str, Any]:
    """What the action would concern.  Raises a Problem, 422."""
    context = context_of(request)
    try:
        return await context.read(
            request, lambda tx: bulk_actions.preview(tx, context.settings, action, wanted)
        )
    except BadFilter as bad:
        raise _problem(bad) from None


def _problem(bad: BadFilter) -> Problem:
    pointer = "/action" if bad.member == "action" else f"/filter/{bad.member}".rstrip("/")
    return unprocessable(pointer, str(bad))
