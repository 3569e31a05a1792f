"""The sweep: rescue stuck tasks and delete old rows, in batches until nothing is left.

It is idempotent: every rescue is a compare-and-set, so two sweeps at once do no harm.  The row of a run ensures one run
a minute, and is taken over if its process died.  Rescue comes first and takes as long as it needs.  Deletion rests
between its batches and stops when its time is used up; the next minute goes on.  Blocks; call it in a thread.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from config.settings import Settings
from supervisor.core.errors import RowsLocked
from supervisor.core.throttle import Throttle
from supervisor.database.interface.database import Database, Transaction
from supervisor.database.interface.errors import DatabaseError
from supervisor.database.open_life_lock import lives_on
from supervisor.objects.object_store import FileStore, StoreAway
from supervisor.processes.program_digest import program_digest
from supervisor.services.file_sweep import delete_doomed, doom_orphans
from supervisor.services.undelivered_claims import empty_lists_of_the_dead
from supervisor.store.counters import open_task_counts
from supervisor.store.feed import changes
from supervisor.store.limits import notices, revocations
from supervisor.store.operators import attempt_logs, audit, bulk_actions, dead_letters, week_history
from supervisor.store.queue import leader, workers
from supervisor.store.recovery import clock_steps, stuck_tasks, sweep_runs
from supervisor.store.remote import remote_cancels, remote_jobs, remote_reports
from supervisor.store.retention import ageing
from supervisor.store.sql.locks import LOCKED_ROW_SECONDS
from supervisor.store.sql.refused_rows import Refusals
from supervisor.store.sql.row_isolation import Aside, Refused, is_about_a_row, refusal
from supervisor.store.tasks import cut_orders, history, idempotency_keys, unanswered_orders
from supervisor.store.webhooks import deliveries

PRUNE_BATCH = 1000
FORGET_BATCH = 25  # tasks and uploads, each of which is several rows and triggers
FORGET_WORKERS_SECONDS = 86_400
FORGET_SWEEPS_SECONDS = 7 * 86_400
FORGET_BULK_SECONDS = 30 * 86_400
DAY_SECONDS = 86_400.0

# For rows, then for files: together well below a minute, and below the actor's time limit.
ROWS_SECONDS = 15.0
FILES_SECONDS = 15.0

Counts = dict[str, int]
T = TypeVar("T")
CarefulStep = Callable[[Transaction, Aside], T]

log = structlog.get_logger(__name__)


def sweep_this_minute(
    database: Database, settings: Settings, files: FileStore, refusals: Refusals | None = None
) -> Counts | None:
    """This minute's run; None if another process has it."""
    minute = database.write(sweep_runs.begin).result()
    if minute is None:
        return None
    counts = sweep(database, settings, files, refusals)
    program = program_digest()

    def end(tx: Transaction) -> None:
        sweep_runs.end(tx, minute, counts)
        week_history.note(tx, minute, program)

    database.write(end).result()
    return counts


def sweep_now(database: Database, settings: Settings, files: FileStore) -> Counts:
    """A run by hand, even if this minute has had one."""
    counts = sweep(database, settings, files)
    database.write(lambda tx: sweep_runs.record_by_hand(tx, counts)).result()
    return counts


def sweep(
    database: Database, settings: Settings, files: FileStore, refusals: Refusals | None = None
) -> Counts:
    """Rescue and delete; the numbers of each.  refusals: known from earlier runs of this process."""
    care = _Care(database, refusals or Refusals())
    return {
        **_rescue(database, settings, care),
        **_prune_rows(database, settings, care, Throttle(ROWS_SECONDS)),
        **_prune_files(database, settings, files, Throttle(FILES_SECONDS)),
    }


class _Care:
    """Runs steps so that a row which the database refuses is left alone and logged, and stops no other row."""

    def __init__(self, database: Database, refusals: Refusals) -> None:
        self._database, self._refusals = database, refusals

    def run(self, what: str, step: CarefulStep[T]) -> tuple[T, int]:
        """The step's result, and how many rows of this kind were refused: there may be more after them."""
        passing = self._refusals.passing(what, time.monotonic())

        def run(tx: Transaction) -> tuple[T, list[Refused]]:
            aside = Aside(passing)
            return step(tx, aside), aside.refused

        done, refused = self.write(run)
        self._refusals.tell(log, refused, time.monotonic())
        return done, len(refused)

    def write(self, step: Callable[[Transaction], T]) -> T:
        """The step's result.  Raises RowsLocked for a row that another program has locked: the next run finds it."""
        return self._database.write(step, lock_seconds=LOCKED_ROW_SECONDS).result()

    def repeat(self, what: str, throttle: Throttle, step: CarefulStep[int]) -> int:
        """Run batches until nothing is left, or the time is used up; the sum of their results."""
        passed = 0

        def batch() -> int:
            nonlocal passed
            done, refused = self.run(what, step)
            passed += refused
            return done + refused

        return self.kind(what, lambda: throttle.repeat(batch) - passed)

    def kind(self, what: str, work: Callable[[], int]) -> int:
        """The result of the work.  If it is refused as a whole and no row can be named, the other work goes on."""
        try:
            return work()
        except RowsLocked as locked:
            log.warning("sweep_left_out", kind=what, reason=str(locked))
            return 0
        except DatabaseError as error:
            if not is_about_a_row(error):
                raise
            self._refusals.tell(log, [refusal(what, "one of a batch", error)], time.monotonic())
            return 0


