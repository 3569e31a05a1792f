"""The log lines of attempts that did not succeed: written in the transaction that records the attempt's end."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.database.interface.database import Row, Transaction
from supervisor.store.sql.rows import decoded, encoded


def add(
    tx: Transaction, task_id: str, lease: int, attempt: int, worker_id: str, lines: Sequence[str]
) -> None:
    """Keep the lines of an attempt; of two for the same lease the first."""
    tx.execute(
        """INSERT INTO attempt_log (task_id, lease, attempt, worker_id, lines)
            VALUES (:task_id, :lease, :attempt, :worker_id, :lines) ON CONFLICT (task_id, lease) DO NOTHING""",
        task_id=task_id, lease=lease, attempt=attempt, worker_id=worker_id, lines=encoded(list(lines)),
    )  # fmt: skip


def of_task(tx: Transaction, task_id: str) -> list[Row]:
    """[{attempt, lease, worker, at, lines}] of a task, oldest first."""
    rows = tx.all(
        f"""SELECT attempt, lease, worker_id AS worker, {tx.as_text("at")} AS at, lines FROM attempt_log
            WHERE task_id = :task_id ORDER BY lease""",
        task_id=task_id,
    )
    return [{**row, "lines": decoded(row["lines"])} for row in rows]


def prune(tx: Transaction, older_than_seconds: float, most: int) -> int:
    """Delete the oldest; how many."""
    return tx.run(
        f"""DELETE FROM attempt_log WHERE (task_id, lease) IN (SELECT task_id, lease FROM attempt_log
            WHERE at < {tx.ago(":older_than_seconds")} ORDER BY at LIMIT :most)""",
        older_than_seconds=older_than_seconds, most=most,
    )  # fmt: skip
