"""GET /v1/ops/costs: what AI services said they cost, beside the credits that were taken."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from supervisor.database.interface.database import Transaction
from supervisor.store.ledger import provider_costs
from web.handling.context import context_of
from web.handling.request_bodies import time_of
from web.handling.responses import json_answer
from web.operators.authorisation import viewer_of


async def show_costs(request: web.Request) -> web.Response:
    """200 with the costs and credits since a time; this month's without one."""
    viewer_of(request)
    since = time_of(request, "since")

    def read(tx: Transaction) -> dict[str, Any]:
        return provider_costs.told_since(tx, since or provider_costs.month_of(tx))

    return json_answer(await context_of(request).read(request, read))
