"""Worker processes: register, beat, drain, and be marked dead.

A mark is only a mark: what becomes of the rows that name a dead worker is decided by
`stuck_tasks` alone.
"""

from __future__ import annotations

from supervisor.database.interface.database import PendingResult, Row, Transaction


def register(tx: Transaction, worker_id: str, *, host: str, pid: int, slots: int) -> None:
    """A worker process has started and takes claims from now on."""
    tx.execute(
        "INSERT INTO worker (id, host, pid, slots, takes_claims) VALUES (:worker_id, :host, :pid, :slots, 1)",
        worker_id=worker_id,
        host=host,
        pid=pid,
        slots=slots,
    )


def beat(tx: Transaction, worker_id: str, busy: int) -> str | None:
    """The worker lives, with so many busy threads; its state, or None when it was never registered."""
    state: str | None = tx.value(
        f"""UPDATE worker SET beat = beat + 1, busy = :busy, seen_at = {tx.now}
            WHERE id = :worker_id AND state IN ('live','draining') RETURNING state""",
        busy=busy, worker_id=worker_id,
    )  # fmt: skip
    return state or tx.value("SELECT state FROM worker WHERE id = :worker_id", worker_id=worker_id)


def fewer_busy(tx: Transaction, worker_id: str, busy: int) -> None:
    """So many threads are busy, if that is fewer than the heartbeat said; it is no heartbeat itself."""
    tx.execute(
        "UPDATE worker SET busy = :busy WHERE id = :worker_id AND busy > :busy AND state IN ('live','draining')",
        busy=busy, worker_id=worker_id,
    )  # fmt: skip


def drain(tx: Transaction, worker_id: str) -> None:
    """The worker takes nothing new; a claim that is being made for it is committed before, or not at all."""
    _lock(tx, worker_id)
    tx.execute(
        "UPDATE worker SET state = 'draining' WHERE id = :worker_id AND state = 'live'", worker_id=worker_id
    )


def leave(tx: Transaction, worker_id: str) -> None:
    """The worker has stopped in good order; rows that still name it are rescued like a dead one's."""
    _lock(tx, worker_id)
    held = tx.value(
        "SELECT count(*) FROM task_queue WHERE worker_id = :worker_id AND status IN ('processing','ai_processing')",
        worker_id=worker_id,
    )
    tx.execute(
        "UPDATE worker SET state = :state, busy = 0 WHERE id = :worker_id",
        state="dead" if held else "gone",
        worker_id=worker_id,
    )


def mark_dead(tx: Transaction, worker_id: str) -> bool:
    """Mark a worker whose death was seen; False when it had left or was marked before."""
    _lock(tx, worker_id)
    return (
        tx.run(
            "UPDATE worker SET state = 'dead' WHERE id = :worker_id AND state IN ('live','draining')",
            worker_id=worker_id,
        )
        == 1
    )


def ask_dead(tx: Transaction) -> PendingResult:
    """Ask for the workers that are marked dead and may still have rows to be rescued: their ids."""
    return tx.ask("SELECT id FROM worker WHERE state = 'dead'")


def dead(tx: Transaction) -> list[str]:
    """The same, answered."""
    return [row["id"] for row in ask_dead(tx).all()]


def _lock(tx: Transaction, worker_id: str) -> None:
    """Wait for whoever claims for this worker at this moment (`claims.claim_for` holds its key)."""
    if tx.for_update:
        tx.one(f"SELECT 1 FROM worker WHERE id = :worker_id{tx.for_update}", worker_id=worker_id)


def remove_dead(tx: Transaction) -> None:
    """Dead workers that hold nothing any more are gone."""
    tx.execute(
        """UPDATE worker SET state = 'gone', busy = 0 WHERE state = 'dead' AND NOT EXISTS
            (SELECT 1 FROM task_queue WHERE task_queue.worker_id = worker.id
             AND status IN ('processing','ai_processing'))"""
    )


def present(tx: Transaction) -> list[Row]:
    """Workers that live or drain, oldest first."""
    return tx.all("SELECT * FROM worker WHERE state IN ('live','draining') ORDER BY id")


def live(tx: Transaction) -> list[Row]:
    """Workers that take claims."""
    return tx.all("SELECT *, id AS worker_id FROM worker WHERE state = 'live' ORDER BY id")


def forget_old(tx: Transaction, older_than_seconds: float) -> int:
    """Drop workers that are over for so long and hold nothing."""
    return tx.run(
        f"""DELETE FROM worker WHERE state IN ('gone','dead') AND seen_at < {tx.ago(":older_than_seconds")}
            AND NOT EXISTS (SELECT 1 FROM task_queue WHERE task_queue.worker_id = worker.id
                            AND status IN ('processing','ai_processing'))""",
        older_than_seconds=older_than_seconds,
    )
