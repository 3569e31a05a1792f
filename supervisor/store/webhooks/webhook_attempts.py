"""Each attempt to deliver a webhook, kept as long as the delivery, to show why a message did not arrive.

A worker inserts the row when it claims the delivery, and completes it with the result; if the worker dies, the row
stays without an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.database.interface.database import Row, Transaction
from supervisor.schema.statements import NOW, Built, each_of, in_seconds, new_row, param
from supervisor.schema.tables import WebhookAttempt

MOST_SHOWN = 100  # of a task: ten for each time that a delivery was sent

_COLUMNS = "id, type, url, state, attempts, due_at, last_status, last_error, created_at, ended_at"


_BEGIN = Built(new_row(WebhookAttempt, "delivery_id", "dispatch", "attempt", started_at=NOW))
_END = Built(
    WebhookAttempt.update(
        ended_at=NOW, next_at=in_seconds("seconds"), status=param("status"), error=param("error")
    ).where(WebhookAttempt.delivery_id == param("delivery_id"), WebhookAttempt.dispatch == param("dispatch"))
)
_FORGET = Built(WebhookAttempt.delete().where(WebhookAttempt.delivery_id.in_(each_of("delivery_ids"))))


def begin(tx: Transaction, delivery_id: str, dispatch: int, attempt: int) -> None:
    """Record that a worker has claimed the delivery with this number.  attempt: counted since the start of its
    schedule."""
    tx.execute(_BEGIN, delivery_id=delivery_id, dispatch=dispatch, attempt=attempt)


def end(
    tx: Transaction, delivery_id: str, dispatch: int, *, status: int | None = None, error: str | None = None,
    next_in_seconds: float | None = None,
) -> None:  # fmt: skip
    """Record the result.  status: of the answer, if there is one; error: a sentence; next: None if there is no next
    attempt."""
    tx.execute(
        _END, delivery_id=delivery_id, dispatch=dispatch, status=status, error=error, seconds=next_in_seconds
    )


def forget(tx: Transaction, delivery_ids: str) -> None:
    """Delete the attempts of deleted deliveries.  delivery_ids: as a JSON array."""
    tx.execute(_FORGET, delivery_ids=delivery_ids)


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
