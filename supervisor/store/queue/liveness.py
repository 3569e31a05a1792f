"""The last signs of life of workers and dispatcher, and the verdict of `supervisor.health.liveness` on them."""

from __future__ import annotations

from typing import Any

from supervisor.core.placement import room_of
from supervisor.database.interface.database import Row, Transaction
from supervisor.health.liveness import DispatcherSign, Liveness, WorkerSign, judged
from supervisor.schema.tables import HELD


def read(tx: Transaction, silent_seconds: float) -> Liveness:
    """Which dispatcher and workers are alive.  silent_seconds: from the settings."""
    return judged(worker_signs(tx), dispatcher_sign(tx), silent_seconds)


def worker_signs(tx: Transaction) -> list[WorkerSign]:
    """Worker processes in the states live and draining, oldest first."""
    rows = tx.all(
        f"""SELECT id, state, slots, offers, types, {tx.greatest("busy", "held")} AS busy, silent_seconds FROM
            (SELECT id, state, slots, offers, types, busy,
                abs({tx.seconds_between("seen_at", tx.moment)}) AS silent_seconds,
                (SELECT count(*) FROM task_queue WHERE task_queue.worker_id = worker.id
                 AND {HELD} AND status = 'processing') AS held
             FROM worker WHERE state IN ('live','draining')) AS present ORDER BY id"""
    )
    return [WorkerSign(**row | _room_of(row)) for row in rows]


def _room_of(row: Row) -> dict[str, Any]:
    room = room_of(row)
    return {"offers": room.offers, "types": room.types}


def dispatcher_sign(tx: Transaction) -> DispatcherSign:
    """The working dispatcher's last beat."""
    row = tx.one(
        f"""SELECT holder, abs({tx.seconds_between("ticked_at", tx.moment)}) AS silent_seconds,
            abs({tx.seconds_between("well_since", tx.moment)}) AS well_seconds FROM dispatcher WHERE id = 1"""
    )
    return DispatcherSign(**row) if row is not None else DispatcherSign()
