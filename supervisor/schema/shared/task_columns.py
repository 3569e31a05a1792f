"""The initial values of a task's columns, and the columns that its user sees."""

from __future__ import annotations

# Columns that a producer must not set, with their initial values as SQL.  The times of creation are not here: each
# database sets them in its own way.
BORN_WITH = {
    "status": "'pending'",
    "stage": "'queued'",
    "progress": "0",
    "work_id": "NULL",
    "images": "NULL",
    "outputs": "NULL",
    "error": "NULL",
    "charge": "1",
    "admitted_charge": "0",
    "picture_count": "1",
    "missing": "0",
    "attempt": "0",
    "failures": "0",
    "deaths": "0",
    "max_attempts": "3",
    "lease": "0",
    "worker_id": "NULL",
    "ready": "0",
    "turn": "0",
    "dispatch": "1",
    "dispatched_at": "NULL",
    "begun_lease": "0",
    "next_poll_at": "NULL",
    "remote_deadline_at": "NULL",
    "asked_at": "NULL",
    "asked_since": "NULL",
    "questions": "0",
    "answered_at": "NULL",
    "expires_at": "NULL",
    "processing_started_at": "NULL",
    "deadline_at": "NULL",
    "finished_at": "NULL",
    "step": "0",
    "first_step": "0",
    "last_step": "0",
    "steps": "NULL",
    "lane": "''",
    "kept": "0",
}

# A change of one of these is a change of the work.
VISIBLE = ("status", "stage", "progress", "images", "outputs", "error")

# Of all these, a manual retry keeps some (charge rises by one) and resets the others; it resets run_after too.
_KEPT = (
    "status",
    "work_id",
    "charge",
    "admitted_charge",
    "picture_count",
    "attempt",
    "max_attempts",
    "lease",
    "turn",
    "dispatch",
    "begun_lease",
)
SET_BACK = {column: value for column, value in BORN_WITH.items() if column not in _KEPT} | {
    "run_after": "NULL"
}


def refusal_of(column: str) -> str:
    """The sentence for an INSERT that sets a column of Darkroom's own."""
    if column == "status":
        return "status may be given at insert only as pending"
    return f"{column} is set by Darkroom and can not be given at insert"
