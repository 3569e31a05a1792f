"""GET /v1/ops/dead-letters: tasks, orders and webhooks that were given up."""

from __future__ import annotations

from aiohttp import web

from supervisor.store.operators import dead_letters
from web.handling.context import context_of
from web.handling.responses import json_answer
from web.operators.authorisation import viewer_of


async def show_dead_letters(request: web.Request) -> web.Response:
    """200 with failed tasks by reason, refused orders of Dramatiq producers, and webhooks that were given up."""
    viewer_of(request)
    context = context_of(request)
    return json_answer(await context.read(request, lambda tx: dead_letters.read(tx, context.settings)))
