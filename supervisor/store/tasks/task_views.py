"""Tasks as their users see them: one, or a page of them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, NamedTuple

from supervisor.database.interface.database import Transaction
from supervisor.store.sql.conditions import seconds_of_steps
from supervisor.store.sql.rows import Page, decoded, task_view

_CURSOR = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z)~([A-Za-z0-9_-]{1,64})"
)


def get(tx: Transaction, task_id: str, user: str | None = None) -> dict[str, Any] | None:
    """One task's view with its place in the queue, or None.  user: only if the task is theirs."""
    row = tx.one(
        f"""{_view(tx)} WHERE task_queue.id = :task_id
            AND (CAST(:user AS TEXT) IS NULL OR task_queue.user_openid = :user)""",
        task_id=task_id, user=user,
    )  # fmt: skip
    return None if row is None else task_view(row)


class Order(NamedTuple):
    """What a task was ordered as."""

    type: str
    params: dict[str, Any]


def order_of(tx: Transaction, task_id: str, user: str) -> Order | None:
    """The order of the user's own task, or None."""
    row = tx.one(
        "SELECT type, params FROM task_queue WHERE id = :task_id AND user_openid = :user",
        task_id=task_id, user=user,
    )  # fmt: skip
    return None if row is None else Order(row["type"], decoded(row["params"]))


def params_of(tx: Transaction, task_id: str) -> dict[str, Any]:
    """What a task was ordered with; nothing of one that is gone."""
    params = decoded(tx.value("SELECT params FROM task_queue WHERE id = :id", id=task_id))
    return params if isinstance(params, dict) else {}


def page(
    tx: Transaction, user: str | None, *, status: str | None = None, type_: str | None = None, limit: int = 20,
    cursor: str | None = None,
) -> Page:  # fmt: skip
    """Tasks, newest first.  cursor: `next` of the page before; raises ValueError for any other text."""
    created_at, last_id = cursor_place(cursor)
    # The query has only the requested conditions: with "or it is null", a planner would use no index.
    asked: dict[str, Any] = {"user_openid": user, "status": status, "type": type_}
    wanted = {name: value for name, value in asked.items() if value is not None}
    conditions = [f"task_queue.{name} = :{name}" for name in wanted]
    if created_at is not None and last_id is not None:
        conditions.append("(task_queue.created_at, task_queue.id) < (:created_at, :last_id)")
        wanted |= {"created_at": created_at, "last_id": last_id}
    rows = tx.all(
        f"""{_view(tx)} {"WHERE " if conditions else ""}{" AND ".join(conditions)}
            ORDER BY task_queue.created_at DESC, task_queue.id DESC LIMIT :most""",
        **wanted, most=limit + 1,
    )  # fmt: skip
    items = [task_view(row) for row in rows[:limit]]
    more = len(rows) > limit
    return Page(items, f"{rows[limit - 1]['created_at']}~{rows[limit - 1]['id']}" if more else None)


def cursor_place(cursor: str | None) -> tuple[str | None, str | None]:
    """(created_at, id) of the last item of the page before, (None, None) for the first page."""
    if cursor is None:
        return None, None
    place = _CURSOR.fullmatch(cursor)
    if place is None:
        raise ValueError("cursor is not one that this list has given")
    datetime.fromisoformat(place[1])  # of the right form, but perhaps not a time: ValueError
    return place[1], place[2]


# The columns that `task_view` shows, without params: those of a hundred tasks may have a hundred megabytes.
_SHOWN = ", ".join(
    f"task_queue.{column}"
    for column in (
        "id", "work_id", "user_openid", "type", "status", "stage", "progress", "priority", "turn", "ready",
        "attempt", "failures", "max_attempts", "error", "created_at", "processing_started_at",
        "finished_at",
    )
)  # fmt: skip


def _view(tx: Transaction) -> str:
    return f"""SELECT {_SHOWN}, works.images AS work_images, works.outputs AS work_outputs,
        CASE WHEN task_queue.status IN ('processing','ai_processing')
            THEN {tx.seconds_since("task_queue.processing_started_at")} END AS running_for,
        CASE WHEN task_queue.status = 'pending' AND task_queue.ready = 0
            THEN {tx.seconds_between(tx.moment, "task_queue.run_after")} END AS due_in,
        {seconds_of_steps()} AS spent
    FROM task_queue LEFT JOIN works ON works.id = task_queue.work_id"""
