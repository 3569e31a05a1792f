"""The exact number of open tasks, without reading them: triggers keep the numbers
(`supervisor.schema.shared.count_rows`)."""

from __future__ import annotations

from supervisor.database.interface.database import Pending, Transaction

_FOLD = """WITH taken AS (DELETE FROM task_count_delta WHERE ctid = ANY (ARRAY
        (SELECT ctid FROM task_count_delta LIMIT :most FOR UPDATE SKIP LOCKED)) RETURNING type, status, n),
    added AS (INSERT INTO task_count (type, status, n)
        SELECT type, status, sum(n) FROM taken GROUP BY type, status ORDER BY type, status
        ON CONFLICT (type, status) DO UPDATE SET n = task_count.n + excluded.n RETURNING 1)
    SELECT count(*) FROM taken, (SELECT count(*) FROM added) AS done"""


def open_tasks(tx: Transaction) -> dict[tuple[str, str], int]:
    """{(type, status): tasks}, as this transaction sees them; zeros are left out."""
    rows = tx.all(
        f"""SELECT type, status, sum(n) AS n FROM {_numbers(tx)} AS numbers
            GROUP BY type, status HAVING sum(n) <> 0"""
    )
    return {(row["type"], row["status"]): int(row["n"]) for row in rows}


def pending(tx: Transaction) -> int:
    """All pending tasks, whether they may run yet or not."""
    return int(
        tx.value(f"SELECT coalesce(sum(n), 0) FROM {_numbers(tx)} AS numbers WHERE status = 'pending'")
    )


def fold(tx: Transaction, most: int) -> Pending[int]:
    """Sum up the appended rows and delete them; how many there were.  None where numbers are changed in place."""
    if not tx.dialect.has_many_writers:
        return Pending(int)
    asked = tx.ask(_FOLD, most=most)
    return Pending(lambda: int(asked.value()))


def forget_empty(tx: Transaction) -> int:
    """Delete the rows with zero tasks; otherwise each misspelt type of a producer would leave a row."""
    return tx.run("DELETE FROM task_count WHERE n = 0")


def _numbers(tx: Transaction) -> str:
    """SQL for where the numbers stand; where many write at once, they append what they add."""
    appended = "(SELECT * FROM task_count UNION ALL SELECT * FROM task_count_delta)"
    return appended if tx.dialect.has_many_writers else "task_count"
