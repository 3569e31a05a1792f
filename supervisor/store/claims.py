"""What a worker does with a task: claim it, report, and bring the attempt to its end.

Every write but the claim names the lease it holds.  A write that touches no row raises LeaseLost: the task was
rescued, cancelled or claimed again since, and whatever the late worker has made is not its to store.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from supervisor.database import Row, Transaction
from supervisor.faults import LeaseLost
from supervisor.rescue import Budget
from supervisor.store import history, images, remote_cancels, tallies
from supervisor.store.rows import decoded, encoded

_HELD = "id = ? AND lease = ? AND worker_id IS NOT NULL AND status IN ('processing','ai_processing')"
_PUT_BACK = """worker_id = NULL, deadline_at = NULL, dispatched_at = NULL, processing_started_at = NULL,
    progress = 0, stage = 'queued', dispatch = dispatch + 1"""
_OVER = "deadline_at = NULL, dispatched_at = NULL, next_poll_at = NULL"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A task in a worker's hands.  image_keys: {upload's id: its key in the file store}."""

    task_id: str
    lease: int
    attempt: int
    charge: int
    type: str
    user: str
    params: dict[str, Any]
    image_keys: dict[str, str]
    count: int
    budget: Budget
    wait_seconds: float


def claim(
    tx: Transaction, task_id: str, dispatch: int, worker_id: str, deadline_seconds: float
) -> Claim | None:
    """Take a pending task; None when the hint is stale or somebody else was faster, which is no error.

    deadline_seconds: from now, when the attempt must be over.
    """
    due_since = tx.greatest("created_at", "coalesce(run_after, created_at)")
    row = tx.one(
        f"""UPDATE task_queue SET status = 'processing', stage = 'starting', progress = 0, ready = 0,
            lease = lease + 1, attempt = attempt + 1, worker_id = ?, dispatched_at = NULL,
            processing_started_at = {tx.now}, deadline_at = {tx.in_seconds}, updated_at = {tx.now}
        WHERE id = ? AND status = 'pending' AND dispatch = ? AND admitted_charge = charge
          AND (run_after IS NULL OR run_after <= {tx.now})
          AND EXISTS (SELECT 1 FROM worker WHERE worker.id = ? AND worker.state = 'live')
        RETURNING *, {tx.greatest("0.0", tx.seconds_between(due_since, tx.now))} AS waited""",
        worker_id, deadline_seconds, task_id, dispatch, worker_id,
    )  # fmt: skip
    if row is None:
        return None
    if row["attempt"] == 1:
        tallies.observe(tx, "darkroom_task_wait_seconds", row["waited"], type=row["type"])
    return claim_of(row, image_keys=images.keys(tx, row["user_openid"], decoded(row["params"])["images"]))


def report_progress(tx: Transaction, task_id: str, lease: int, percent: int, stage: str) -> bool:
    """Show how far the attempt is; progress never falls.  False when the lease is no longer held."""
    touched = tx.run(
        f"""UPDATE task_queue SET progress = {tx.greatest("progress", "?")}, stage = ?, updated_at = {tx.now}
            WHERE {_HELD}""",
        min(percent, 99), stage, task_id, lease,
    )  # fmt: skip
    return touched == 1


def complete(tx: Transaction, task_id: str, lease: int, made: list[dict[str, Any]], missing: int = 0) -> None:
    """Record success.  made: [{key, width, height}] that are durable already.

    missing: pictures that were paid for and could not be made; they are refunded.  Raises LeaseLost.
    """
    stage = f"done, {len(made)} of {len(made) + missing} pictures" if missing else "done"
    row = _end(
        tx, task_id, lease, f"status = 'completed', stage = ?, progress = 100, images = ?, missing = ?, {_OVER}",
        stage, encoded(made), missing,
    )  # fmt: skip
    remote_cancels.want_cancel(tx, task_id, row["charge"])
    tally_end(tx, row, "completed")


def fail(
    tx: Transaction, task_id: str, lease: int, code: str, message: str, *, counts: str = "failures"
) -> None:
    """Fail the task, refunded by trigger.  counts: 'failures', 'deaths' or ''.  Raises LeaseLost."""
    row = _end(
        tx, task_id, lease,
        f"status = 'failed', stage = 'failed', error = ?, failures = failures + ?, deaths = deaths + ?, {_OVER}",
        encoded({"code": code, "message": message}), int(counts == "failures"), int(counts == "deaths"),
    )  # fmt: skip
    remote_cancels.want_cancel(tx, task_id, row["charge"])
    tally_end(tx, row, "failed")


