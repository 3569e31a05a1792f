"""The one order in which rows are locked (CORRECTNESS 27), taken at once for all the tasks of a transaction."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.database import Transaction


def lock_tasks(tx: Transaction, task_ids: Sequence[str]) -> None:
    """All their rows first, then the accounts of their users, each in order; whatever does not exist is left out."""
    tx.execute(
        """WITH held AS MATERIALIZED (SELECT user_openid FROM task_queue WHERE id = ANY(?)
                ORDER BY user_openid, id FOR NO KEY UPDATE)
            SELECT 1 FROM account WHERE user_openid IN (SELECT user_openid FROM held)
                ORDER BY user_openid FOR NO KEY UPDATE""",
        list(task_ids),
    )
