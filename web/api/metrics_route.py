"""GET /metrics: all metrics; nothing about users."""

from __future__ import annotations

import asyncio

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from web.handling.context import context_of


async def show_metrics(request: web.Request) -> web.Response:
    """200 with the text format; made in a thread, since it reads the database."""
    body = await asyncio.to_thread(context_of(request).exposition)
    return web.Response(
        body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store"}
    )