def retry(
    tx: Transaction, task_id: str, lease: int, in_seconds: float, *, code: str = "", message: str = ""
) -> None:
    """Run the task again later; one failure is counted.  Raises LeaseLost.

    code, message: why the attempt failed, for its history.
    """
    if code:
        history.note_failure(tx, task_id, lease, code, message)
    row = _put_back(tx, task_id, lease, "failures = failures + 1", in_seconds)
    _tally_run(tx, row, "retried")


def postpone(tx: Transaction, task_id: str, lease: int, in_seconds: float) -> None:
    """Run the task later; no failure is counted (the service is full, slow or down).  Raises LeaseLost."""
    row = _put_back(tx, task_id, lease, "failures = failures", in_seconds)
    _tally_run(tx, row, "postponed")


def release(
    tx: Transaction, task_id: str, lease: int, *, died: bool = False, in_seconds: float = 0.0
) -> None:
    """Put the task back, due in so many seconds.  died: its worker died, which is counted apart.  Raises LeaseLost."""
    row = _put_back(tx, task_id, lease, f"deaths = deaths + {int(died)}", in_seconds)
    _tally_run(tx, row, "released")


def held_by(tx: Transaction, worker_id: str) -> list[tuple[str, int]]:
    """(task id, lease) of every row that names this worker."""
    rows = tx.all(
        """SELECT id, lease FROM task_queue
            WHERE worker_id = ? AND status IN ('processing','ai_processing')""",
        worker_id,
    )
    return [(row["id"], row["lease"]) for row in rows]


def _put_back(tx: Transaction, task_id: str, lease: int, counted: str, in_seconds: float | None) -> Row:
    run_after = f"run_after = {tx.in_seconds}" if in_seconds else "run_after = NULL"
    params = (in_seconds,) if in_seconds else ()
    return _end(
        tx, task_id, lease, f"status = 'pending', ready = {int(not in_seconds)}, {counted}, {run_after}, {_PUT_BACK}",
        *params, finished=False,
    )  # fmt: skip


def _end(tx: Transaction, task_id: str, lease: int, changes: str, *params: Any, finished: bool = True) -> Row:
    """End a held attempt; the row as it was changed, with how long the attempt ran (`ran`, seconds)."""
    before = tx.one(f"SELECT {ran(tx)} FROM task_queue WHERE id = ?", task_id)
    finish = f"finished_at = {tx.now}, " if finished else ""
    row = tx.one(
        f"""UPDATE task_queue SET {changes}, {finish}updated_at = {tx.now} WHERE {_HELD}
            RETURNING id, type, charge""",
        *params, task_id, lease,
    )  # fmt: skip
    if row is None or before is None:
        raise LeaseLost(task_id, lease)
    return {**row, **before}


def tally_end(tx: Transaction, row: Row, outcome: str) -> None:
    """Count a task that is over, and how long its last attempt ran.  row: `type`, and `ran` as `ran` says."""
    tallies.count(tx, "darkroom_tasks_finished_total", type=row["type"], outcome=outcome)
    _tally_run(tx, row, outcome)


def ran(tx: Transaction) -> str:
    """SQL for how long the attempt of a row has run, in seconds; NULL when none runs."""
    return f"{tx.seconds_between('processing_started_at', tx.now)} AS ran"


def _tally_run(tx: Transaction, row: Row, outcome: str) -> None:
    if row["ran"] is not None:
        tallies.observe(tx, "darkroom_task_run_seconds", row["ran"], type=row["type"], outcome=outcome)


def claim_of(row: Row, *, image_keys: dict[str, str]) -> Claim:
    """The claim that a task's row tells of."""
    return Claim(
        task_id=row["id"],
        lease=row["lease"],
        attempt=row["attempt"],
        charge=row["charge"],
        type=row["type"],
        user=row["user_openid"],
        params=decoded(row["params"]),
        image_keys=image_keys,
        count=row["picture_count"],
        budget=Budget(row["failures"], row["deaths"], row["max_attempts"]),
        wait_seconds=row.get("waited", 0.0),
    )
