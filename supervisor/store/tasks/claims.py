"""Claims: a task is claimed for a worker, and the worker reports progress and records the end of the attempt.

Every write except the claim names the held lease.  A write that touches no row raises LeaseLost: the task was rescued,
cancelled or claimed again since, and the late worker must not store its result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from supervisor.core.claim import Claim
from supervisor.core.errors import LeaseLost
from supervisor.core.rescue import Budget
from supervisor.database.interface.database import Pending, Row, Transaction
from supervisor.schema.tables import HELD, READY
from supervisor.store.counters import counters
from supervisor.store.remote import remote_cancels
from supervisor.store.sql.row_isolation import apart
from supervisor.store.sql.rows import decoded, encoded
from supervisor.store.tasks import history, images, steps
from supervisor.store.tasks.ending import count_end, count_step, counted_ends, end_task, name_of_step, ran
from supervisor.store.tasks.steps import Finished

_HELD = f"id = :task_id AND lease = :lease AND {HELD}"
# The same for many rows; {} names id and lease.  `status || ''` makes the planner find them by their ids, one by one,
# and not among all held rows.
_HELD_BY = """task_queue.id = {0}.value ->> 0 AND lease = CAST({0}.value ->> 1 AS INTEGER) AND worker_id IS NOT NULL
    AND status || '' IN ('processing','ai_processing')"""
# The progress of a type with steps never falls.
_PUT_BACK = """worker_id = NULL, deadline_at = NULL, processing_started_at = NULL,
    progress = CASE WHEN steps IS NULL THEN 0 ELSE progress END,
    stage = CASE WHEN steps IS NULL THEN '' ELSE (steps -> step ->> 'name') || ': ' END || 'queued'"""


class Wanted(NamedTuple):
    """A waiting task and its chosen worker.  deadline_seconds: from now to the deadline of the attempt."""

    task_id: str
    worker_id: str
    deadline_seconds: float


class Held(NamedTuple):
    """A row that names a worker.  is_poll: the worker polls its remote job.  is_begun: the worker has recorded the
    beginning."""

    task_id: str
    lease: int
    is_poll: bool
    is_begun: bool


class Begun(NamedTuple):
    """An attempt and the seconds since its beginning.  limit_seconds: from its beginning to its deadline."""

    task_id: str
    lease: int
    ago_seconds: float
    limit_seconds: float


class Report(NamedTuple):
    """The progress of a held attempt.  percent: 0-99."""

    task_id: str
    lease: int
    percent: int
    stage: str


class Made(NamedTuple):
    """The results of a held attempt.  images: [{key, width, height}] that are durable already.

    missing: the number of paid pictures that could not be made; they are refunded.  outputs: results that are not
    pictures, in the form of `supervisor.media.shown_outputs`.  replaced: the number of ordered pictures in whose place
    something else came, or nothing, as their type makes none.
    """

    task_id: str
    lease: int
    images: list[dict[str, Any]]
    missing: int = 0
    outputs: dict[str, Any] | None = None
    replaced: int = 0


def claim_for(tx: Transaction, wanted: Sequence[Wanted]) -> Pending[list[Row]]:
    """Claim ready tasks for workers, each under a new lease; rows for `claim_of`, in no order.

    Tasks that no longer wait are left out, and so are those of a worker that takes nothing new.  A stopping worker
    waits for this transaction, or this transaction sees that the worker stops.  Rows and accounts that other
    transactions have locked are left out too: waiting for them could cause a deadlock with a transaction that ends
    several tasks.
    """
    if not wanted:
        return Pending(list)
    alive = tx.for_free_key_share("worker")
    # `IS TRUE`: PostgreSQL then asks a hash whether a row is among the free ones.  A join, planned for one row, would
    # compare each wanted row with each free one.
    return tx.change(
        f"""WITH alive AS MATERIALIZED (SELECT id FROM worker WHERE state = 'live' AND takes_claims = 1
                AND {tx.is_one_of("id", ":workers")}{alive}),
            free AS MATERIALIZED (SELECT id, user_openid FROM task_queue WHERE {READY}
                AND {tx.is_one_of("id", ":tasks")} AND (run_after IS NULL OR run_after <= {tx.now})
                AND admitted_charge = charge
                {tx.for_update_of_free("task_queue")}),
            payers AS MATERIALIZED (SELECT user_openid FROM account WHERE user_openid IN (SELECT user_openid FROM free)
                {tx.for_update_of_free("account")})
        UPDATE task_queue SET status = 'processing', ready = 0,
            stage = CASE WHEN steps IS NULL THEN 'starting' ELSE (steps -> step ->> 'name') || ': starting' END,
            lease = lease + 1, attempt = attempt + 1, worker_id = wanted.value ->> 1,
            processing_started_at = {tx.moment}, updated_at = {tx.moment},
            deadline_at = {tx.shifted(tx.moment, "CAST(wanted.value ->> 2 AS DOUBLE PRECISION)")}
        FROM {tx.rows(":wanted")} AS wanted
        WHERE task_queue.id = wanted.value ->> 0 AND status || '' = 'pending'
          AND (task_queue.id IN (SELECT id FROM free)) IS TRUE
          AND (user_openid IN (SELECT user_openid FROM payers)) IS TRUE
          AND (wanted.value ->> 1 IN (SELECT id FROM alive)) IS TRUE
        RETURNING {told(tx)}, {_waited(tx)} AS waited""",
        workers=encoded(sorted({each.worker_id for each in wanted})),
        tasks=encoded([each.task_id for each in wanted]),
        wanted=encoded(wanted),
    )


def claimed_again(tx: Transaction, leases: Mapping[str, int]) -> list[Row]:
    """The claims with these leases that are still held, as `claim_for` found them.  leases: {task id: lease}."""
    return tx.all(
        f"""SELECT {told(tx)} FROM task_queue JOIN {tx.rows(":leases")} AS claimed
                ON task_queue.id = claimed.value ->> 0 AND lease = CAST(claimed.value ->> 1 AS INTEGER)
            WHERE worker_id IS NOT NULL AND status || '' = 'processing'""",
        leases=encoded(list(leases.items())),
    )


def told(tx: Transaction) -> str:
    """SQL for the columns that an attempt needs of its task."""
    return f"""task_queue.id, worker_id, lease, attempt, charge, task_queue.type, user_openid,
        CAST(params AS TEXT) AS params, picture_count, failures, deaths, max_attempts, step, last_step, lane,
        {images.keys(tx)} AS image_keys"""


def _waited(tx: Transaction) -> str:
    due_since = tx.greatest("created_at", "coalesce(run_after, created_at)")
    return tx.greatest("0.0", tx.seconds_between(due_since, tx.moment))


def tell_again(tx: Transaction, task_id: str, lease: int) -> Claim | None:
    """The claim, read from its row; None if it is no longer held."""
    row = tx.one(f"SELECT {told(tx)} FROM task_queue WHERE {_HELD}", task_id=task_id, lease=lease)
    return None if row is None else claim_of(row)


def begin_late(
    tx: Transaction, worker_id: str, found: Sequence[tuple[str, int]], limit_of: Callable[[str, str], float]
) -> list[Claim]:
    """Begin claims for this worker whose messages were lost, and record that; the claims that it still holds.  Those
    that another transaction has locked are left for the next heartbeat.

    found: (task id, lease).  limit_of: a type and the lane of a step -> seconds from the beginning to the deadline.
    """
    rows = tx.all(
        f"""SELECT {told(tx)} FROM task_queue JOIN {tx.rows(":found")} AS found
                ON task_queue.id = found.value ->> 0 AND lease = CAST(found.value ->> 1 AS INTEGER)
            WHERE worker_id = :worker_id AND status || '' = 'processing' AND begun_lease < lease
            ORDER BY user_openid, task_queue.id{tx.for_update_of_free("task_queue")}""",
        found=encoded(found), worker_id=worker_id,
    )  # fmt: skip
    claims = [claim_of(row) for row in rows]
    mark_begun(tx, [Begun(each.task_id, each.lease, 0.0, limit_of(each.type, each.lane)) for each in claims])
    return claims


def mark_begun(tx: Transaction, begun: Sequence[Begun]) -> set[str]:
    """Record which attempts were begun; their time counts from then on, and they are not taken back as undelivered.

    Returns the ids of the marked tasks.  A row that another transaction has locked, or that the database refuses to
    change, is left out, so that no heartbeat waits or fails because of it.
    """
    done, _ = apart(tx, "task_queue", begun, lambda each: each.task_id, lambda some: _mark_begun(tx, some))
    return set(done)


def _mark_begun(tx: Transaction, begun: Sequence[Begun]) -> list[str]:
    began = "CAST(begun.value ->> 2 AS DOUBLE PRECISION)"
    left = f"CAST(begun.value ->> 3 AS DOUBLE PRECISION) - {began}"
    rows = tx.all(
        f"""WITH free AS MATERIALIZED (SELECT id FROM task_queue WHERE {tx.is_one_of("id", ":tasks")}
            {tx.for_update_of_free("task_queue")})
        UPDATE task_queue SET begun_lease = lease,
            processing_started_at = {tx.shifted(tx.moment, f"(0.0 - {began})")},
            deadline_at = {tx.greatest("deadline_at", tx.shifted(tx.moment, f"({left})"))}
        FROM {tx.rows(":begun")} AS begun
        WHERE {_HELD_BY.format("begun")} AND status || '' = 'processing' AND begun_lease <= lease
          AND (task_queue.id IN (SELECT id FROM free)) IS TRUE RETURNING task_queue.id""",
        tasks=encoded([each.task_id for each in begun]), begun=encoded(begun),
    )  # fmt: skip
    return [row["id"] for row in rows]


def report_all(tx: Transaction, reports: Sequence[Report]) -> list[bool]:
    """Record the progress of several attempts, which never falls.  False for those whose lease is no longer held."""
    rows = tx.all(
        f"""UPDATE task_queue SET progress = {tx.greatest("progress", "CAST(said.value ->> 2 AS INTEGER)")},
            stage = said.value ->> 3, begun_lease = lease, updated_at = {tx.moment}
        FROM {tx.rows(":reports")} AS said WHERE {_HELD_BY.format("said")} RETURNING task_queue.id""",
        reports=encoded([each._replace(percent=min(each.percent, 99)) for each in reports]),
    )
    held = {row["id"] for row in rows}
    return [each.task_id in held for each in reports]


def stand_still(tx: Transaction, task_id: str, lease: int, stage: str, seconds: float) -> bool:
    """Extend the deadline of an attempt or poll that waits for something outside, such as disk space, by so many
    seconds.

    False when the lease is no longer held.
    """
    later = tx.in_seconds(":seconds")
    return bool(
        tx.run(
            f"""UPDATE task_queue SET stage = :stage, updated_at = {tx.now},
                deadline_at = CASE WHEN status = 'processing' THEN {tx.greatest("deadline_at", later)} END,
                next_poll_at = CASE WHEN status = 'ai_processing' THEN {later} END,
                remote_deadline_at = CASE WHEN remote_deadline_at IS NOT NULL
                    THEN {tx.greatest("remote_deadline_at", later)} END
            WHERE {_HELD}""",
            stage=stage, seconds=seconds, task_id=task_id, lease=lease,
        )
    )  # fmt: skip


def complete_all(tx: Transaction, made: Sequence[Made]) -> Pending[Sequence[Exception | None]]:
    """Record successes; LeaseLost for those that were not recorded, because the lease is no longer held."""
    complete = f"""UPDATE task_queue SET status = 'completed', stage = made.value ->> 2, progress = 100,
            images = {tx.as_json("made.value ->> 3")}, missing = CAST(made.value ->> 4 AS INTEGER),
            outputs = {tx.as_json("made.value ->> 5")}, deadline_at = NULL, next_poll_at = NULL,
            finished_at = {tx.moment}, updated_at = {tx.moment}
        FROM {tx.rows(":made")} AS made WHERE {_HELD_BY.format("made")}
        RETURNING task_queue.id, type, charge, {ran(tx)}, {name_of_step()}"""
    given = encoded(
        [
            (each.task_id, each.lease, _stage_of(each), each.images, each.missing, each.outputs)
            for each in made
        ]
    )
    if tx.dialect.writes_within_queries:
        # One exchange with the server: others wait for these locks.
        ended = tx.change(
            f"""WITH ended AS ({complete}), unwanted AS ({remote_cancels.wanted_by("ended", tx)}),
                {counted_ends("ended", "completed")} SELECT id FROM ended""",
            made=given,
        )
    else:
        rows = tx.all(complete, made=given)
        remote_cancels.want_cancels(tx, [(row["id"], row["charge"]) for row in rows])
        added = counters.Tally()
        for row in rows:
            count_end(added, row, "completed")
        added.store(tx)
        ended = Pending(lambda: rows)

    def answers() -> Sequence[Exception | None]:
        ids = {row["id"] for row in ended.get()}
        return [None if each.task_id in ids else LeaseLost(each.task_id, each.lease) for each in made]

    return Pending(answers)


def _stage_of(made: Made) -> str:
    if not made.missing:
        return "done"
    count = len(made.images) + made.replaced
    return f"done, {count} of {count + made.missing}{'' if made.replaced else ' pictures'}"


class Advance(NamedTuple):
    """The end of a held attempt whose step is not the last.  progress: of the task; the others: of the next step."""

    task_id: str
    lease: int
    finished: Finished
    progress: int
    lane: str
    max_attempts: int
    stage: str


def advance_all(tx: Transaction, advances: Sequence[Advance]) -> list[LeaseLost | None]:
    """Store the results of finished steps and make the next ones due; LeaseLost for those that are not held any more.

    Remote jobs that still run for a finished step are cancelled, because no later step waits for them.
    """
    rows = tx.all(
        f"""SELECT task_queue.id, task_queue.type, charge, {ran(tx)} FROM task_queue
                JOIN {tx.rows(":held")} AS held ON {_HELD_BY.format("held")}
                    AND step = CAST(held.value ->> 2 AS INTEGER)
            ORDER BY user_openid, task_queue.id{tx.for_update_of("task_queue")}""",
        held=encoded([(each.task_id, each.lease, each.finished.step) for each in advances]),
    )
    held = {row["id"]: row for row in rows}
    done = [each for each in advances if each.task_id in held]
    if done:
        steps.add(tx, [each.finished for each in done])
        tx.send(
            f"""UPDATE task_queue SET status = 'pending', ready = 1, run_after = NULL, step = step + 1,
                failures = 0, deaths = 0, kept = kept + CAST(next.value ->> 2 AS INTEGER),
                progress = {tx.greatest("progress", "CAST(next.value ->> 3 AS INTEGER)")},
                lane = next.value ->> 4, max_attempts = CAST(next.value ->> 5 AS INTEGER), stage = next.value ->> 6,
                worker_id = NULL, deadline_at = NULL, processing_started_at = NULL, next_poll_at = NULL,
                updated_at = {tx.moment}
            FROM {tx.rows(":next")} AS next WHERE {_HELD_BY.format("next")}""",
            next=encoded(
                [
                    (each.task_id, each.lease, each.finished.kept_credits, min(each.progress, 99), *each[4:])
                    for each in done
                ]
            ),
        )
        remote_cancels.want_cancels(tx, [(row["id"], row["charge"]) for row in rows])
    added = counters.Tally()
    for each in done:
        count_step(added, held[each.task_id], each.finished.name, "completed")
    added.store(tx)
    return [None if each.task_id in held else LeaseLost(each.task_id, each.lease) for each in advances]


def fail(
    tx: Transaction,
    task_id: str,
    lease: int,
    code: str,
    message: str,
    *,
    counts: str = "failures",
    given_back: int = 0,
) -> None:
    """Fail the task, refunded by trigger.  counts: 'failures', 'deaths' or ''.  given_back: credits that were to be
    kept for finished steps.  Raises LeaseLost."""
    error = (code, message)
    if not end_task(
        tx, "failed", _HELD, error=error, counts=counts, given_back=given_back, task_id=task_id, lease=lease
    ):
        raise LeaseLost(task_id, lease)


def retry(
    tx: Transaction,
    task_id: str,
    lease: int,
    in_seconds: float,
    *,
    code: str = "",
    message: str = "",
    detail: str = "",
    is_counted: bool = True,
) -> None:
    """Run the task again later; one failure is counted, unless its service lost the order.  Raises LeaseLost.

    code, message, detail: the reason of the failure, for the history.
    """
    if code:
        history.note_failure(tx, task_id, lease, code, message, detail)
    row = _put_back(tx, task_id, lease, f"failures = failures + {int(is_counted)}", in_seconds)
    _tally_run(tx, row, "retried")


def postpone(
    tx: Transaction,
    task_id: str,
    lease: int,
    in_seconds: float,
    *,
    code: str = "",
    message: str = "",
    detail: str = "",
) -> None:
    """Run the task later; no failure is counted (the service is full, slow or down).  Raises LeaseLost.

    code, message, detail: the reason, for the history.
    """
    if code and in_seconds > 0:
        history.note_postponed(tx, task_id, lease, in_seconds, code, message, detail)
    row = _put_back(tx, task_id, lease, "failures = failures", in_seconds)
    _tally_run(tx, row, "postponed")
    if code:
        counters.count(tx, "darkroom_postponed_total", type=row["type"], reason=code)


def release(
    tx: Transaction, task_id: str, lease: int, *, died: bool = False, in_seconds: float = 0.0
) -> None:
    """Put the task back, due in so many seconds.  died: whether its worker died; deaths are counted separately.  Raises
    LeaseLost."""
    row = _put_back(tx, task_id, lease, f"deaths = deaths + {int(died)}", in_seconds)
    _tally_run(tx, row, "released")


def held_by(tx: Transaction, worker_id: str) -> list[Held]:
    """All rows that name this worker."""
    rows = tx.all(
        f"""SELECT id, lease, status, begun_lease FROM task_queue
            WHERE worker_id = :worker_id AND {HELD}""",
        worker_id=worker_id,
    )
    return [
        Held(row["id"], row["lease"], row["status"] == "ai_processing", row["begun_lease"] == row["lease"])
        for row in rows
    ]


def _put_back(tx: Transaction, task_id: str, lease: int, counted: str, in_seconds: float | None) -> Row:
    run_after = tx.in_seconds(":seconds") if in_seconds else "NULL"
    seconds = {"seconds": in_seconds} if in_seconds else {}
    return _step_back(
        tx, task_id, lease,
        f"status = 'pending', ready = {int(not in_seconds)}, {counted}, run_after = {run_after}, {_PUT_BACK}",
        **seconds,
    )  # fmt: skip


def _step_back(tx: Transaction, task_id: str, lease: int, changes: str, **named: Any) -> Row:
    """End a held attempt that is not the last; the changed row, with the attempt's run time (`ran`, seconds)."""
    before = tx.one(f"SELECT {ran(tx)} FROM task_queue WHERE id = :task_id", task_id=task_id)
    row = tx.one(
        f"UPDATE task_queue SET {changes}, updated_at = {tx.now} WHERE {_HELD} RETURNING id, type, charge",
        task_id=task_id, lease=lease, **named,
    )  # fmt: skip
    if row is None or before is None:
        raise LeaseLost(task_id, lease)
    return {**row, **before}


def _tally_run(tx: Transaction, row: Row, outcome: str) -> None:
    if row["ran"] is not None:
        counters.observe(tx, "darkroom_task_run_seconds", row["ran"], type=row["type"], outcome=outcome)


def claim_of(row: Row) -> Claim:
    """The claim from a task's row, as `claim_for` returns it.  params None: too large to send."""
    return Claim(
        task_id=row["id"],
        lease=row["lease"],
        attempt=row["attempt"],
        charge=row["charge"],
        type=row["type"],
        user=row["user_openid"],
        params={} if row["params"] is None else decoded(row["params"]),
        image_keys=dict(decoded(row.get("image_keys")) or ()),
        count=row["picture_count"],
        budget=Budget(row["failures"], row["deaths"], row["max_attempts"]),
        wait_seconds=row.get("waited", 0.0),
        is_whole=row["params"] is not None,
        step=row.get("step", 0),  # an older dispatcher, while a new version is rolled out, knows no steps
        last_step=row.get("last_step", 0),
        lane=row.get("lane", ""),
    )
