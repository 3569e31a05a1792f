"""The line of waiting tasks as one reading, and what estimates need beside it."""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.database import Transaction
from supervisor.waiting_order import WaitingOrder

RECENT_RUNS = 20

# One row: a Python thread that fetches 100,000 of them fights for the interpreter's lock at each.
_READY = "status = 'pending' AND ready = 1 AND dispatched_at IS NULL"
_PLACES = {
    "sqlite": f"""SELECT group_concat(printf('%02d%012d%s%s', 10 - priority, turn, created_at, id), char(10))
        FROM task_queue INDEXED BY task_queue_pick WHERE {_READY}""",
    "postgresql": f"""SELECT string_agg(lpad((10 - priority)::text, 2, '0') || lpad(turn::text, 12, '0')
            || to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || id, chr(10))
        FROM task_queue WHERE {_READY}""",
}


def read_order(tx: Transaction, types: Iterable[str]) -> WaitingOrder:
    """The waiting order in one index scan, with the slots and run times that estimates are made of."""
    text: str | None = tx.value(_PLACES[tx.dialect.name])
    return WaitingOrder(
        sorted(text.split("\n")) if text else [],
        count_pending(tx),
        live_slots(tx),
        slots_in_use(tx),
        {type_: recent_run_seconds(tx, type_) for type_ in types},
    )


def count_pending(tx: Transaction) -> int:
    """All pending tasks, whether they may run yet or not."""
    # The index's own condition stands here word for word, or the planner would not take it.
    return int(
        tx.value(
            """SELECT count(*) FROM task_queue
                WHERE status IN ('pending','processing','ai_processing') AND status = 'pending'"""
        )
    )


def recent_run_seconds(tx: Transaction, type_: str) -> list[float]:
    """Run times of the type's newest completed tasks, seconds."""
    rows = tx.all(
        f"""SELECT {tx.seconds_between("processing_started_at", "finished_at")} AS seconds
            FROM task_queue WHERE type = ? AND finished_at IS NOT NULL AND status = 'completed'
            ORDER BY finished_at DESC LIMIT ?""",
        type_, RECENT_RUNS,
    )  # fmt: skip
    return [max(0.0, row["seconds"]) for row in rows if row["seconds"] is not None]


def live_slots(tx: Transaction) -> int:
    """Task slots of live workers."""
    return int(tx.value("SELECT coalesce(sum(slots), 0) FROM worker WHERE state = 'live'"))


def slots_in_use(tx: Transaction) -> int:
    """Tasks that a worker holds, and those whose hint is on its way to one."""
    # The first condition of each names its partial index.
    held = tx.value(
        """SELECT count(*) FROM task_queue WHERE status IN ('processing','ai_processing')
            AND worker_id IS NOT NULL AND status = 'processing'"""
    )
    sent = tx.value(
        """SELECT count(*) FROM task_queue WHERE status IN ('pending','ai_processing')
            AND dispatched_at IS NOT NULL AND status = 'pending'"""
    )
    return int(held) + int(sent)
