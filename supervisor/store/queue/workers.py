"""Worker processes: register, beat, drain, and be marked dead.

A mark changes only the worker's row: `stuck_tasks` alone decides about the tasks of a dead worker.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from supervisor.database.interface.database import PendingResult, Row, Transaction
from supervisor.schema.tables import HELD
from supervisor.store.sql.rows import encoded


def register(
    tx: Transaction,
    worker_id: str,
    *,
    host: str,
    pid: int,
    slots: int,
    offers: Mapping[str, int] | None = None,
    types: Collection[str] = (),
) -> None:
    """Record that a worker process has started and takes claims.  types: the only ones that it takes; empty: all."""
    offered = {name: amount for name, amount in (offers or {}).items() if amount}
    tx.execute(
        """INSERT INTO worker (id, host, pid, slots, offers, types, takes_claims)
            VALUES (:worker_id, :host, :pid, :slots, :offers, :types, 1)""",
        worker_id=worker_id,
        host=host,
        pid=pid,
        slots=slots,
        offers=encoded(offered),
        types=encoded(sorted(types)) if types else None,
    )


def beat(tx: Transaction, worker_id: str, busy: int) -> str | None:
    """Record a heartbeat with the number of busy threads; the worker's state, or None if it was never registered."""
    state: str | None = tx.value(
        f"""UPDATE worker SET beat = beat + 1, busy = :busy, seen_at = {tx.now}
            WHERE id = :worker_id AND state IN ('live','draining') RETURNING state""",
        busy=busy, worker_id=worker_id,
    )  # fmt: skip
    return state or tx.value("SELECT state FROM worker WHERE id = :worker_id", worker_id=worker_id)


def fewer_busy(tx: Transaction, worker_id: str, busy: int) -> None:
    """Lower the number of busy threads between two heartbeats; this is no heartbeat itself."""
    tx.execute(
        "UPDATE worker SET busy = :busy WHERE id = :worker_id AND busy > :busy AND state IN ('live','draining')",
        busy=busy, worker_id=worker_id,
    )  # fmt: skip


def drain(tx: Transaction, worker_id: str) -> None:
    """Make the worker take nothing new; a concurrent claim for it is either committed before this, or not at all."""
    _lock(tx, worker_id)
    tx.execute(
        "UPDATE worker SET state = 'draining' WHERE id = :worker_id AND state = 'live'", worker_id=worker_id
    )


def leave(tx: Transaction, worker_id: str) -> None:
    """Record that the worker has stopped in good order; tasks that it still holds are rescued like those of a dead
    worker."""
    _lock(tx, worker_id)
    held = tx.value(
        f"SELECT count(*) FROM task_queue WHERE worker_id = :worker_id AND {HELD}",
        worker_id=worker_id,
    )
    tx.execute(
        "UPDATE worker SET state = :state, busy = 0 WHERE id = :worker_id",
        state="dead" if held else "gone",
        worker_id=worker_id,
    )


def mark_dead(tx: Transaction, worker_id: str) -> bool:
    """Mark a worker as dead; False if it had stopped in good order or was marked before."""
    _lock(tx, worker_id)
    return (
        tx.run(
            "UPDATE worker SET state = 'dead' WHERE id = :worker_id AND state IN ('live','draining')",
            worker_id=worker_id,
        )
        == 1
    )


def ask_dead(tx: Transaction) -> PendingResult:
    """Query the ids of workers that are marked dead and may still hold tasks."""
    return tx.ask("SELECT id FROM worker WHERE state = 'dead'")


def dead(tx: Transaction) -> list[str]:
    """The same, answered."""
    return [row["id"] for row in ask_dead(tx).all()]


def _lock(tx: Transaction, worker_id: str) -> None:
    """Wait for transactions that are claiming for this worker (`claims.claim_for` locks its key)."""
    if tx.for_update:
        tx.one(f"SELECT 1 FROM worker WHERE id = :worker_id{tx.for_update}", worker_id=worker_id)


def remove_dead(tx: Transaction) -> None:
    """Set dead workers that hold no tasks to gone."""
    tx.execute(
        f"""UPDATE worker SET state = 'gone', busy = 0 WHERE state = 'dead' AND NOT EXISTS
            (SELECT 1 FROM task_queue WHERE task_queue.worker_id = worker.id
             AND {HELD})"""
    )


def present(tx: Transaction) -> list[Row]:
    """Workers in the states live and draining, oldest first."""
    return tx.all("SELECT * FROM worker WHERE state IN ('live','draining') ORDER BY id")


def live(tx: Transaction) -> list[Row]:
    """Workers that take claims."""
    return tx.all("SELECT *, id AS worker_id FROM worker WHERE state = 'live' ORDER BY id")


def forget_old(tx: Transaction, older_than_seconds: float) -> int:
    """Delete workers that ended so long ago and hold no tasks."""
    return tx.run(
        f"""DELETE FROM worker WHERE state IN ('gone','dead') AND seen_at < {tx.ago(":older_than_seconds")}
            AND NOT EXISTS (SELECT 1 FROM task_queue WHERE task_queue.worker_id = worker.id
                            AND {HELD})""",
        older_than_seconds=older_than_seconds,
    )
