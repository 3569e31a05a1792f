"""Orders whose callers were cut off before they were answered: each may be taken over by one repeat of it.

SDKs of other services send an order again when its connection breaks, without an idempotency key, and some send n equal
orders on purpose.  So what looks equal is no repeat by itself.  A row stands here from when a connection has ended
before its answer was fully written.  The first equal request that began after that, and within REPEAT_SECONDS of it,
removes the row and is answered with the task: the row is gone then, and a second one is an order of its own.  A task
that was cancelled meanwhile is not taken over.

A process that is killed notes nothing.  The orders that it has stored and not answered are known all the same
(`supervisor.store.tasks.unanswered_orders`), and are taken over in the same way as soon as it has ended.  The sweep
makes rows here of those that nobody has taken over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from supervisor.database.interface.database import Row, Transaction
from supervisor.database.interface.life_lock import LifeLock
from supervisor.store.sql.rows import encoded
from supervisor.store.tasks import unanswered_orders
from supervisor.store.tasks.new_task import Repeatable
from supervisor.store.tasks.unanswered_orders import Unanswered

REPEAT_SECONDS = 60.0
FORGET_SECONDS = 3600.0
PRECISION_SECONDS = 0.005  # times are stored in milliseconds, and two of them are compared


def note(
    tx: Transaction, task_id: str, order: Repeatable, seconds_ago: float, holder: str | None = None
) -> None:
    """The order's connection ended so long ago, before its answer was fully written.  holder: who owed the answer."""
    if holder is not None:
        unanswered_orders.forget(tx, [Unanswered(order.body_hash, task_id)], holder)
    tx.execute(
        f"""INSERT INTO cut_order (task_id, user_openid, door, body_hash, cut_at)
            VALUES (:task_id, :user, :door, :body_hash, {tx.ago(":seconds_ago")})
            ON CONFLICT (task_id) DO UPDATE SET cut_at = excluded.cut_at""",
        task_id=task_id, user=order.user, door=order.door, body_hash=order.body_hash, seconds_ago=seconds_ago,
    )  # fmt: skip


def note_answered(tx: Transaction, answered: Sequence[Unanswered], holder: str) -> None:
    """These whole answers were written by the process that owed them, so no equal order repeats them.

    Others may have noted them as cut: a process that loses its connection looks ended for a moment.
    """
    unanswered_orders.forget(tx, answered, holder)
    tx.send(
        f"DELETE FROM cut_order WHERE {tx.is_one_of('task_id', ':answered')}",
        answered=encoded([each.task_id for each in answered]),
    )


def take_over(
    tx: Transaction, orders: Mapping[int, Repeatable], life: LifeLock | None = None
) -> dict[int, str]:
    """{n: task} of those orders that repeat one which was cut; each task is given once, ever.

    orders: numbered in the order in which they came.  life: of this process; without it, orders that ended processes
    have left unanswered are not looked for.
    """
    if not orders:
        return {}
    hashes = encoded(sorted({each.body_hash for each in orders.values()}))
    rows = tx.all(
        f"""SELECT task_id, user_openid, door, body_hash, NULL AS holder, {tx.seconds_since("cut_at")} AS seconds_ago
            FROM cut_order WHERE {tx.is_one_of("body_hash", ":hashes")}
            UNION ALL SELECT task_id, user_openid, door, body_hash, holder, NULL
            FROM unanswered_order WHERE {tx.is_one_of("body_hash", ":hashes")} AND holder <> :ours""",
        hashes=hashes, ours="" if life is None else life.name,
    )  # fmt: skip
    if not rows:
        return {}
    rows.sort(key=lambda row: (-(row["seconds_ago"] or 0.0), row["task_id"]))  # the longest cut first
    known = _Known(tx, life)
    wanted: dict[str, tuple[int, Row]] = {}
    for n, order in orders.items():
        since_begin = order.seconds_since_begin()
        for row in rows:
            is_equal = (row["user_openid"], row["door"], row["body_hash"]) == order.place
            if is_equal and row["task_id"] not in wanted and known.is_cut(row, since_begin):
                wanted[row["task_id"]] = n, row
                break
    # Another process may be about to take the same ones: the one that deletes the row has it.
    taken = [task_id for task_id in sorted(wanted) if _is_taken(tx, wanted[task_id][1])]
    return {wanted[task_id][0]: task_id for task_id in taken}


class _Known:
    """Which rows may be taken over.  Each process is asked for once."""

    def __init__(self, tx: Transaction, life: LifeLock | None) -> None:
        self._tx, self._life = tx, life
        self._ended: dict[str, bool] = {}

    def is_cut(self, row: Row, since_begin: float) -> bool:
        """By its time; or because the process that owed the answer has ended, so lately that no sweep has seen it."""
        if row["holder"] is None:
            return -PRECISION_SECONDS <= float(row["seconds_ago"]) - since_begin <= REPEAT_SECONDS
        if self._life is None:
            return False
        if row["holder"] not in self._ended:
            self._ended[row["holder"]] = self._life.has_ended(self._tx, row["holder"])
        return self._ended[row["holder"]]


def _is_taken(tx: Transaction, row: Row) -> bool:
    """A task that was cancelled has nothing to give: its row goes, too."""
    is_ours = {"id": row["task_id"]}
    if row["holder"] is None:
        taken = tx.run("DELETE FROM cut_order WHERE task_id = :id", **is_ours)
    else:
        taken = tx.run(
            "DELETE FROM unanswered_order WHERE body_hash = :hash AND task_id = :id AND holder = :holder",
            hash=row["body_hash"], holder=row["holder"], **is_ours,
        )  # fmt: skip
    return taken == 1 and tx.value("SELECT status FROM task_queue WHERE id = :id", **is_ours) not in (
        None,
        "cancelled",
    )


def prune(tx: Transaction, most: int) -> int:
    """Drop orders that no repeat can take over any more; how many went."""
    return tx.run(
        f"""DELETE FROM cut_order WHERE task_id IN
            (SELECT task_id FROM cut_order WHERE cut_at <= {tx.ago(":forget_seconds")} ORDER BY cut_at LIMIT :most)""",
        forget_seconds=FORGET_SECONDS, most=most,
    )  # fmt: skip
