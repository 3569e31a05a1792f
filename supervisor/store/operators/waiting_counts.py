"""Pending tasks in numbers: how many are not due yet, and how long the oldest of a type waits.

The planner takes a partial index only where its own condition stands in the query word for word.
"""

from __future__ import annotations

from supervisor.database.interface.database import Transaction
from supervisor.store.queue.ready_tasks import waits_since

_LAST_TIME = "9999-12-31T23:59:59.999Z"

# Pending tasks that nothing has happened to, and all others: the conditions of two indexes.
_FRESH = "status = 'pending' AND attempt = 0 AND charge = 1 AND run_after IS NULL"
_AGAIN = "status = 'pending' AND (attempt > 0 OR charge > 1 OR run_after IS NOT NULL)"


def not_due(tx: Transaction) -> dict[str, int]:
    """Pending tasks by type whose run_after is ahead: the admitted ones, and those that are still to be."""
    rows = tx.all(
        f"""SELECT type, count(*) AS n FROM
            (SELECT type FROM task_queue WHERE status = 'pending' AND ready = 0 AND admitted_charge = charge
                AND run_after > {tx.now}
             UNION ALL
             SELECT type FROM task_queue WHERE status = 'pending' AND admitted_charge <> charge
                AND run_after > {tx.now}) AS ahead
            GROUP BY type"""
    )
    return {row["type"]: row["n"] for row in rows}


def oldest_due_seconds(tx: Transaction, type_: str) -> float:
    """How long the due task of this type that has waited longest waits; 0 when none is due.

    Fresh rows wait since their submission, so the first of them has waited longest.  The others wait since they were
    put back or became due, which is later than their submission: of them, only those submitted before it can be older.
    """
    fresh = tx.one(
        f"""SELECT created_at, {tx.seconds_since("created_at")} AS seconds FROM task_queue
            WHERE {_FRESH} AND type = :type_ ORDER BY created_at LIMIT 1""",
        type_=type_,
    )
    again = tx.value(
        f"""SELECT {tx.seconds_between(f"min({waits_since(tx)})", tx.now)} FROM task_queue
            WHERE {_AGAIN} AND type = :type_ AND created_at <= :created_at
            AND (run_after IS NULL OR run_after <= {tx.now})""",
        type_=type_, created_at=fresh["created_at"] if fresh else _LAST_TIME,
    )  # fmt: skip
    return max(0.0, float(fresh["seconds"]) if fresh else 0.0, float(again or 0.0))
