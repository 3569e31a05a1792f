"""Tasks as their users see them: submit, look, cancel, retry."""

from __future__ import annotations

import dataclasses
from typing import Any

from config.settings import Settings
from supervisor.database import Row, Transaction
from supervisor.faults import AlreadyFinished, NotRetryable, QueueFull, TaskNotFound, TooManyOpenTasks
from supervisor.ids import new_ulid
from supervisor.lifecycle import FINAL, RETRYABLE
from supervisor.store import admission, places, tallies
from supervisor.store.rows import Page, encoded, task_view
from supervisor.waiting_order import place_key

# How long a refused producer is told to wait.  A slot of the queue frees with every task that starts.
RETRY_AFTER_OPEN_SECONDS = 10
RETRY_AFTER_FULL_SECONDS = 30


def _view(tx: Transaction) -> str:
    return f"""SELECT task_queue.*, works.images AS work_images,
        CASE WHEN task_queue.status IN ('processing','ai_processing')
            THEN (julianday({tx.now}) - julianday(task_queue.processing_started_at)) * 86400.0 END AS running_for
    FROM task_queue LEFT JOIN works ON works.id = task_queue.work_id"""


@dataclasses.dataclass(frozen=True)
class NewTask:
    """An order as it comes in.  run_after: RFC 3339 in UTC with milliseconds, or None.  task_id: None makes one."""

    user: str
    type: str
    params: dict[str, Any]
    priority: int = 0
    run_after: str | None = None
    task_id: str | None = None


def submit(
    tx: Transaction, settings: Settings, new: NewTask, *, pending: int | None = None
) -> dict[str, Any]:
    """Insert and admit a task in one transaction; its view.

    pending: how many tasks wait, by a reading of this second (CORRECTNESS 11); None counts them here.
    Raises BadParams, InsufficientCredits, TooManyOpenTasks, QueueFull: nothing is stored then.
    """
    _refuse_beyond_limits(tx, settings, new.user, pending)
    order = admission.check(tx, settings, new.user, new.type, new.params)
    task_id = new.task_id or new_ulid()
    tx.execute(
        "INSERT INTO task_queue (id, user_openid, type, params, priority, run_after) VALUES (?, ?, ?, ?, ?, ?)",
        task_id, new.user, new.type, encoded(new.params), new.priority, new.run_after,
    )  # fmt: skip
    born = {"id": task_id, "user_openid": new.user, "type": new.type, "priority": new.priority, "charge": 1}
    row = admission.admit(tx, settings, born, order)
    return task_view({**row, "work_images": None, "running_for": None})


def get(tx: Transaction, task_id: str, user: str | None = None) -> dict[str, Any] | None:
    """One task's view with its place in the line, or None.  user: only if it is theirs."""
    row = tx.one(
        f"{_view(tx)} WHERE task_queue.id = ? AND (? IS NULL OR task_queue.user_openid = ?)",
        task_id,
        user,
        user,
    )
    return None if row is None else task_view(row)


def page(
    tx: Transaction, user: str | None, *, status: str | None = None, type_: str | None = None, limit: int = 20,
    cursor: str | None = None,
) -> Page:  # fmt: skip
    """Tasks, newest first.  cursor: `next` of the page before; raises ValueError when it is not one."""
    created_at, last_id = cursor_place(cursor)
    rows = tx.all(
        f"""{_view(tx)} WHERE (? IS NULL OR task_queue.user_openid = ?) AND (? IS NULL OR task_queue.status = ?)
            AND (? IS NULL OR task_queue.type = ?)
            AND (? IS NULL OR (task_queue.created_at, task_queue.id) < (?, ?))
            ORDER BY task_queue.created_at DESC, task_queue.id DESC LIMIT ?""",
        user, user, status, status, type_, type_, created_at, created_at, last_id, limit + 1,
    )  # fmt: skip
    items = [task_view(row) for row in rows[:limit]]
    more = len(rows) > limit
    return Page(items, f"{rows[limit - 1]['created_at']}~{rows[limit - 1]['id']}" if more else None)


