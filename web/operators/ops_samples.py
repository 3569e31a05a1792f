"""The last hour in a few numbers, sampled by this process: charts that need no Prometheus.

The samples are in memory: a restart begins anew, and each web process has its own.  Ended tasks are given as the
increase since the previous sample.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from supervisor.store.operators import overview
from web.handling.context import CONTEXT

EVERY_SECONDS = 15.0
KEPT = 240  # an hour

Sample = dict[str, Any]
SAMPLES: web.AppKey[collections.deque[Sample]] = web.AppKey("SAMPLES", collections.deque)

log = logging.getLogger("darkroom.web")


async def keep_samples(app: web.Application) -> AsyncIterator[None]:
    """Sample for as long as the application runs."""
    app[SAMPLES] = collections.deque(maxlen=KEPT)
    sampling = asyncio.create_task(_sample_for_ever(app), name="samples")
    yield
    sampling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sampling


async def _sample_for_ever(app: web.Application) -> None:
    before: dict[str, float] | None = None
    while True:
        try:
            now = await app[CONTEXT].database.read_async(overview.sample)
            app[SAMPLES].append(difference(now, before))
            before = now
        except Exception as error:  # noqa: BLE001 - whatever ails the database, the charts have a gap, no more
            log.warning("no sample was taken: %s", error)
        await asyncio.sleep(EVERY_SECONDS)


def difference(now: dict[str, Any], before: dict[str, Any] | None) -> Sample:
    """The shown form of a sample.  before: the previous reading."""
    ended = {name: max(0.0, now[name] - before[name]) if before else 0.0 for name in ("completed", "failed")}
    return {**now, **ended}
