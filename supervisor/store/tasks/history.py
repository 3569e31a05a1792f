"""A task's history: its steps with their times and workers.

Triggers write the steps (`supervisor.schema.shared.history_rows`) for every change of the row; the ledger holds the
credits.  Users, the command line and operators see both together, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.database.interface.database import Row, Transaction
from supervisor.schema.tables import HELD, OPEN
from supervisor.store.sql.row_isolation import Aside, delete_oldest
from supervisor.store.sql.rows import decoded, encoded

Happening = dict[str, Any]

MOST_MESSAGE_CHARACTERS = 500

# The order of steps that happen in the same millisecond.
_BEFORE_STEPS = ("submitted", "admitted", "resubmitted")
_ORDER = {"submitted": 0, "resubmitted": 0, "debited": 1, "admitted": 2, "refunded": 4}
_OTHERS = 3
_CALLED = {"debit": "debited", "refund": "refunded"}


def note_failure(
    tx: Transaction, task_id: str, lease: int, code: str, message: str, detail: str = ""
) -> None:
    """Record why an attempt failed; nothing if its lease is lost.  detail: the service's whole answer, for
    operators."""
    tx.execute(
        f"""INSERT INTO task_event (task_id, event, attempt, lease, worker_id, error, at, step)
            SELECT id, 'attempt_failed', attempt, lease, worker_id, :error, {tx.now}, step FROM task_queue
            WHERE id = :task_id AND lease = :lease AND {HELD}""",
        error=encoded(_error(code, message, detail)), task_id=task_id, lease=lease,
    )  # fmt: skip


def _error(code: str, message: str, detail: str) -> dict[str, str]:
    told = {"code": code, "message": message}
    return told | {"detail": detail} if detail else told


def note_postponed(
    tx: Transaction, task_id: str, lease: int, in_seconds: float, code: str, message: str, detail: str = ""
) -> None:
    """Record that a task is put back, with reason and due time; nothing if its lease is lost.

    The trigger of the step that follows finds this row and writes none of its own.
    """
    tx.execute(
        f"""INSERT INTO task_event (task_id, event, attempt, lease, worker_id, run_after, error, at, step)
            SELECT id, 'postponed', attempt, lease, worker_id, {tx.in_seconds(":seconds")}, :error, {tx.now}, step
            FROM task_queue
            WHERE id = :task_id AND lease = :lease AND {HELD} AND status = 'processing'""",
        seconds=in_seconds, error=encoded(_error(code, message[:MOST_MESSAGE_CHARACTERS], detail)),
        task_id=task_id, lease=lease,
    )  # fmt: skip


def is_rate_limited(tx: Transaction, task_id: str) -> bool:
    """Whether the last step put the task back because its service limits requests."""
    last = tx.one(
        "SELECT event, error FROM task_event WHERE task_id = :task_id ORDER BY id DESC LIMIT 1",
        task_id=task_id,
    )
    error = decoded(last["error"]) if last is not None and last["event"] == "postponed" else None
    return isinstance(error, dict) and error.get("code") == "rate_limited"


def timeline(tx: Transaction, task_id: str, user: str | None = None) -> list[Happening] | None:
    """A task's events, oldest first; None if there is no such task.  user: only if the task is theirs, and without the
    AI service's whole answer (`error.detail`), which is for operators.

    Each has `at`, `event`, `step` (its name, of a type with steps), `attempt`, `lease`, `worker` (its id), `run_after`
    (when a task that was put back is due), `error` ({code, message}), `credits` (signed); values that do not apply are
    None.
    """
    known = tx.one(
        "SELECT steps FROM task_queue WHERE id = :task_id AND (CAST(:user AS TEXT) IS NULL OR user_openid = :user)",
        task_id=task_id, user=user,
    )  # fmt: skip
    if known is None:
        return None
    steps = tx.all("SELECT * FROM task_event WHERE task_id = :task_id ORDER BY id", task_id=task_id)
    moved = tx.all(
        "SELECT kind, amount, created_at AS at FROM credit_entry WHERE task_id = :task_id ORDER BY id",
        task_id=task_id,
    )
    names = [step["name"] for step in decoded(known["steps"]) or ()]
    happened = [*(_step(row, names, in_full=user is None) for row in steps), *(_money(row) for row in moved)]
    return sorted(happened, key=lambda each: (each["at"], _ORDER.get(each["event"], _OTHERS)))


def _step(row: Row, names: Sequence[str], *, in_full: bool) -> Happening:
    error = decoded(row["error"])
    if isinstance(error, dict) and not in_full:
        error.pop("detail", None)
    return {
        "at": row["at"],
        "event": row["event"],
        "step": names[row["step"]]
        if row["step"] < len(names) and row["event"] not in _BEFORE_STEPS
        else None,
        "attempt": row["attempt"],
        "lease": row["lease"],
        "worker": row["worker_id"],
        "run_after": row["run_after"],
        "error": error,
        "credits": None,
    }


def _money(row: Row) -> Happening:
    return {
        "at": row["at"],
        "event": _CALLED[row["kind"]],
        "step": None,
        "attempt": None,
        "lease": None,
        "worker": None,
        "run_after": None,
        "error": None,
        "credits": row["amount"],
    }


def prune(tx: Transaction, older_than_seconds: float, most: int, aside: Aside | None = None) -> int:
    """Delete the oldest events of finished tasks; how many.

    Ids follow time, so only the first rows are read; rows of a task that stays open so long stop the deletion.
    """
    is_over = (
        f"NOT EXISTS (SELECT 1 FROM task_queue WHERE task_queue.id = oldest.task_id AND task_queue.{OPEN})"
    )
    return delete_oldest(tx, "task_event", "at", older_than_seconds, most, aside, only=is_over)
