"""Rescue: which tasks are stuck, and what happens to each.

One SQL query selects stuck tasks and their reasons; the dispatcher's tick, the minute sweep and the stuck metric all
use it.  The metric counts all tasks past their time; the sweep rescues those that may be judged already.
`supervisor.core.rescue` gives the verdict from the locked row.  It is applied by compare-and-set on the values that it
was made from, so two rescuers, or a late worker, do no harm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Set
from types import MappingProxyType

from supervisor.core.errors import LeaseLost
from supervisor.core.rescue import (
    Budget,
    GiveUp,
    PollAgain,
    Reason,
    RunAgain,
    Verdict,
    after_deadline,
    after_death,
    after_unanswered,
)
from supervisor.database.interface.database import Row, Transaction
from supervisor.schema.tables import HELD, OPEN
from supervisor.store.counters import counters
from supervisor.store.queue.leader import EVER
from supervisor.store.recovery import expiry
from supervisor.store.remote import remote_jobs
from supervisor.store.sql.conditions import listed
from supervisor.store.sql.locks import rows_of_free_accounts
from supervisor.store.sql.row_isolation import Aside, apart, id_of
from supervisor.store.tasks import claims, remote_wait
from supervisor.store.tasks.ending import end_task
from supervisor.store.tasks.remote_wait import QUESTIONS, QUESTIONS_SECONDS

BATCH = 200
UNDELIVERED_SECONDS = 10.0  # after this time, a live worker should have begun its claim
RESUMED_SECONDS = 600.0  # the time for attempts to go on with a remote job before its task expires

_HAS_WORKER = """EXISTS (SELECT 1 FROM worker
    WHERE worker.id = worker_id AND worker.state IN ('live','draining'))"""


def _stuck_sql(tx: Transaction) -> str:
    """Stuck rows with their reason; a row with several reasons shows only the gravest one.

    A dead worker is the gravest reason: the task must be taken back before anything else can be decided.
    """
    # With an ORDER BY of users, SQLite with statistics would read all open rows instead.
    held, overdue = tx.by_index("task_queue_held"), tx.by_index("task_queue_overdue")
    return f"""
        SELECT id, lease, 'expired' AS reason FROM task_queue{tx.by_index("task_queue_expiry")}
            WHERE {OPEN} AND expires_at IS NOT NULL AND expires_at <= {tx.now}
              AND (worker_id IS NULL OR {_HAS_WORKER})
        UNION ALL
        SELECT id, lease, 'dead_worker' FROM task_queue{held}
            WHERE {HELD} AND NOT {_HAS_WORKER}
        UNION ALL
        SELECT id, lease, 'remote_overdue' FROM task_queue{overdue}
            WHERE status = 'ai_processing' AND remote_deadline_at <= {tx.now}
              AND (expires_at IS NULL OR expires_at > {tx.now})
              AND (worker_id IS NULL OR {_HAS_WORKER})
        UNION ALL
        SELECT id, lease, 'deadline' FROM task_queue{held}
            WHERE {HELD} AND status = 'processing' AND deadline_at <= {tx.now}
              AND (expires_at IS NULL OR expires_at > {tx.now}) AND {_HAS_WORKER}
        UNION ALL
        SELECT id, lease, 'undelivered' FROM task_queue{held}
            WHERE {HELD} AND status = 'processing' AND begun_lease < lease AND deadline_at > {tx.now}
              AND processing_started_at <= {tx.shifted(tx.now, str(-UNDELIVERED_SECONDS))}
              AND (expires_at IS NULL OR expires_at > {tx.now}) AND {_HAS_WORKER}"""


def _may_be_judged(tx: Transaction, well_since: str) -> str:
    """SQL for whether the verdict on a stuck row may be given now (CORRECTNESS 40).

    While Darkroom was not running, a limit may have passed on the clock although the attempt went on, or the service
    finished its job.  So an attempt gets its whole time again.  A remote job is overdue only after the service has
    answered a poll sent after the limit; without an answer it expires only after enough polls.  All this must happen
    while we are well.  A task that waits for a worker to go on with its remote job expires only after an attempt found
    that it can't.
    """
    since = f"'{well_since}'"
    began = (
        f"CASE WHEN processing_started_at >= {since} AND processing_started_at <= {tx.now}"
        f" THEN processing_started_at ELSE {since} END"
    )
    has_had_its_time = (
        f"{tx.seconds_between(began, tx.now)} >= {tx.seconds_between('processing_started_at', 'deadline_at')}"
    )
    is_answered = (  # and not a time that now lies in the future because the clock was set back
        f"answered_at >= remote_deadline_at AND answered_at >= {since} AND answered_at <= {tx.now}"
    )
    # Without a worker or a broker no poll is sent, even if the dispatcher is well: so an overdue poll comes first.
    is_asked = (
        f"questions >= {QUESTIONS} AND asked_since >= {since}"
        f" AND {tx.seconds_between('asked_since', tx.now)} >= {QUESTIONS_SECONDS}"
        f" AND (next_poll_at > {tx.now} OR asked_at >= expires_at)"
    )
    # Without a live worker no attempt can go on.  An attempt that was postponed since has found that it can't.
    can_not_go_on = (
        f"run_after IS NOT NULL AND updated_at >= expires_at AND updated_at >= {since} AND updated_at <= {tx.now}"
        f" AND {tx.seconds_between(since, tx.now)} >= {RESUMED_SECONDS}"
    )
    # A running poll may be fetching the picture; a lost one keeps the task only until its own time is over.
    is_free = f"(worker_id IS NULL OR next_poll_at <= {tx.now})"
    return f"""CASE stuck.reason
        WHEN 'deadline' THEN {has_had_its_time}
        WHEN 'remote_overdue' THEN {is_free} AND {is_answered}
        WHEN 'expired' THEN CASE task_queue.status
            WHEN 'pending' THEN NOT {_has_open_job("'waiting'")} OR ({can_not_go_on})
            WHEN 'processing' THEN NOT {_has_open_job("'submitting','waiting'")} OR {has_had_its_time}
            ELSE {is_free} AND {is_asked} END
        ELSE 1 = 1 END"""


def _has_open_job(states: str) -> str:
    return f"""EXISTS (SELECT 1 FROM remote_job WHERE remote_job.task_id = task_queue.id
        AND remote_job.charge = task_queue.charge AND remote_job.step = task_queue.step
        AND remote_job.state IN ({states}))"""


@dataclasses.dataclass(frozen=True)
class Rescued:
    """One task that was rescued.  action: 'retried', 'released' or 'failed'."""

    task_id: str
    reason: Reason
    action: str


def count_stuck(tx: Transaction) -> dict[str, int]:
    """The number of stuck tasks, by reason."""
    rows = tx.all(f"SELECT reason, count(*) AS n FROM ({_stuck_sql(tx)}) AS stuck GROUP BY reason")
    return {row["reason"]: row["n"] for row in rows}


def stuck_ids(tx: Transaction, most: int = 1_000_000, *, status: str | None = None) -> dict[str, str]:
    """{task id: reason} of the stuck tasks, at most so many.  status: only those that have it."""
    has_it = "" if status is None else "WHERE id IN (SELECT id FROM task_queue WHERE status = :status)"
    named = {} if status is None else {"status": status}
    rows = tx.all(
        f"SELECT id, reason FROM ({_stuck_sql(tx)}) AS stuck {has_it} LIMIT :most", most=most, **named
    )
    return {row["id"]: row["reason"] for row in rows}


def reason_of(tx: Transaction, task_id: str) -> str | None:
    """The reason why this task counts as stuck; None if it does not."""
    found: str | None = tx.value(
        f"SELECT reason FROM ({_stuck_sql(tx)}) AS stuck WHERE stuck.id = :task_id", task_id=task_id
    )
    return found


def rescue(
    tx: Transaction,
    *,
    chance: Callable[[], float],
    may_bill_twice: Set[str] = frozenset(),
    providers: Mapping[str, Sequence[str]] = MappingProxyType({}),
    deadlines: bool = True,
    well_since: str = EVER,
    most: int = BATCH,
    aside: Aside | None = None,
) -> list[Rescued]:
    """Rescue up to `most` stuck tasks; call again until nothing comes back.

    chance: uniform in [0, 1), for back-off.  may_bill_twice: names of the providers that may get an unanswered request
    again.  providers: of each type, to say what an expired task waited for.  deadlines: False for no verdicts by
    elapsed time.  well_since: since when we are well (`leader.well_since`); a task past its time is left alone until
    `_may_be_judged` allows it.  aside: tasks to leave alone; tasks whose verdict the database refuses are added to it
    and stay unchanged, and the others are rescued.  An undelivered task is begun by its worker, or taken back by the
    dispatcher.
    """
    wanted = ["expired", "dead_worker", "remote_overdue", "deadline"] if deadlines else ["dead_worker"]

    def do(rows: Sequence[Row]) -> list[Rescued]:
        return [
            _rescue_one(tx, row, Reason(row["reason"]), chance(), may_bill_twice, providers) for row in rows
        ]

    aside = aside or Aside()
    rows = _locked(tx, wanted, well_since, most, aside)
    rescued, refused = apart(tx, "task_queue", rows, id_of, do)
    aside.refused.extend(refused)
    return rescued


def _locked(tx: Transaction, reasons: Sequence[str], well_since: str, most: int, aside: Aside) -> list[Row]:
    """Stuck rows, locked, each with its reason as of the lock.

    On PostgreSQL each row is checked twice: the locking statement finds the reason in an older version of the row than
    the one it locks, and the worker may have ended the attempt since.  Rows of users whose accounts others have locked
    are left out, and take no place in the batch, as nobody else's row waits for them.
    """
    stuck = f"""FROM ({_stuck_sql(tx)}) AS stuck JOIN task_queue ON task_queue.id = stuck.id
        WHERE stuck.reason IN ({listed(reasons)}) AND {_may_be_judged(tx, well_since)} AND"""
    others, left_alone = aside.others(tx, "task_queue.id")
    order = "ORDER BY task_queue.user_openid, task_queue.id"
    if not tx.for_update:
        return tx.all(
            f"SELECT task_queue.*, stuck.reason {stuck} {others} {order} LIMIT :most", **left_alone, most=most
        )
    locked = rows_of_free_accounts(
        tx,
        lambda held_up: tx.all(
            f"""SELECT task_queue.id, task_queue.user_openid {stuck} {others}
                AND NOT task_queue.user_openid = ANY(:held_up) {order} LIMIT :most
                {tx.for_update_of_free("task_queue")}""",
            **left_alone, held_up=held_up, most=most,
        ),
    )  # fmt: skip
    if not locked:
        return []
    return tx.all(
        f"SELECT task_queue.*, stuck.reason {stuck} stuck.id = ANY(:ids) {order}",
        ids=[row["id"] for row in locked],
    )


def _rescue_one(
    tx: Transaction,
    row: Row,
    reason: Reason,
    chance: float,
    may_bill_twice: Set[str],
    providers: Mapping[str, Sequence[str]],
) -> Rescued:
    budget = Budget(row["failures"], row["deaths"], row["max_attempts"])
    verdict = (
        GiveUp("expired", expiry.why(tx, row, providers))
        if reason is Reason.EXPIRED
        else _verdict(reason, budget, remote=row["status"] == "ai_processing", chance=chance)
    )
    step = row["id"], row["charge"], row["step"]
    asked = remote_jobs.unanswered(tx, *step) if row["status"] == "processing" else None
    # With another part, the next attempt keeps what that makes and refunds this one: it does not ask for it again.
    if asked and not remote_jobs.has_another_part(tx, *step):
        verdict = after_unanswered(verdict, may_bill_twice=asked <= may_bill_twice)
    try:
        action = _apply(tx, row, verdict)
        if asked:
            remote_jobs.mark_unknown(tx, *step)
    except LeaseLost:  # another rescuer was faster, which is just as good
        action = "released"
    counters.count(tx, "darkroom_rescues_total", action=action, reason=reason.value)
    return Rescued(row["id"], reason, action)


def _verdict(reason: Reason, budget: Budget, *, remote: bool, chance: float) -> Verdict:
    match reason:
        case Reason.DEAD_WORKER:
            return after_death(budget, remote=remote, chance=chance)
        case Reason.DEADLINE:
            return after_deadline(budget, chance=chance)
        case _:
            return GiveUp("remote_lost", "The AI service did not finish this in time.")


def _apply(tx: Transaction, row: Row, verdict: Verdict) -> str:
    task_id, lease = row["id"], row["lease"]
    match verdict:
        case PollAgain():
            remote_wait.ask_again(tx, task_id, lease)
            return "released"
        case RunAgain(in_seconds=in_seconds, counts="deaths"):
            claims.release(tx, task_id, lease, died=True, in_seconds=in_seconds)
            return "released"
        case RunAgain(in_seconds=in_seconds, code=code, message=message):
            claims.retry(tx, task_id, lease, in_seconds, code=code, message=message)
            return "retried"
        case GiveUp():
            _give_up(tx, row, verdict)
            return "failed"


def _give_up(tx: Transaction, row: Row, verdict: GiveUp) -> None:
    """Fail a stuck task in any open status, with a refund by trigger; its remote job is marked for a cancel."""
    made_from = {name: row[name] for name in ("id", "lease", "status", "charge", "failures", "deaths")}
    where = " AND ".join(f"{name} = :{name}" for name in made_from)
    error = (verdict.code, verdict.message)
    if not end_task(tx, "failed", where, error=error, counts=verdict.counts, **made_from):
        raise LeaseLost(row["id"], row["lease"])
