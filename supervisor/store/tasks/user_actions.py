"""Users' actions on their tasks: submit, cancel, retry."""

from __future__ import annotations

from typing import Any

from config.settings import Settings
from supervisor.core.errors import AlreadyFinished, NotRetryable, TaskNotFound
from supervisor.core.lifecycle import FINAL, RETRYABLE
from supervisor.core.queue_position import place_key
from supervisor.database.interface.database import Row, Transaction
from supervisor.schema.tables import OPEN
from supervisor.store.counters import counters, open_task_counts
from supervisor.store.tasks import admission, batch_submission
from supervisor.store.tasks.ending import end_task
from supervisor.store.tasks.new_task import NewTask as NewTask
from supervisor.store.tasks.submit import check_room, submit_many
from supervisor.store.tasks.task_views import cursor_place as cursor_place
from supervisor.store.tasks.task_views import get as get
from supervisor.store.tasks.task_views import page as page


def submit(
    tx: Transaction, settings: Settings, new: NewTask, *, pending: int | None = None
) -> dict[str, Any]:
    """Insert and admit one task; its view.  pending: as in `submit_many`.

    Raises BadParams, InsufficientCredits, TooManyOpenTasks, QueueFull, KeyReused: nothing is stored then.
    """
    (outcome,) = submit_many(tx, settings, [new], pending=pending)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome.view


def cancel(tx: Transaction, task_id: str, user: str | None = None) -> dict[str, Any]:
    """Cancel an open task with its refund; its view, with the place that it had.

    Raises TaskNotFound, AlreadyFinished.
    """
    row = _own(tx, task_id, user)
    if row["status"] in FINAL:
        raise AlreadyFinished(task_id, row["status"])
    # For a task that was never admitted it is unknown whether its type exists.
    counted_as = row["type"] if row["admitted_charge"] else counters.OTHER
    ended = end_task(tx, "cancelled", f"id = :task_id AND {OPEN}", counted_as=counted_as, task_id=task_id)
    assert ended is not None
    view = get(tx, task_id)
    assert view is not None
    return {**view, "place": place_key(row["priority"], row["turn"], row["created_at"], row["id"])}


def resubmit(
    tx: Transaction, settings: Settings, task_id: str, user: str | None = None, *, obeys_limits: bool = False
) -> dict[str, Any]:
    """Run a failed or cancelled task again under a new charge; its view.

    obeys_limits: whether the limits for orders apply; they do for users, not for operators.

    Raises TaskNotFound, NotRetryable, BadParams, InsufficientCredits, and, if limits apply, TooManyOpenTasks and
    QueueFull: nothing is changed then.
    """
    row = _own(tx, task_id, user)
    if row["status"] not in RETRYABLE:
        raise NotRetryable(task_id, f"it is {row['status']}")
    if tx.value("SELECT 1 FROM works WHERE id = :work_id", work_id=row["work_id"]) is None:
        raise NotRetryable(task_id, "its work was deleted")
    tx.execute("UPDATE task_queue SET status = 'pending' WHERE id = :task_id", task_id=task_id)
    if obeys_limits:
        _check_room_for(tx, settings, row)
    admission.admit_one(tx, settings, task_id)
    view = get(tx, task_id)
    assert view is not None
    return view


def _check_room_for(tx: Transaction, settings: Settings, row: Row) -> None:
    """Check whether a resubmitted task may stay open.  It is open by now, so it is counted itself.

    The count is made under the lock of the user's account, so the second of two simultaneous retries sees the first.
    """
    limits, user = settings.limits, row["user_openid"]
    known = batch_submission.known(
        tx, lines=[(user, row["priority"])], count_open_to=(limits.open_tasks_per_user or -1) + 1
    )
    pending = open_task_counts.pending(tx) if limits.pending_tasks else 1
    check_room(settings, open_tasks=known.open_tasks[user] - 1, pending=pending - 1)


def _own(tx: Transaction, task_id: str, user: str | None) -> Row:
    row = tx.one(
        f"""SELECT * FROM task_queue
            WHERE id = :task_id AND (CAST(:user AS TEXT) IS NULL OR user_openid = :user){tx.for_update}""",
        task_id=task_id,
        user=user,
    )
    if row is None:
        raise TaskNotFound(task_id)
    return row
