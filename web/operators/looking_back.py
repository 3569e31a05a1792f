"""/v1/ops/history and /v1/ops/dead-letters: the last week, and what was given up."""

from __future__ import annotations

from aiohttp import web

from supervisor.store.operators import dead_letters, week_history
from web.handling.context import context_of
from web.handling.responses import json_answer
from web.http.problems import unprocessable
from web.operators.asking import viewer_of


async def show_history(request: web.Request) -> web.Response:
    """200 with the last hours, a week at most: queue, waits, ends, spending, and marks of deploys."""
    viewer_of(request)
    hours = _hours(request)
    return json_answer(await context_of(request).read(request, lambda tx: week_history.read(tx, hours)))


async def show_dead_letters(request: web.Request) -> web.Response:
    """200 with failed tasks by reason, refused orders of Dramatiq producers, and webhooks that were given up."""
    viewer_of(request)
    context = context_of(request)
    return json_answer(await context.read(request, lambda tx: dead_letters.read(tx, context.settings)))


def _hours(request: web.Request) -> int:
    text = request.query.get("hours", str(week_history.KEPT_HOURS))
    if text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= week_history.KEPT_HOURS:
        return int(text)
    raise unprocessable("/hours", f"hours must be a whole number from 1 to {week_history.KEPT_HOURS}.")