def cancel(tx: Transaction, task_id: str, user: str | None = None) -> dict[str, Any]:
    """Cancel an open task with its refund; its view, with the place that it leaves.

    Raises TaskNotFound, AlreadyFinished.
    """
    row = _own(tx, task_id, user)
    if row["status"] in FINAL:
        raise AlreadyFinished(task_id, row["status"])
    tx.execute(
        f"""UPDATE task_queue SET status = 'cancelled', stage = 'cancelled', dispatched_at = NULL, deadline_at = NULL,
            worker_id = CASE WHEN status = 'pending' THEN NULL ELSE worker_id END,
            work_id = coalesce(work_id, ?), finished_at = {tx.now}, updated_at = {tx.now}
        WHERE id = ? AND status IN ('pending','processing','ai_processing')""",
        new_ulid(), task_id,
    )  # fmt: skip
    tx.execute(
        f"""UPDATE remote_job SET cancel_wanted = 1, updated_at = {tx.now}
            WHERE task_id = ? AND charge = ? AND state IN ('submitting','waiting')""",
        task_id, row["charge"],
    )  # fmt: skip
    tallies.count(tx, "darkroom_tasks_finished_total", type=row["type"], outcome="cancelled")
    view = get(tx, task_id)
    assert view is not None
    return {**view, "place": place_key(row["priority"], row["turn"], row["created_at"], row["id"])}


def resubmit(tx: Transaction, settings: Settings, task_id: str, user: str | None = None) -> dict[str, Any]:
    """Run a failed or cancelled task again under a new charge; its view.

    Raises TaskNotFound, NotRetryable, BadParams, InsufficientCredits: nothing is changed then.
    """
    row = _own(tx, task_id, user)
    if row["status"] not in RETRYABLE:
        raise NotRetryable(task_id, f"it is {row['status']}")
    if tx.value("SELECT 1 FROM works WHERE id = ?", row["work_id"]) is None:
        raise NotRetryable(task_id, "its work was deleted")
    order = admission.check(tx, settings, row["user_openid"], row["type"], admission.params_of(row))
    tx.execute("UPDATE task_queue SET status = 'pending' WHERE id = ?", task_id)
    admission.admit(tx, settings, admission.row_to_admit(tx, task_id), order)
    view = get(tx, task_id)
    assert view is not None
    return view


def _own(tx: Transaction, task_id: str, user: str | None) -> Row:
    row = tx.one(
        "SELECT * FROM task_queue WHERE id = ? AND (? IS NULL OR user_openid = ?)", task_id, user, user
    )
    if row is None:
        raise TaskNotFound(task_id)
    return row


def _refuse_beyond_limits(tx: Transaction, settings: Settings, user: str, pending: int | None) -> None:
    limits = settings.limits
    if limits.open_tasks_per_user:
        count = tx.value(
            """SELECT count(*) FROM (SELECT 1 FROM task_queue WHERE user_openid = ?
                AND status IN ('pending','processing','ai_processing') LIMIT ?)""",
            user, limits.open_tasks_per_user,
        )  # fmt: skip
        if count >= limits.open_tasks_per_user:
            raise TooManyOpenTasks(limits.open_tasks_per_user, RETRY_AFTER_OPEN_SECONDS)
    if limits.pending_tasks:
        count = places.count_pending(tx) if pending is None else pending
        if count >= limits.pending_tasks:
            raise QueueFull(limits.pending_tasks, RETRY_AFTER_FULL_SECONDS)


def cursor_place(cursor: str | None) -> tuple[str | None, str | None]:
    """(created_at, id) of the last item of the page before, (None, None) for the first page."""
    if cursor is None:
        return None, None
    created_at, separator, last_id = cursor.partition("~")
    if not separator or len(created_at) != 24:
        raise ValueError("cursor is not one that this list has given")
    return created_at, last_id
