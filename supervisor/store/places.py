"""A waiting task's place in the fair order, and when it is likely to be finished."""

from __future__ import annotations

from typing import Any

from supervisor.database import Row, Transaction
from supervisor.eta import eta_seconds

RECENT_RUNS = 20

_AHEAD = """SELECT count(*) FROM task_queue
    WHERE status = 'pending' AND ready = 1 AND dispatched_at IS NULL
      AND (-priority, turn, created_at, id) < (?, ?, ?, ?)"""


def place_and_eta(tx: Transaction, task: Row) -> dict[str, Any]:
    """{queue_position, eta_seconds} of a task row; both None once it is over.

    Position 0 is next: it has been dispatched, or nothing is ahead of it.
    """
    status = task["status"]
    if status == "pending":
        ahead = 0
        if task["dispatched_at"] is None:
            ahead = tx.value(_AHEAD, -task["priority"], task["turn"], task["created_at"], task["id"])
        runs = recent_run_seconds(tx, task["type"])
        return {
            "queue_position": ahead,
            "eta_seconds": eta_seconds(ahead=ahead, slots=live_slots(tx), recent_run_seconds=runs),
        }
    if status in ("processing", "ai_processing"):
        running = tx.value(
            f"SELECT (julianday({tx.now}) - julianday(?)) * 86400.0", task["processing_started_at"]
        )
        runs = recent_run_seconds(tx, task["type"])
        eta = eta_seconds(ahead=0, slots=1, recent_run_seconds=runs, running_for_seconds=running)
        return {"queue_position": None, "eta_seconds": eta}
    return {"queue_position": None, "eta_seconds": None}


def recent_run_seconds(tx: Transaction, type_: str) -> list[float]:
    """Run times of the type's newest completed tasks, seconds."""
    rows = tx.all(
        """SELECT (julianday(finished_at) - julianday(processing_started_at)) * 86400.0 AS seconds
            FROM task_queue WHERE type = ? AND finished_at IS NOT NULL AND status = 'completed'
            ORDER BY finished_at DESC LIMIT ?""",
        type_, RECENT_RUNS,
    )  # fmt: skip
    return [max(0.0, row["seconds"]) for row in rows if row["seconds"] is not None]


def live_slots(tx: Transaction) -> int:
    """Task slots of live workers."""
    return int(tx.value("SELECT coalesce(sum(slots), 0) FROM worker WHERE state = 'live'"))
