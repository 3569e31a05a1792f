"""The minute sweep as an actor: periodiq sends it each minute, perhaps from several hosts."""

from __future__ import annotations

import asyncio

import dramatiq
import structlog
from periodiq import cron

from actors.broker.broker import CONTROL_QUEUE
from supervisor.core.errors import Fault, as_sentence
from supervisor.database.interface.errors import DatabaseError

log = structlog.get_logger(__name__)


@dramatiq.actor(queue_name=CONTROL_QUEUE, periodic=cron("* * * * *"), time_limit=50_000)
async def sweep() -> None:
    """One run, unless this minute has had one.  If the database interrupts it, the next minute goes on."""
    # Not at the top: a scheduler imports this file, and runs nothing.
    from actors.worker.worker import current_worker
    from supervisor.services.sweep import sweep_this_minute

    worker = current_worker()
    try:
        counts = await asyncio.to_thread(
            sweep_this_minute, worker.database, worker.settings, worker.files, worker.refusals
        )
    except (Fault, DatabaseError) as error:
        log.error("sweep_broke_off", reason=as_sentence(error))
        return
    if counts is not None:
        log.info("swept", **counts)
