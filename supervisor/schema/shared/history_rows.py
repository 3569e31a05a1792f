"""What a step of a task is called in its history, as SQL that both databases understand.

`task_event` holds one row for each step that somebody on call would ask about.  Progress, polls and dispatches are left
out: there are hundreds of them, and where the task stands now says as much.  Money is not written down twice: the
ledger is its history, and who reads a history reads both.
"""

from __future__ import annotations

# `attempt_failed` is written by the store, before a retry, and `postponed` where it is known why: that stands nowhere
# in the row.
EVENTS = (
    "submitted",
    "admitted",
    "rejected",
    "claimed",
    "handed_off",
    "attempt_failed",
    "retried",
    "postponed",
    "released",
    "completed",
    "failed",
    "cancelled",
    "resubmitted",
)

COLUMNS = "task_id, event, attempt, lease, worker_id, run_after, error, at"

DIED = '{"code":"worker_died","message":"Its worker died."}'


def is_step(new: str, old: str) -> str:
    """The condition that an UPDATE is a step of the history.  new, old: what stands before a column's name."""
    return f"{new}.status <> {old}.status OR {new}.admitted_charge <> {old}.admitted_charge"


def is_noted(new: str, old: str) -> str:
    """The condition that the store has written the step down already, with why the task was postponed."""
    return (
        f"{new}.status = 'pending' AND {old}.status = 'processing' AND EXISTS (SELECT 1 FROM task_event AS noted"
        f" WHERE noted.task_id = {new}.id AND noted.lease = {new}.lease AND noted.event = 'postponed')"
    )


def event_of(new: str, old: str) -> str:
    """The name of a step."""
    return f"""CASE
            WHEN {new}.status = {old}.status THEN 'admitted'
            WHEN {new}.status = 'processing' THEN 'claimed'
            WHEN {new}.status = 'ai_processing' THEN 'handed_off'
            WHEN {new}.status = 'failed' AND {new}.admitted_charge <> {new}.charge THEN 'rejected'
            WHEN {new}.status <> 'pending' THEN {new}.status
            WHEN {old}.status IN ('failed','cancelled') THEN 'resubmitted'
            WHEN {new}.failures > {old}.failures THEN 'retried'
            WHEN {new}.deaths > {old}.deaths OR {new}.run_after IS NULL THEN 'released'
            ELSE 'postponed' END"""


def due_of(new: str, old: str) -> str:
    """When a task that was put back is due; NULL for every other step, and for at once."""
    return (
        f"CASE WHEN {new}.status = 'pending' AND {old}.status IN ('processing','ai_processing')"
        f" THEN {new}.run_after END"
    )


def error_of(new: str, old: str, died: str) -> str:
    """What was wrong, as JSON, or NULL.  died: the JSON for a worker's death, as this database writes it."""
    return (
        f"CASE WHEN {new}.status = 'failed' THEN {new}.error"
        f" WHEN {new}.status = 'pending' AND {new}.deaths > {old}.deaths THEN {died} END"
    )
