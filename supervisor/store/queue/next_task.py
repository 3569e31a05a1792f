"""The next tasks: the first of all waiting tasks, in the order in which they run."""

from __future__ import annotations

from typing import Any

from supervisor.core.queue_position import place_key
from supervisor.database.interface.database import Transaction
from supervisor.schema.tables import READY
from supervisor.store.queue.ready_tasks import lines_with_ready_tasks
from supervisor.store.sql.conditions import waits_since


def first_in_line(tx: Transaction, types: list[str], most: int) -> list[dict[str, Any]]:
    """The first tasks that may run, with their `position` in the whole queue: 0 is next.

    types: of all pending tasks.  Reads so many rows of each lane from the pick's index.  Tasks of a paused or full type
    keep their position, though others may run before them.
    """
    rows = [
        row
        for type_, lane in lines_with_ready_tasks(tx).get()
        if type_ in types
        for row in tx.all(
            f"""SELECT id AS task_id, user_openid, type, priority, turn, created_at,
                {tx.seconds_since(waits_since(tx))} AS waiting_seconds
                FROM task_queue WHERE {READY} AND type = :type_ AND lane = :lane
                ORDER BY priority DESC, turn, created_at, id LIMIT :most""",
            type_=type_, lane=lane, most=most,
        )
    ]  # fmt: skip
    rows.sort(key=lambda row: place_key(row["priority"], row["turn"], row["created_at"], row["task_id"]))
    shown = ("task_id", "user_openid", "type", "priority", "created_at")
    return [
        {
            "position": position,
            **{name: row[name] for name in shown},
            "waiting_seconds": max(0.0, round(float(row["waiting_seconds"]), 1)),
        }
        for position, row in enumerate(rows[:most])
    ]
