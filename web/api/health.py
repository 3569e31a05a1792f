"""/healthz, /readyz: whether the process is alive, and whether it accepts requests."""

from __future__ import annotations

import asyncio

from aiohttp import web

from supervisor.core.errors import SettingFault
from supervisor.schema.migrate import check_version
from supervisor.store.queue import liveness
from web.handling.context import context_of
from web.handling.responses import json_answer
from web.http.problems import unavailable

CHECK_SECONDS = 3.0


async def healthz(_: web.Request) -> web.Response:
    """200 while the event loop runs."""
    return json_answer({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """200 if the database is migrated and readable and the process does not drain; else 503.

    An absent broker, dispatcher or worker changes nothing: tasks are still accepted, and wait.  `works` says whether
    they would be started.
    """
    context = context_of(request)
    if context.is_draining:
        raise unavailable("This process is draining.", kind="draining")
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            # A newer schema is fine: otherwise all web processes would be unready during an upgrade, before their
            # successors start.
            await asyncio.to_thread(check_version, context.database, context.settings, runs_already=True)
            alive = await context.database.read_async(
                lambda tx: liveness.read(tx, context.settings.silent_seconds)
            )
    except SettingFault as fault:
        raise unavailable(str(fault), kind="not_migrated") from None
    except TimeoutError:
        raise unavailable("The database does not answer.") from None
    return json_answer({"status": "ready", "works": alive.works})
