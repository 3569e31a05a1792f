"""The names of a task's steps in its history, as SQL for both databases.

`task_event` holds one row for each step that an operator may need.  Progress, polls and dispatches are left out: there
are hundreds of them, and the task's present state shows enough.  Credits are not recorded twice: the ledger is their
history, and readers of a history read both.
"""

from __future__ import annotations

COLUMNS = "task_id, event, attempt, lease, worker_id, run_after, error, at, step"

DIED = '{"code":"worker_died","message":"Its worker died."}'


def is_step(new: str, old: str) -> str:
    """The condition that an UPDATE is a step of the history.  new, old: the prefixes of column names."""
    return f"{new}.status <> {old}.status OR {new}.admitted_charge <> {old}.admitted_charge"


def is_noted(new: str, old: str) -> str:
    """The condition that the store has recorded the step already, with the reason of the postponement."""
    return (
        f"{new}.status = 'pending' AND {old}.status = 'processing' AND EXISTS (SELECT 1 FROM task_event AS noted"
        f" WHERE noted.task_id = {new}.id AND noted.lease = {new}.lease AND noted.event = 'postponed')"
    )


def event_of(new: str, old: str) -> str:
    """The name of a step."""
    return f"""CASE
            WHEN {new}.status = {old}.status THEN CASE {new}.step WHEN 0 THEN 'admitted' ELSE 'resumed' END
            WHEN {new}.status = 'processing' THEN 'claimed'
            WHEN {new}.status = 'ai_processing' THEN 'handed_off'
            WHEN {new}.status = 'failed' AND {new}.admitted_charge <> {new}.charge THEN 'rejected'
            WHEN {new}.status <> 'pending' THEN {new}.status
            WHEN {old}.status IN ('failed','cancelled') THEN 'resubmitted'
            WHEN {new}.step > {old}.step THEN 'advanced'
            WHEN {new}.failures > {old}.failures THEN 'retried'
            WHEN {new}.deaths > {old}.deaths OR {new}.run_after IS NULL THEN 'released'
            ELSE 'postponed' END"""


def step_of(new: str, old: str) -> str:
    """The step that the task is at then; on SQLite, a resubmission sets it a moment later."""
    return f"CASE WHEN {new}.status = 'pending' AND {old}.status IN ('failed','cancelled') THEN 0 ELSE {new}.step END"


def due_of(new: str, old: str) -> str:
    """The due time of a task that was put back; NULL for every other step, and if it is due at once."""
    return (
        f"CASE WHEN {new}.status = 'pending' AND {old}.status IN ('processing','ai_processing')"
        f" THEN {new}.run_after END"
    )


def error_of(new: str, old: str, died: str) -> str:
    """The error as JSON, or NULL.  died: the JSON for a worker's death, in this database's form."""
    return (
        f"CASE WHEN {new}.status = 'failed' THEN {new}.error"
        f" WHEN {new}.status = 'pending' AND {new}.deaths > {old}.deaths THEN {died} END"
    )
