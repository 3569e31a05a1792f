"""/v1/types: what may be ordered here, as far as that concerns whoever orders."""

from __future__ import annotations

from aiohttp import web

from supervisor.core.shown_types import shown_types
from web.handling.context import context_of
from web.handling.responses import json_answer


async def list_types(request: web.Request) -> web.Response:
    """200 with every type, in the order in which they are declared."""
    return json_answer({"items": shown_types(context_of(request).settings)})
