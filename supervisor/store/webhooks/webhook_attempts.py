"""Each attempt to deliver a webhook, kept as long as the delivery: who asks why it did not arrive reads it here.

A row begins when a worker takes a hint up and ends with what came of it; one that never ends died with its worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.database.interface.database import Row, Transaction

MOST_SHOWN = 100  # of a task: ten for each time that somebody has sent a delivery

_COLUMNS = "id, type, url, state, attempts, due_at, last_status, last_error, created_at, ended_at"


def begin(tx: Transaction, delivery_id: str, dispatch: int, attempt: int) -> None:
    """A worker has taken up the hint of this number.  attempt: counted since it was last sent from the beginning."""
    tx.execute(
        f"""INSERT INTO webhook_attempt (delivery_id, dispatch, attempt, started_at)
            VALUES (:delivery_id, :dispatch, :attempt, {tx.now})""",
        delivery_id=delivery_id, dispatch=dispatch, attempt=attempt,
    )  # fmt: skip


def end(
    tx: Transaction, delivery_id: str, dispatch: int, *, status: int | None = None, error: str | None = None,
    next_in_seconds: float | None = None,
) -> None:  # fmt: skip
    """What came of it.  status: of the answer, if there was one; error: a sentence; next: None for none."""
    next_at = "NULL" if next_in_seconds is None else tx.in_seconds(":seconds")
    times = {} if next_in_seconds is None else {"seconds": next_in_seconds}
    tx.execute(
        f"""UPDATE webhook_attempt SET ended_at = {tx.now}, next_at = {next_at}, status = :status, error = :error
            WHERE delivery_id = :delivery_id AND dispatch = :dispatch""",
        delivery_id=delivery_id, dispatch=dispatch, status=status, error=error, **times,
    )  # fmt: skip


def forget(tx: Transaction, delivery_ids: str) -> None:
    """Those of deliveries that are forgotten.  delivery_ids: as a JSON array."""
    tx.execute(
        f"DELETE FROM webhook_attempt WHERE delivery_id IN {tx.each_of(':delivery_ids')}",
        delivery_ids=delivery_ids,
    )


def of_task(tx: Transaction, task_id: str) -> list[dict[str, Any]]:
    """What a task's webhook was or will be told, oldest first, each with its `tries`: the attempts, the newest 100.

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
    """An address as people may see it: what follows the question mark may be a key."""
    return url.partition("?")[0]


def _of(delivery_id: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    names = ("at", "attempt", "ended_at", "status", "error", "next_at")
    found = [{name: row[name] for name in names} for row in rows if row["delivery_id"] == delivery_id]
    return found[::-1]
