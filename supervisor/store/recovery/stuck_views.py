"""Stuck tasks as operators see them."""

from __future__ import annotations

from typing import Any

from supervisor.database.interface.database import Transaction
from supervisor.store.recovery import stuck_tasks
from supervisor.store.tasks import user_actions


def read(tx: Transaction, most: int, *, status: str | None = None) -> list[tuple[dict[str, Any], str]]:
    """The tasks that the next sweep would rescue, as `user_actions.get` shows them, each with the reason; at most so
    many.  status: only those that have it."""
    reasons = stuck_tasks.stuck_ids(tx, most, status=status)
    found = ((user_actions.get(tx, task_id), reason) for task_id, reason in reasons.items())
    return [(view, reason) for view, reason in found if view is not None]
