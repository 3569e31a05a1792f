"""Worker processes: register, beat, drain, and be marked dead.

A mark changes only the worker's row: `stuck_tasks` alone decides about the tasks of a dead worker.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from supervisor.database.interface.database import Pending, PendingResult, Row, Transaction
from supervisor.schema.statements import NOW, Built, ago, count, exists, new_row, param, sql
from supervisor.schema.tables import HELD, TaskQueue, Worker
from supervisor.store.sql.rows import encoded

_THIS, _IS_PRESENT = Worker.id == param("id"), Worker.state.in_(("live", "draining"))
_HOLDS = exists(TaskQueue.select(TaskQueue.id).where(TaskQueue.worker_id == Worker.id, sql(HELD)))

_REGISTER = Built(new_row(Worker, "id", "host", "pid", "slots", "offers", "types", takes_claims=1))
_BEAT = Built(
    Worker.update(beat=Worker.beat + 1, busy=param("busy"), seen_at=NOW)
    .where(_THIS, _IS_PRESENT)
    .returning(Worker.state)
)
_STATE = Built(Worker.select(Worker.state).where(_THIS))
_FEWER_BUSY = Built(Worker.update(busy=param("busy")).where(_THIS, Worker.busy > param("busy"), _IS_PRESENT))
_DRAIN = Built(Worker.update(state="draining").where(_THIS, Worker.state == "live"))
_COUNT_HELD = Built(
    TaskQueue.select(count(TaskQueue.id)).where(TaskQueue.worker_id == param("id"), sql(HELD))
)
_LEAVE = Built(Worker.update(state=param("state"), busy=0).where(_THIS))
_MARK_DEAD = Built(Worker.update(state="dead").where(_THIS, _IS_PRESENT))
_DEAD = Built(Worker.select(Worker.id).where(Worker.state == "dead"))
_REMOVE_DEAD = Built(Worker.update(state="gone", busy=0).where(Worker.state == "dead", ~_HOLDS))
_PRESENT_ONES = Built(Worker.select().where(_IS_PRESENT).order_by(Worker.id))
_LIVE = Built(
    Worker.select(Worker, Worker.id.alias("worker_id")).where(Worker.state == "live").order_by(Worker.id)
)
_FORGET = Built(
    Worker.delete().where(Worker.state.in_(("gone", "dead")), Worker.seen_at < ago("seconds"), ~_HOLDS)
)


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
        _REGISTER,
        id=worker_id, host=host, pid=pid, slots=slots, offers=encoded(offered),
        types=encoded(sorted(types)) if types else None,
    )  # fmt: skip


def beat(tx: Transaction, worker_id: str, busy: int) -> str | None:
    """Record a heartbeat with the number of busy threads; the worker's state, or None if it was never registered."""
    state: str | None = tx.value(_BEAT, busy=busy, id=worker_id)
    return state or tx.value(_STATE, id=worker_id)


def fewer_busy(tx: Transaction, worker_id: str, busy: int) -> None:
    """Lower the number of busy threads between two heartbeats; this is no heartbeat itself."""
    tx.execute(_FEWER_BUSY, busy=busy, id=worker_id)


def drain(tx: Transaction, worker_id: str) -> None:
    """Make the worker take nothing new; a concurrent claim for it is either committed before this, or not at all."""
    _lock(tx, worker_id)
    tx.execute(_DRAIN, id=worker_id)


def leave(tx: Transaction, worker_id: str) -> None:
    """Record that the worker has stopped in good order; tasks that it still holds are rescued like those of a dead
    worker."""
    _lock(tx, worker_id)
    held = tx.value(_COUNT_HELD, id=worker_id)
    tx.execute(_LEAVE, state="dead" if held else "gone", id=worker_id)


def mark_dead(tx: Transaction, worker_id: str) -> bool:
    """Mark a worker as dead; False if it had stopped in good order or was marked before."""
    _lock(tx, worker_id)
    return tx.run(_MARK_DEAD, id=worker_id) == 1


def dead(tx: Transaction) -> Pending[list[str]]:
    """The ids of workers that are marked dead and may still hold tasks."""
    asked = tx.ask(_DEAD)
    return Pending(lambda: [row["id"] for row in asked.all()])


def _lock(tx: Transaction, worker_id: str) -> None:
    """Wait for transactions that are claiming for this worker (`claims.claim_for` locks its key)."""
    if tx.for_update:
        tx.one(f"SELECT 1 FROM worker WHERE id = :worker_id{tx.for_update}", worker_id=worker_id)


def remove_dead(tx: Transaction) -> None:
    """Set dead workers that hold no tasks to gone."""
    tx.execute(_REMOVE_DEAD)


def present(tx: Transaction) -> list[Row]:
    """Workers in the states live and draining, oldest first."""
    return ask_present(tx).all()


def ask_present(tx: Transaction) -> PendingResult:
    """The same, asked together with the next statement."""
    return tx.ask(_PRESENT_ONES)


def live(tx: Transaction) -> list[Row]:
    """Workers that take claims."""
    return tx.all(_LIVE)


def forget_old(tx: Transaction, older_than_seconds: float) -> int:
    """Delete workers that ended so long ago and hold no tasks."""
    return tx.run(_FORGET, seconds=older_than_seconds)
