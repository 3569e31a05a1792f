"""Operators' actions, each recorded in its own transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from config.settings import Settings
from supervisor.core.errors import NotReleasable, TaskNotFound, WebhookNotFound, WorkerNotFound
from supervisor.core.lifecycle import FINAL
from supervisor.database.interface.database import Row, Transaction
from supervisor.store.limits import pauses
from supervisor.store.operators import audit
from supervisor.store.operators.audit import Operator
from supervisor.store.queue import workers
from supervisor.store.remote import remote_jobs
from supervisor.store.tasks import claims, history, remote_wait, user_actions
from supervisor.store.webhooks import deliveries

View = dict[str, Any]
_NOTED = ("status", "attempt", "lease", "worker_id", "charge")


def cancel(tx: Transaction, operator: Operator, task_id: str, *, bulk_id: str | None = None) -> View:
    """Cancel any user's open task, with its refund.  Raises TaskNotFound, AlreadyFinished.

    bulk_id: the action on many tasks that this is a part of, here and below.
    """
    with _recorded(tx, operator, "cancel", task_id, bulk_id):
        return user_actions.cancel(tx, task_id)


def retry(
    tx: Transaction, settings: Settings, operator: Operator, task_id: str, *, bulk_id: str | None = None
) -> View:
    """Run a failed or cancelled task again; its user pays again.  Raises the faults of `user_actions.resubmit`."""
    with _recorded(tx, operator, "retry", task_id, bulk_id):
        return user_actions.resubmit(tx, settings, task_id)


def release(
    tx: Transaction, settings: Settings, operator: Operator, task_id: str, *, bulk_id: str | None = None
) -> View:
    """Release a task: a running one is put back for another worker, a waiting one is due at once.

    The worker that had it loses its lease and can store nothing.  No attempt is counted.  Raises TaskNotFound;
    NotReleasable for a task that has ended, that waits in the queue already, or that has an unanswered request which
    must not be sent twice.
    """
    with _recorded(tx, operator, "release", task_id, bulk_id) as row:
        _release(tx, settings, row)
    view = user_actions.get(tx, task_id)
    assert view is not None
    return view


def _release(tx: Transaction, settings: Settings, row: Row) -> None:
    task_id = row["id"]
    match row["status"]:
        case "processing":
            asked = remote_jobs.unanswered(tx, task_id, row["charge"], row["step"])
            if not asked <= settings.providers_that_may_bill_twice:
                names = ", ".join(sorted(asked))
                raise NotReleasable(
                    task_id, f"it has asked {names}, which must not be asked twice; wait, or cancel it"
                )
            claims.release(tx, task_id, row["lease"])
            if asked:
                remote_jobs.mark_unknown(tx, task_id, row["charge"], row["step"])
        case "ai_processing":
            if not remote_wait.ask_again(tx, task_id, row["lease"]):
                tx.execute(
                    f"""UPDATE task_queue SET next_poll_at = {tx.now}, updated_at = {tx.now}
                        WHERE id = :task_id AND status = 'ai_processing'""",
                    task_id=task_id,
                )
        case "pending" if row["run_after"] is not None and not row["ready"]:
            if history.is_rate_limited(tx, task_id):
                reason = "its service has limited our requests, and would refuse an earlier one too; wait, or cancel it"
                raise NotReleasable(task_id, reason)
            tx.execute(
                f"UPDATE task_queue SET run_after = NULL, ready = 1, updated_at = {tx.now} WHERE id = :task_id"
                " AND status = 'pending' AND admitted_charge = charge",
                task_id=task_id,
            )
        case status:
            raise NotReleasable(
                task_id, f"it is {status}" if status in FINAL else "it waits for a slot already"
            )


def drain(tx: Transaction, operator: Operator, worker_id: str) -> str:
    """Make a worker take nothing new and end when its tasks have ended, or after DRAIN_SECONDS; its state before.

    Its supervisor starts another in its place.  Raises WorkerNotFound.
    """
    state: str | None = tx.value(
        f"SELECT state FROM worker WHERE id = :worker_id AND state IN ('live','draining'){tx.for_update}",
        worker_id=worker_id,
    )
    if state is None:
        raise WorkerNotFound(worker_id)
    workers.drain(tx, worker_id)
    audit.record(
        tx, operator, "drain", "worker", worker_id, before={"state": state}, after={"state": "draining"}
    )
    return state


def resend(tx: Transaction, operator: Operator, webhook_id: str) -> View:
    """Send a webhook again from the beginning of its schedule, under the same id; its id, task and state.

    An address that had answered 410 is used again.  Raises WebhookNotFound.
    """
    row = tx.one(
        f"SELECT task_id, state, attempts FROM webhook_delivery WHERE id = :webhook_id{tx.for_update}",
        webhook_id=webhook_id,
    )
    if row is None or not deliveries.resend(tx, webhook_id):
        raise WebhookNotFound(webhook_id)
    before = {"webhook_id": webhook_id, "state": row["state"], "attempts": row["attempts"]}
    after = {"webhook_id": webhook_id, "state": "waiting", "attempts": 0}
    audit.record(tx, operator, "resend", "task", row["task_id"], before=before, after=after)
    return {"webhook_id": webhook_id, "task_id": row["task_id"], "state": "waiting"}


def pause(tx: Transaction, operator: Operator, kind: str, name: str, reason: str) -> None:
    """Pause a type or a provider; no change if it is paused already."""
    if pauses.pause(tx, kind, name, operator.name, reason):
        audit.record(tx, operator, "pause", kind, name, after={"reason": reason})


def resume(tx: Transaction, operator: Operator, kind: str, name: str) -> bool:
    """End the pause of a type or provider; False if it was not paused."""
    if not pauses.resume(tx, kind, name):
        return False
    audit.record(tx, operator, "resume", kind, name)
    return True


def _locked(tx: Transaction, task_id: str) -> Row:
    row = tx.one(f"SELECT * FROM task_queue WHERE id = :task_id{tx.for_update}", task_id=task_id)
    if row is None:
        raise TaskNotFound(task_id)
    return row


@contextlib.contextmanager
def _recorded(
    tx: Transaction, operator: Operator, action: str, task_id: str, bulk_id: str | None
) -> Iterator[Row]:
    """Record the task's state before and after the block, which gets its row, locked as the action does."""
    row = _locked(tx, task_id)
    yield row
    before, after = ({name: each[name] for name in _NOTED} for each in (row, _locked(tx, task_id)))
    audit.record(tx, operator, action, "task", task_id, before=before, after=after, bulk_id=bulk_id)
