"""Pending tasks in numbers: how many are not due yet, and how long the oldest of a type waits.

The planner uses a partial index only if the query repeats the index's condition word for word.
"""

from __future__ import annotations

from supervisor.database.interface.database import Transaction
from supervisor.schema.tables import AGAIN, FRESH, UNADMITTED, UNRIPE
from supervisor.store.sql.conditions import waits_since

_LAST_TIME = "9999-12-31T23:59:59.999Z"


def not_due(tx: Transaction) -> dict[str, int]:
    """Pending tasks with a future run_after, by type: admitted ones, and those still to be admitted."""
    rows = tx.all(
        f"""SELECT type, count(*) AS n FROM
            (SELECT type FROM task_queue WHERE {UNRIPE} AND run_after > {tx.now}
             UNION ALL
             SELECT type FROM task_queue WHERE {UNADMITTED} AND run_after > {tx.now}) AS ahead
            GROUP BY type"""
    )
    return {row["type"]: row["n"] for row in rows}


def oldest_due_seconds(tx: Transaction, type_: str) -> float:
    """The longest waiting time among the due tasks of this type; 0 if none is due.

    Fresh rows have waited since their submission, so the first of them has waited longest.  The others have waited
    since they were put back or became due, which is later than their submission; so only those that were submitted
    before the first fresh row can have waited longer.
    """
    fresh = tx.one(
        f"""SELECT created_at, {tx.seconds_since("created_at")} AS seconds FROM task_queue
            WHERE {FRESH} AND type = :type_ ORDER BY created_at LIMIT 1""",
        type_=type_,
    )
    again = tx.value(
        f"""SELECT {tx.seconds_between(f"min({waits_since(tx)})", tx.now)} FROM task_queue
            WHERE {AGAIN} AND type = :type_ AND created_at <= :created_at
            AND (run_after IS NULL OR run_after <= {tx.now})""",
        type_=type_, created_at=fresh["created_at"] if fresh else _LAST_TIME,
    )  # fmt: skip
    return max(0.0, float(fresh["seconds"]) if fresh else 0.0, float(again or 0.0))
