"""Works: the users' view of their tasks."""

from __future__ import annotations

from typing import Any

from supervisor.core.errors import WorkNotFound
from supervisor.core.lifecycle import OPEN
from supervisor.core.shown_images import keys_of
from supervisor.database.interface.database import Transaction
from supervisor.media.shown_outputs import keys_of_outputs
from supervisor.store.retention.deletion_queue import enqueue_deletion
from supervisor.store.sql.rows import Page, decoded, encoded, work_doc
from supervisor.store.tasks import results, user_actions


def get(tx: Transaction, work_id: str, user: str) -> dict[str, Any] | None:
    """The user's own work as its `doc`, or None."""
    row = tx.one(
        "SELECT * FROM works WHERE id = :work_id AND user_openid = :user", work_id=work_id, user=user
    )
    return None if row is None else work_doc(row)


def page(tx: Transaction, user: str, *, limit: int = 20, cursor: str | None = None) -> Page:
    """The user's works, newest first.  cursor: `next` of the page before; raises ValueError for any other text."""
    created_at, last_id = user_actions.cursor_place(cursor)
    after = {} if created_at is None else {"created_at": created_at, "last_id": last_id}
    is_after = f"AND (created_at, id) < ({tx.as_time(':created_at')}, :last_id)" if after else ""
    rows = tx.all(
        f"""SELECT * FROM works WHERE user_openid = :user {is_after}
            ORDER BY created_at DESC, id DESC LIMIT :limit""",
        user=user, limit=limit + 1, **after,
    )  # fmt: skip
    more = len(rows) > limit
    items = [work_doc(row) for row in rows[:limit]]
    return Page(items, f"{items[-1]['created_at']}~{items[-1]['_id']}" if more else None)


def delete(tx: Transaction, work_id: str, user: str) -> list[str]:
    """Delete a work, and cancel its task first if that is open; the keys of the files to be deleted.

    The feed sends a `remove`.  Raises WorkNotFound.
    """
    row = tx.one(
        "SELECT * FROM works WHERE id = :work_id AND user_openid = :user", work_id=work_id, user=user
    )
    if (
        row is not None and tx.for_update
    ):  # tasks are locked before works, and this task may have changed meanwhile
        tx.value(f"SELECT 1 FROM task_queue WHERE id = :task_id{tx.for_update}", task_id=row["task_id"])
        row = tx.one("SELECT * FROM works WHERE id = :work_id", work_id=work_id)
    if row is None:
        raise WorkNotFound(work_id)
    if row["status"] in OPEN:
        user_actions.cancel(tx, row["task_id"])
    shown = (*keys_of(decoded(row["images"])), *keys_of_outputs(decoded(row["outputs"])))
    keys = sorted({*shown, *results.keys(tx, encoded([row["task_id"]]))})
    tx.execute("DELETE FROM result_file WHERE task_id = :task_id", task_id=row["task_id"])
    tx.execute("DELETE FROM works WHERE id = :work_id", work_id=work_id)
    enqueue_deletion(tx, keys)
    return keys
