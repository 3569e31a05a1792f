"""GET /v1/ops/webhooks: the messages to users' addresses."""

from __future__ import annotations

from aiohttp import web

from supervisor.store.webhooks import deliveries
from supervisor.store.webhooks.webhook_attempts import without_query
from web.handling.context import context_of
from web.handling.request_bodies import limit_of
from web.handling.responses import json_answer
from web.http.problems import unprocessable
from web.operators.authorisation import viewer_of


async def list_webhooks(request: web.Request) -> web.Response:
    """200 with deliveries, newest first; with `failed=true` those that were given up."""
    viewer_of(request)
    limit, failed = limit_of(request), request.query.get("failed", "false")
    if failed not in ("true", "false"):
        raise unprocessable("/failed", "failed must be true or false.")
    rows = await context_of(request).read(
        request, lambda tx: deliveries.page(tx, failed=failed == "true", limit=limit)
    )
    return json_answer({"items": [{**row, "url": without_query(row["url"])} for row in rows]})
