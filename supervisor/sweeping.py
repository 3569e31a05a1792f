"""The sweep's work: rescue what nobody noticed, prune what has aged; in batches until nothing is left.

Idempotent: every rescue is a compare-and-set, so two sweeps at once do no harm.  The run's row makes one run of a
minute's many ticks, and is taken over from a sweeper that died.  Blocks; call it from a thread.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from config.settings import Settings
from supervisor.database import Database, Transaction
from supervisor.store import changes, idempotency, remote_jobs, rescuing, sweeps, workers

PRUNE_BATCH = 1000
FORGET_WORKERS_SECONDS = 86_400
FORGET_SWEEPS_SECONDS = 7 * 86_400

Counts = dict[str, int]


def sweep_this_minute(database: Database, settings: Settings) -> Counts | None:
    """This minute's run; None when somebody else has it."""
    minute = database.write(sweeps.begin).result()
    return None if minute is None else _recorded(database, settings, minute)


def sweep_now(database: Database, settings: Settings) -> Counts:
    """A run by hand, whatever the minute has had."""
    counts = sweep(database, settings)
    database.write(lambda tx: sweeps.record_by_hand(tx, counts)).result()
    return counts


def sweep(database: Database, settings: Settings) -> Counts:
    """Rescue and prune; how much of each."""
    counts = {"retried": 0, "released": 0, "failed": 0, "changes_pruned": 0, "keys_pruned": 0}
    again = settings.providers_that_may_bill_twice
    while rescued := database.write(
        lambda tx: rescuing.rescue(tx, draw=random.random, may_bill_twice=again)
    ).result():
        for each in rescued:
            counts[each.action] += 1
    database.write(remote_jobs.close_stale).result()
    retention = settings.feed_retention_seconds
    counts["changes_pruned"] = _until_nothing(database, lambda tx: changes.prune(tx, retention, PRUNE_BATCH))
    counts["keys_pruned"] = _until_nothing(database, lambda tx: idempotency.prune(tx, PRUNE_BATCH))
    database.write(lambda tx: workers.forget_old(tx, FORGET_WORKERS_SECONDS)).result()
    database.write(lambda tx: sweeps.forget_old(tx, FORGET_SWEEPS_SECONDS)).result()
    return counts


def _recorded(database: Database, settings: Settings, minute: str) -> Counts:
    counts = sweep(database, settings)
    database.write(lambda tx: sweeps.end(tx, minute, counts)).result()
    return counts


def _until_nothing(database: Database, step: Callable[[Transaction], int]) -> int:
    """Repeat a batch, each in a transaction of its own, so that nobody waits long for the writer's lock."""
    total = 0
    while done := database.write(step).result():
        total += done
    return total
