"""GET /v1/ops/history: the last week."""

from __future__ import annotations

from aiohttp import web

from supervisor.store.operators import week_history
from web.handling.context import context_of
from web.handling.responses import json_answer
from web.http.problems import unprocessable
from web.operators.authorisation import viewer_of


async def show_history(request: web.Request) -> web.Response:
    """200 with the last hours, a week at most: queue, waits, ends, spending, and marks of deploys."""
    viewer_of(request)
    hours = _hours(request)
    return json_answer(await context_of(request).read(request, lambda tx: week_history.read(tx, hours)))


def _hours(request: web.Request) -> int:
    text = request.query.get("hours", str(week_history.KEPT_HOURS))
    if text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= week_history.KEPT_HOURS:
        return int(text)
    raise unprocessable("/hours", f"hours must be a whole number from 1 to {week_history.KEPT_HOURS}.")
