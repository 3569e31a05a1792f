"""/v1/types: the task types, with the data that a customer needs."""

from __future__ import annotations

from aiohttp import web

from supervisor.core.shown_types import shown_types
from web.handling.context import context_of
from web.handling.responses import json_answer


async def list_types(request: web.Request) -> web.Response:
    """200 with every type, in the order in which they are declared."""
    return json_answer({"items": shown_types(context_of(request).settings)})
