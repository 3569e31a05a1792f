"""The minute sweep: the safety net under everything else.

It rescues what nobody noticed, prunes what has aged, and records each run.  Idempotent: every rescue is a
compare-and-set, so two sweeps at once do no harm; the run's row makes one of many ticks all the same.
"""

from __future__ import annotations

import random
from typing import Any

import dramatiq
import structlog
from periodiq import cron

from actors.broker import CONTROL_QUEUE
from actors.worker import current_worker
from config.settings import Settings
from supervisor.database import Database
from supervisor.store import changes, rescuing, sweeps, workers

log = structlog.get_logger(__name__)

PRUNE_BATCH = 1000
FORGET_WORKERS_SECONDS = 86_400
FORGET_SWEEPS_SECONDS = 7 * 86_400


@dramatiq.actor(queue_name=CONTROL_QUEUE, periodic=cron("* * * * *"), time_limit=50_000)
async def sweep() -> None:
    """One run, unless this minute has had its run."""
    worker = current_worker()
    minute = await worker.database.write_async(sweeps.begin)
    if minute is None:
        return
    counts = await sweep_once(worker.database, worker.settings)
    await worker.database.write_async(lambda tx: sweeps.end(tx, minute, counts))
    log.info("swept", minute=minute, **counts)


async def sweep_once(database: Database, settings: Settings) -> dict[str, Any]:
    """Rescue and prune in batches until nothing is left; how much of each."""
    counts = {"rescued": 0, "failed": 0, "changes_pruned": 0}
    while done := await database.write_async(lambda tx: rescuing.rescue(tx, draw=random.random)):
        counts["rescued"] += sum(each.action != "failed" for each in done)
        counts["failed"] += sum(each.action == "failed" for each in done)
    retention = settings.feed_retention_seconds
    while pruned := await database.write_async(lambda tx: changes.prune(tx, retention, PRUNE_BATCH)):
        counts["changes_pruned"] += pruned
    await database.write_async(lambda tx: workers.forget_old(tx, FORGET_WORKERS_SECONDS))
    await database.write_async(lambda tx: sweeps.forget_old(tx, FORGET_SWEEPS_SECONDS))
    return counts
