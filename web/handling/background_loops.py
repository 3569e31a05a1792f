"""Loops beside the requests, which no failure ends: it is logged, counted and waited out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from metrics.web_metrics import WebMetrics
from supervisor.core.errors import Fault, as_sentence
from supervisor.database.interface.errors import DatabaseError

AGAIN_SECONDS = 5.0

log = logging.getLogger("darkroom.web")


async def repeat(name: str, turn: Callable[[], Awaitable[object]], metrics: WebMetrics) -> None:
    """Call `turn`, which waits itself for what it is to do, until cancelled.

    name: one of `metrics.web_metrics.LOOPS`, which the log and the metric show."""
    while True:
        try:
            await turn()
            continue
        except (Fault, DatabaseError) as error:
            log.warning("%s wait: %s", name, as_sentence(error))
        except Exception:
            log.exception("%s failed; they go on in %g s", name, AGAIN_SECONDS)
        metrics.loop_failures.labels(name).inc()
        await asyncio.sleep(AGAIN_SECONDS)
