"""The sweep's work: rescue what nobody noticed, prune what has aged; in batches until nothing is left.

Idempotent: every rescue is a compare-and-set, so two sweeps at once do no harm.  The run's row makes one run of a
minute's many ticks, and is taken over from a sweeper that died.  Rescue comes first and takes as long as it needs;
pruning rests between its batches and stops when its time is used up, to go on in the next minute.  Blocks; call it
from a thread.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import structlog

from config.settings import Settings
from supervisor.database import Database, Transaction
from supervisor.file_sweeping import delete_doomed, doom_orphans
from supervisor.files import FileStore, StoreAway
from supervisor.pace import Pace
from supervisor.store import (
    audit,
    changes,
    history,
    idempotency,
    remote_cancels,
    remote_jobs,
    remote_reports,
    rescuing,
    retention,
    sweeps,
    task_counts,
    webhooks,
    workers,
)

PRUNE_BATCH = 1000
FORGET_BATCH = 25  # tasks and uploads, each of which is several rows and triggers
FORGET_WORKERS_SECONDS = 86_400
FORGET_SWEEPS_SECONDS = 7 * 86_400
DAY_SECONDS = 86_400.0

# Of rows, then of files: together well below the minute, and below the actor's time limit.
ROWS_SECONDS = 15.0
FILES_SECONDS = 15.0

Counts = dict[str, int]
Step = Callable[[Transaction], int]

log = structlog.get_logger(__name__)


def sweep_this_minute(database: Database, settings: Settings, files: FileStore) -> Counts | None:
    """This minute's run; None when somebody else has it."""
    minute = database.write(sweeps.begin).result()
    if minute is None:
        return None
    counts = sweep(database, settings, files)
    database.write(lambda tx: sweeps.end(tx, minute, counts)).result()
    return counts


def sweep_now(database: Database, settings: Settings, files: FileStore) -> Counts:
    """A run by hand, whatever the minute has had."""
    counts = sweep(database, settings, files)
    database.write(lambda tx: sweeps.record_by_hand(tx, counts)).result()
    return counts


def sweep(database: Database, settings: Settings, files: FileStore) -> Counts:
    """Rescue and prune; how much of each."""
    return {
        **_rescue(database, settings),
        **_prune_rows(database, settings, Pace(ROWS_SECONDS)),
        **_prune_files(database, settings, files, Pace(FILES_SECONDS)),
    }


def _rescue(database: Database, settings: Settings) -> Counts:
    counts = {"retried": 0, "released": 0, "failed": 0}
    again = settings.providers_that_may_bill_twice
    while rescued := database.write(
        lambda tx: rescuing.rescue(tx, draw=random.random, may_bill_twice=again)
    ).result():
        for each in rescued:
            counts[each.action] += 1
    database.write(remote_jobs.close_stale).result()
    database.write(remote_cancels.give_up_cancels).result()
    return counts


def _prune_rows(database: Database, settings: Settings, pace: Pace) -> Counts:
    feed_seconds = settings.feed_retention_seconds

    def batches(step: Step) -> int:
        return pace.repeat(lambda: database.write(step).result())

    counts = {
        "changes_pruned": batches(lambda tx: changes.prune(tx, feed_seconds, PRUNE_BATCH)),
        "keys_pruned": batches(lambda tx: idempotency.prune(tx, PRUNE_BATCH)),
        "reports_pruned": batches(lambda tx: remote_reports.prune(tx, PRUNE_BATCH)),
        "webhooks_pruned": batches(lambda tx: webhooks.prune(tx, PRUNE_BATCH)),
        "events_pruned": _prune(history.prune, settings.retention.event_days, batches),
        "remote_jobs_pruned": _prune(remote_jobs.prune, settings.retention.remote_job_days, batches),
        "audit_pruned": _prune(audit.prune, settings.retention.audit_days, batches),
        "tasks_forgotten": _forget_tasks(database, settings.retention.task_days * DAY_SECONDS, batches),
        "uploads_forgotten": _forget_uploads(database, settings.retention.upload_days * DAY_SECONDS, pace),
    }
    database.write(lambda tx: workers.forget_old(tx, FORGET_WORKERS_SECONDS)).result()
    database.write(lambda tx: sweeps.forget_old(tx, FORGET_SWEEPS_SECONDS)).result()
    database.write(task_counts.forget_empty).result()
    return counts


def _prune(
    prune: Callable[[Transaction, float, int], int], days: float, batches: Callable[[Step], int]
) -> int:
    if not days:
        return 0
    return batches(lambda tx: prune(tx, days * DAY_SECONDS, PRUNE_BATCH))


def _forget_tasks(database: Database, after_seconds: float, batches: Callable[[Step], int]) -> int:
    """Type by type: the index of finished tasks begins with it."""
    if not after_seconds:
        return 0

    def oldest_of(type_: str) -> Step:
        return lambda tx: retention.forget_finished_tasks(tx, type_, after_seconds, FORGET_BATCH)

    return sum(batches(oldest_of(type_)) for type_ in database.read(retention.types_of_finished_tasks))


def _forget_uploads(database: Database, after_seconds: float, pace: Pace) -> int:
    if not after_seconds:
        return 0
    forgotten = 0

    def expire() -> int:
        return database.write(lambda tx: retention.expire_uploads(tx, after_seconds, FORGET_BATCH)).result()

    def forget() -> int:
        nonlocal forgotten
        looked = database.write(lambda tx: retention.forget_expired_uploads(tx, FORGET_BATCH)).result()
        forgotten += looked.forgotten
        return looked.at

    pace.repeat(expire)
    pace.repeat(forget)
    return forgotten


def _prune_files(database: Database, settings: Settings, files: FileStore, pace: Pace) -> Counts:
    """What the file store owes to the rows; a store that is away is asked again in a minute."""
    counts = {"orphans_found": 0, "files_deleted": 0}
    try:
        counts["orphans_found"] = doom_orphans(database, settings, files, pace)
        counts["files_deleted"] = delete_doomed(database, files, pace)
    except (StoreAway, OSError) as fault:
        log.warning("files_not_swept", reason=str(fault))
    return counts
