"""What a task's columns hold before anything has happened to it, and which of them its user sees."""

from __future__ import annotations

# Columns a producer may not set, with what they are born with, as SQL.  The times of creation are not here: they are
# the database's own, and each database says that its way.
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
}

# A change of one of these is a change of the work.
VISIBLE = ("status", "stage", "progress", "images", "outputs", "error")

# The columns a manual retry sets back, and to what.  charge rises by one; lease and attempt are kept.
SET_BACK = {
    "failures": "0",
    "deaths": "0",
    "ready": "0",
    "progress": "0",
    "stage": "'queued'",
    "error": "NULL",
    "images": "NULL",
    "outputs": "NULL",
    "missing": "0",
    "worker_id": "NULL",
    "deadline_at": "NULL",
    "dispatched_at": "NULL",
    "run_after": "NULL",
    "next_poll_at": "NULL",
    "remote_deadline_at": "NULL",
    "asked_at": "NULL",
    "asked_since": "NULL",
    "questions": "0",
    "answered_at": "NULL",
    "expires_at": "NULL",
    "processing_started_at": "NULL",
    "finished_at": "NULL",
}


def refusal_of(column: str) -> str:
    """The sentence for an INSERT that gives a column Darkroom sets itself."""
    if column == "status":
        return "status may be given at insert only as pending"
    return f"{column} is set by Darkroom and can not be given at insert"
