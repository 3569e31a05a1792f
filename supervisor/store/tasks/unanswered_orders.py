"""Orders of a door without an idempotency key that are stored and not answered yet, with the web process that owes the
answer.

A row is written in the transaction of its order, and deleted some time after the answer was fully written, together
with other writes.  While its process lives, the row means nothing.  Once the process has ended (`Lives`), nobody
answers any more, and nobody has noted that the connection was cut: the row says so instead, and a repeat of the order
takes the task over (`supervisor.store.tasks.cut_orders`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from supervisor.database.interface.database import Transaction
from supervisor.database.interface.life_lock import Lives
from supervisor.store.sql.rows import encoded
from supervisor.store.tasks.new_task import Repeatable


class Unanswered(NamedTuple):
    """What names a row."""

    body_hash: str
    task_id: str


def note(tx: Transaction, orders: Sequence[tuple[str, Repeatable]], holder: str) -> None:
    """The process with this lock owes the answers.  orders: with the task of each, which it may have taken over."""
    tx.send(
        f"""INSERT INTO unanswered_order (body_hash, task_id, user_openid, door, holder)
            SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, :holder FROM {tx.rows(":orders")} AS owed
            WHERE true ON CONFLICT (body_hash, task_id) DO UPDATE SET holder = excluded.holder""",
        holder=holder, orders=encoded([(each.body_hash, task_id, each.user, each.door) for task_id, each in orders]),
    )  # fmt: skip


def forget(tx: Transaction, answered: Sequence[Unanswered], holder: str) -> None:
    """The process with this lock owes these answers no more."""
    tx.send(
        f"""DELETE FROM unanswered_order WHERE holder = :holder AND (body_hash, task_id) IN
            (SELECT value ->> 0, value ->> 1 FROM {tx.rows(":answered")} AS done)""",
        holder=holder, answered=encoded(answered),
    )  # fmt: skip


def note_cuts(tx: Transaction, lives: Lives) -> int:
    """Make cut orders of those whose processes have ended, and forget those whose tasks are gone; how many were cut.

    The cut counts from now on, so an order that is sent again as soon as everything works again still finds it.
    """
    cut = 0
    for row in tx.all("SELECT DISTINCT holder FROM unanswered_order ORDER BY holder"):
        if lives.has_ended(tx, row["holder"]):
            cut += _note_cuts_of(tx, row["holder"])
    tx.execute(
        """DELETE FROM unanswered_order WHERE NOT EXISTS
            (SELECT 1 FROM task_queue WHERE task_queue.id = unanswered_order.task_id)"""
    )
    return cut


def _note_cuts_of(tx: Transaction, holder: str) -> int:
    rows = tx.all(  # first locked, for a repeat may be about to take one over
        f"""SELECT body_hash, task_id, user_openid, door FROM unanswered_order
            WHERE holder = :holder ORDER BY body_hash, task_id{tx.for_update}""",
        holder=holder,
    )
    tx.send(
        f"""INSERT INTO cut_order (body_hash, task_id, user_openid, door, cut_at)
            SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, {tx.moment} FROM {tx.rows(":cut")} AS cut
            WHERE true ON CONFLICT (task_id) DO NOTHING""",
        cut=encoded([tuple(row.values()) for row in rows]),
    )
    forget(tx, [Unanswered(row["body_hash"], row["task_id"]) for row in rows], holder)
    return len(rows)
