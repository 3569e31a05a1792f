"""Each attempt to deliver a webhook, kept as long as the delivery, to show why a message did not arrive.

A worker inserts the row when it claims the delivery, and completes it with the result; if the worker dies, the row
stays without an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.database.interface.database import Row, Transaction

MOST_SHOWN = 100  # of a task: ten for each time that a delivery was sent

_COLUMNS = "id, type, url, state, attempts, due_at, last_status, last_error, created_at, ended_at"


def begin(tx: Transaction, delivery_id: str, dispatch: int, attempt: int) -> None:
    """Record that a worker has claimed the delivery with this number.  attempt: counted since the start of its
    schedule."""
    tx.execute(
        f"""INSERT INTO webhook_attempt (delivery_id, dispatch, attempt, started_at)
            VALUES (:delivery_id, :dispatch, :attempt, {tx.now})""",
        delivery_id=delivery_id, dispatch=dispatch, attempt=attempt,
    )  # fmt: skip


def end(
    tx: Transaction, delivery_id: str, dispatch: int, *, status: int | None = None, error: str | None = None,
    next_in_seconds: float | None = None,
) -> None:  # fmt: skip
    """Record the result.  status: of the answer, if there is one; error: a sentence; next: None if there is no next
    attempt."""
    next_at = "NULL" if next_in_seconds is None else tx.in_seconds(":seconds")
    times = {} if next_in_seconds is None else {"seconds": next_in_seconds}
    tx.execute(
        f"""UPDATE webhook_attempt SET ended_at = {tx.now}, next_at = {next_at}, status = :status, error = :error
            WHERE delivery_id = :delivery_id AND dispatch = :dispatch""",
        delivery_id=delivery_id, dispatch=dispatch, status=status, error=error, **times,
    )  # fmt: skip


def forget(tx: Transaction, delivery_ids: str) -> None:
    """Delete the attempts of deleted deliveries.  delivery_ids: as a JSON array."""
    tx.execute(
        f"DELETE FROM webhook_attempt WHERE delivery_id IN {tx.each_of(':delivery_ids')}",
        delivery_ids=delivery_ids,
    )


def of_task(tx: Transaction, task_id: str) -> list[dict[str, Any]]:
    """A task's deliveries, oldest first, each with its `tries`: the attempts, the newest 100.

    `url` is without its query, which may be a key.
    """
    deliveries = tx.all(
        f"SELECT {_COLUMNS} FROM webhook_delivery WHERE task_id = :task_id ORDER BY created_at, id",
        task_id=task_id,
    )
    rows = tx.all(
        """SELECT delivery_id, attempt, started_at AS at, ended_at, status, error, next_at FROM webhook_attempt
            WHERE delivery_id IN (SELECT id FROM webhook_delivery WHERE task_id = :task_id)
            ORDER BY started_at DESC LIMIT :most_shown""",
        task_id=task_id, most_shown=MOST_SHOWN,
    )  # fmt: skip
    return [
        {**each, "url": without_query(each["url"]), "tries": _of(each["id"], rows)} for each in deliveries
    ]


def without_query(url: str) -> str:
    """An address for people, without its query, which may be a key."""
    return url.partition("?")[0]


def _of(delivery_id: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    names = ("at", "attempt", "ended_at", "status", "error", "next_at")
    found = [{name: row[name] for name in names} for row in rows if row["delivery_id"] == delivery_id]
    return found[::-1]
