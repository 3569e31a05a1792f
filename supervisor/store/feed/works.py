"""Works: the users' view of their tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

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


@dataclass(frozen=True)
class Search:
    """Which works are wanted; None for any.  Times are texts as the database has them; the first is included, the
    second is not."""

    type: str | None = None
    status: str | None = None
    created_from: str | None = None
    created_before: str | None = None


def page(
    tx: Transaction, user: str, search: Search = Search(), *, limit: int = 20, cursor: str | None = None
) -> Page:
    """The user's works that a search finds, newest first.

    cursor: `next` of the page before; raises ValueError for any other text.
    """
    created_at, last_id = user_actions.cursor_place(cursor)
    conditions, values = _conditions(tx, search)
    if created_at is not None:
        conditions += f" AND (created_at, id) < ({tx.as_time(':created_at')}, :last_id)"
        values |= {"created_at": created_at, "last_id": last_id}
    rows = tx.all(
        f"""SELECT * FROM works{_by_index(tx, search)} WHERE user_openid = :user {conditions}
            ORDER BY created_at DESC, id DESC LIMIT :limit""",
        user=user, limit=limit + 1, **values,
    )  # fmt: skip
    more = len(rows) > limit
    items = [work_doc(row) for row in rows[:limit]]
    return Page(items, f"{items[-1]['created_at']}~{items[-1]['_id']}" if more else None)


def count(tx: Transaction, user: str, search: Search, most: int) -> int:
    """How many works a search finds; `most` where there are more."""
    conditions, values = _conditions(tx, search)
    return int(
        tx.value(
            f"""SELECT count(*) FROM (SELECT 1 FROM works{_by_index(tx, search)} WHERE user_openid = :user {conditions}
                ORDER BY created_at DESC, id DESC LIMIT :most) AS found""",
            user=user, most=most, **values,
        )
    )  # fmt: skip


class Shared(NamedTuple):
    """A work for somebody who has a link to it.  user: its owner, which is not in the answer."""

    user: str
    doc: dict[str, Any]


def shared(tx: Transaction, work_id: str) -> Shared | None:
    """A work of any user; None once it was deleted."""
    row = tx.one("SELECT * FROM works WHERE id = :work_id", work_id=work_id)
    return None if row is None else Shared(row["user_openid"], work_doc(row))


def _by_index(tx: Transaction, search: Search) -> str:
    """The index to use, for SQLite: without statistics it takes the index with more conditions, and reads all types."""
    return tx.by_index("works_type") if search.type is not None else ""


def _conditions(tx: Transaction, search: Search) -> tuple[str, dict[str, Any]]:
    """(conditions, their values): only those that the search has, because a planner uses no
    index for `x = :x OR :x IS NULL`."""
    asked = {
        "type": (search.type, "type = :type"),
        "status": (search.status, "status = :status"),
        "created_from": (search.created_from, f"created_at >= {tx.as_time(':created_from')}"),
        "created_before": (search.created_before, f"created_at < {tx.as_time(':created_before')}"),
    }
    wanted = {name: (value, condition) for name, (value, condition) in asked.items() if value is not None}
    conditions = "".join(f" AND {condition}" for _, condition in wanted.values())
    return conditions, {name: value for name, (value, _) in wanted.items()}


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
    for table in ("result_file", "task_step"):
        tx.execute(f"DELETE FROM {table} WHERE task_id = :task_id", task_id=row["task_id"])
    tx.execute("DELETE FROM works WHERE id = :work_id", work_id=work_id)
    enqueue_deletion(tx, keys)
    return keys