def _rescue(database: Database, settings: Settings, care: _Care) -> Counts:
    counts = {"retried": 0, "released": 0, "failed": 0}
    again = settings.providers_that_may_bill_twice
    providers = {name: type_.all_providers for name, type_ in settings.tasks.items()}

    def step(tx: Transaction, aside: Aside) -> list[stuck_tasks.Rescued]:
        since = leader.well_since(tx)
        return stuck_tasks.rescue(
            tx,
            chance=random.random,
            may_bill_twice=again,
            providers=providers,
            well_since=since,
            aside=aside,
        )

    empty_lists_of_the_dead(database, settings)
    more = True
    while more:
        rescued, refused = care.run("task_queue", step)
        for each in rescued:
            counts[each.action] += 1
        more = bool(rescued or refused)
    care.kind("task_queue", lambda: care.write(clock_steps.set_right))
    care.kind("remote_job", lambda: care.write(remote_jobs.close_stale))
    care.kind("remote_job", lambda: care.write(remote_cancels.give_up_cancels))
    return counts


def _prune_rows(database: Database, settings: Settings, care: _Care, throttle: Throttle) -> Counts:
    keep, feed_seconds = settings.retention, settings.feed_retention_seconds

    def plain(what: str, prune: Callable[[Transaction, int], int]) -> int:
        return care.repeat(what, throttle, lambda tx, aside: prune(tx, PRUNE_BATCH))

    def pruned(what: str, prune: Callable[[Transaction, int, Aside], int]) -> int:
        return care.repeat(what, throttle, lambda tx, aside: prune(tx, PRUNE_BATCH, aside))

    def aged(what: str, prune: Callable[[Transaction, float, int, Aside], int], days: float) -> int:
        if not days:
            return 0
        return care.repeat(
            what, throttle, lambda tx, aside: prune(tx, days * DAY_SECONDS, PRUNE_BATCH, aside)
        )

    counts = {
        "changes_pruned": plain("work_change", lambda tx, most: changes.prune(tx, feed_seconds, most)),
        "keys_pruned": plain("idempotency_key", idempotency_keys.prune),
        "reports_pruned": pruned("remote_report", remote_reports.prune),
        "webhooks_pruned": pruned("webhook_delivery", deliveries.prune),
        "events_pruned": aged("task_event", history.prune, keep.event_days),
        "remote_jobs_pruned": aged("remote_job", remote_jobs.prune, keep.remote_job_days),
        "audit_pruned": aged("audit", audit.prune, keep.audit_days),
        "tasks_forgotten": _forget_tasks(database, keep.task_days * DAY_SECONDS, care, throttle),
        "uploads_forgotten": _forget_uploads(keep.upload_days * DAY_SECONDS, care, throttle),
    }
    database.write(lambda tx: workers.forget_old(tx, FORGET_WORKERS_SECONDS)).result()
    database.write(lambda tx: sweep_runs.forget_old(tx, FORGET_SWEEPS_SECONDS)).result()
    plain("bulk_action", lambda tx, most: bulk_actions.prune(tx, FORGET_BULK_SECONDS, most))
    if keep.event_days:
        log_seconds = keep.event_days * DAY_SECONDS
        plain("attempt_log", lambda tx, most: attempt_logs.prune(tx, log_seconds, most))
    plain("refused_order", dead_letters.prune)
    lives = lives_on(database)
    care.kind("unanswered_order", lambda: care.write(lambda tx: unanswered_orders.note_cuts(tx, lives)))
    plain("cut_order", cut_orders.prune)
    plain("token_revocation", lambda tx, most: revocations.prune(tx, time.time(), most))
    database.write(notices.forget_old).result()
    database.write(open_task_counts.forget_empty).result()
    return counts


def _forget_tasks(database: Database, after_seconds: float, care: _Care, throttle: Throttle) -> int:
    """Type by type, because the index of finished tasks begins with the type."""
    if not after_seconds:
        return 0

    def oldest_of(type_: str) -> CarefulStep[int]:
        return lambda tx, aside: ageing.forget_finished_tasks(tx, type_, after_seconds, FORGET_BATCH, aside)

    types = database.read(ageing.types_of_finished_tasks)
    return sum(care.repeat("task_queue", throttle, oldest_of(type_)) for type_ in types)


def _forget_uploads(after_seconds: float, care: _Care, throttle: Throttle) -> int:
    if not after_seconds:
        return 0
    forgotten: list[int] = []

    def forget() -> int:
        looked, _ = care.run(
            "image", lambda tx, aside: ageing.forget_expired_uploads(tx, FORGET_BATCH, aside)
        )
        forgotten.append(looked.forgotten)
        return looked.at

    care.repeat("image", throttle, lambda tx, _: ageing.expire_uploads(tx, after_seconds, FORGET_BATCH))
    throttle.repeat(forget)
    return sum(forgotten)


def _prune_files(database: Database, settings: Settings, files: FileStore, throttle: Throttle) -> Counts:
    """The work on the file store; if the store is away, the next minute tries again."""
    counts = {"orphans_found": 0, "files_deleted": 0}
    try:
        counts["orphans_found"] = doom_orphans(database, settings, files, throttle)
        counts["files_deleted"] = delete_doomed(database, files, throttle)
    except (StoreAway, OSError) as fault:
        log.warning("files_not_swept", reason=str(fault))
    return counts
