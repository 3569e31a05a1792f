"""Rows as Python values, with JSON decoded."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from supervisor.core.queue_position import place_key
from supervisor.database.interface.database import Row

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def decoded(value: Any) -> Any:
    """A JSON column's value: text on SQLite, already decoded elsewhere."""
    return json.loads(value) if isinstance(value, str | bytes) else value


def encoded(value: Any) -> str:
    """A value for a JSON column."""
    return _ENCODER.encode(value)


@dataclasses.dataclass(frozen=True)
class Page:
    """One page of a list; `next` is the cursor of the one after, None at the end."""

    items: list[dict[str, Any]]
    next: str | None


def task_view(row: Row) -> dict[str, Any]:
    """A task as docs/http-reference.md shows it; pictures by key, links unsigned.

    Instead of position and ETA it has the input of `WaitingOrder.placed`: its place (None unless it is pending),
    whether it waits in the queue or may not run yet, the seconds until it may, those that it has been running, and
    those that its finished steps took.
    """
    is_waiting = row["status"] == "pending"
    images = decoded(row["work_images"]) if row["status"] == "completed" else None
    return {
        "task_id": row["id"],
        "work_id": row["work_id"],
        "user_openid": row["user_openid"],
        "type": row["type"],
        "status": row["status"],
        "stage": row["stage"],
        "progress": row["progress"],
        "place": place_key(row["priority"], row["turn"], row["created_at"], row["id"])
        if is_waiting
        else None,
        "is_in_line": is_waiting and bool(row["ready"]),
        "running_for_seconds": row["running_for"],
        "spent_seconds": row["spent"],
        "due_in_seconds": row["due_in"],
        "attempt": number_of_attempt(row),
        "max_attempts": row["max_attempts"],
        "error": decoded(row["error"]),
        "result": {"images": images, "outputs": decoded(row["work_outputs"])} if images is not None else None,
        "created_at": row["created_at"],
        "started_at": row["processing_started_at"],
        "finished_at": row["finished_at"],
    }


def number_of_attempt(row: Row) -> int:
    """The number of the task's present attempt, from 1; 0 before the first.

    It is the number of failed attempts plus one, because the column `attempt` also counts claims that were taken back.
    """
    if not row["attempt"]:
        return 0
    ended = row["status"] == "failed" and row["failures"] > 0  # its last failure is counted already
    return int(min(row["failures"] + (not ended), row["max_attempts"]))


def work_doc(row: Row) -> dict[str, Any]:
    """A work as the `doc` of docs/http-reference.md, pictures by key."""
    return {
        "_id": row["id"],
        "task_id": row["task_id"],
        "user_openid": row["user_openid"],
        "type": row["type"],
        "status": row["status"],
        "stage": row["stage"],
        "progress": row["progress"],
        "images": decoded(row["images"]),
        "outputs": decoded(row["outputs"]),
        "error": decoded(row["error"]),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }
