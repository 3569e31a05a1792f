"""Orders whose callers were cut off before they were answered: each may be taken over by one repeat of it.

SDKs of other services send an order again when its connection breaks, without an idempotency key, and some send n equal
orders on purpose.  So what looks equal is no repeat by itself.  A row stands here from when a connection has ended
before its answer was fully written.  The first equal request that began after that, and within REPEAT_SECONDS of it,
removes the row and is answered with the task: the row is gone then, and a second one is an order of its own.  A task
that was cancelled meanwhile is not taken over.
"""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.database.interface.database import Transaction
from supervisor.store.sql.rows import encoded
from supervisor.store.tasks.new_task import Repeatable

REPEAT_SECONDS = 60.0
FORGET_SECONDS = 3600.0
PRECISION_SECONDS = 0.005  # times are stored in milliseconds, and two of them are compared


def note(tx: Transaction, task_id: str, order: Repeatable, seconds_ago: float) -> None:
    """The order's connection ended so long ago, before its answer was fully written."""
    tx.execute(
        f"""INSERT INTO cut_order (task_id, user_openid, door, body_hash, cut_at)
            VALUES (:task_id, :user, :door, :body_hash, {tx.ago(":seconds_ago")})
            ON CONFLICT (task_id) DO UPDATE SET cut_at = excluded.cut_at""",
        task_id=task_id, user=order.user, door=order.door, body_hash=order.body_hash, seconds_ago=seconds_ago,
    )  # fmt: skip


def take_over(tx: Transaction, orders: Mapping[int, Repeatable]) -> dict[int, str]:
    """{n: task} of those orders that repeat one which was cut; each task is given once, ever.

    orders: numbered in the order in which they came.
    """
    if not orders:
        return {}
    rows = tx.all(
        f"""SELECT task_id, user_openid, door, body_hash, {tx.seconds_since("cut_at")} AS seconds_ago
            FROM cut_order WHERE {tx.is_one_of("body_hash", ":hashes")} ORDER BY cut_at, task_id""",
        hashes=encoded(sorted({each.body_hash for each in orders.values()})),
    )  # fmt: skip
    if not rows:
        return {}
    wanted: dict[str, int] = {}
    for n, order in orders.items():
        since_begin = order.seconds_since_begin()
        for row in rows:
            is_equal = (row["user_openid"], row["door"], row["body_hash"]) == order.place
            after_cut = row["seconds_ago"] - since_begin
            if (
                is_equal
                and row["task_id"] not in wanted
                and -PRECISION_SECONDS <= after_cut <= REPEAT_SECONDS
            ):
                wanted[row["task_id"]] = n
                break
    # Another process may be about to take the same ones: the one that deletes the row has it.
    taken = (task_id for task_id in sorted(wanted) if _is_taken(tx, task_id))
    return {wanted[task_id]: task_id for task_id in taken}


def _is_taken(tx: Transaction, task_id: str) -> bool:
    """A task that was cancelled has nothing to give: its row goes, too."""
    taken = tx.run("DELETE FROM cut_order WHERE task_id = :id", id=task_id) == 1
    return taken and tx.value("SELECT status FROM task_queue WHERE id = :id", id=task_id) not in (
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
