"""The shop's own database, for the examples on FastAPI and Flask: which order is which task, and what was heard of it.

A message may come before the answer to the order was noted, so what it says is kept by the task's id.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from darkroom_client import WebhookMessage

SCHEMA = """
CREATE TABLE IF NOT EXISTS shop_order (number TEXT PRIMARY KEY, task_id TEXT);
CREATE TABLE IF NOT EXISTS heard (message_id TEXT PRIMARY KEY, task_id TEXT, status TEXT, pictures INTEGER);
"""


class OrdersDatabase:
    """All methods block."""

    def __init__(self, path: str) -> None:
        self._path = path
        with closing(self._open()) as database:
            database.executescript(SCHEMA)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=15)

    def note_order(self, number: str, task_id: str) -> None:
        with closing(self._open()) as database, database:
            database.execute("INSERT INTO shop_order VALUES (?, ?) ON CONFLICT DO NOTHING", (number, task_id))

    def note_end(self, message: WebhookMessage) -> None:
        """Once for each message, however often it comes.  What else follows from it belongs into this transaction."""
        task = message.task
        with closing(self._open()) as database, database:
            database.execute(
                "INSERT INTO heard VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (message.id, task.task_id, task.status, len(task.images)),
            )

    def order(self, number: str) -> dict[str, object] | None:
        with closing(self._open()) as database:
            database.row_factory = sqlite3.Row
            row = database.execute(
                """SELECT number, task_id, max(status) AS status, coalesce(sum(pictures), 0) AS pictures
                    FROM shop_order LEFT JOIN heard USING (task_id) WHERE number = ? GROUP BY number""",
                (number,),
            ).fetchone()
        return None if row is None else dict(row)
