"""A task whose work a remote service does: hand it off, go round to ask, put it back to wait."""

from __future__ import annotations

from supervisor.database import Transaction
from supervisor.faults import LeaseLost

_HELD = "id = ? AND lease = ? AND worker_id IS NOT NULL"


def hand_off(
    tx: Transaction, task_id: str, lease: int, *, poll_in_seconds: float, remote_limit_seconds: float
) -> None:
    """The service has accepted the job: give the lease back and wait.  Raises LeaseLost."""
    touched = tx.run(
        f"""UPDATE task_queue SET status = 'ai_processing', stage = 'waiting for the service', worker_id = NULL,
            deadline_at = NULL, dispatch = dispatch + 1, next_poll_at = {tx.in_seconds},
            remote_deadline_at = {tx.in_seconds}, updated_at = {tx.now}
        WHERE {_HELD} AND status = 'processing'""",
        poll_in_seconds, remote_limit_seconds, task_id, lease,
    )  # fmt: skip
    if touched != 1:
        raise LeaseLost(task_id, lease)


def claim_poll(
    tx: Transaction, task_id: str, dispatch: int, worker_id: str, again_in_seconds: float
) -> int | None:
    """Take a waiting task to ask its service; the lease, or None when the hint is stale.

    again_in_seconds: the next poll time if this poller is lost; no other rescue is needed.
    """
    lease: int | None = tx.value(
        f"""UPDATE task_queue SET lease = lease + 1, worker_id = ?, dispatched_at = NULL,
            next_poll_at = {tx.in_seconds}, updated_at = {tx.now}
        WHERE id = ? AND status = 'ai_processing' AND dispatch = ? AND worker_id IS NULL
          AND EXISTS (SELECT 1 FROM worker WHERE worker.id = ? AND worker.state = 'live')
        RETURNING lease""",
        worker_id, again_in_seconds, task_id, dispatch, worker_id,
    )  # fmt: skip
    return lease


def not_yet(tx: Transaction, task_id: str, lease: int, poll_in_seconds: float) -> None:
    """The job still runs: wait again.  Raises LeaseLost."""
    touched = tx.run(
        f"""UPDATE task_queue SET worker_id = NULL, dispatch = dispatch + 1, next_poll_at = {tx.in_seconds},
            updated_at = {tx.now} WHERE {_HELD} AND status = 'ai_processing'""",
        poll_in_seconds, task_id, lease,
    )  # fmt: skip
    if touched != 1:
        raise LeaseLost(task_id, lease)
