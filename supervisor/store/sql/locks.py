"""The one order in which rows are locked (CORRECTNESS 27), taken at once for all the tasks of a transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from supervisor.database.interface.database import Transaction
from supervisor.store.sql.rows import encoded


def lock_tasks(tx: Transaction, task_ids: Sequence[str]) -> None:
    """Lock the rows of these tasks in order; missing ids are left out.

    This is enough for one statement: its triggers lock the accounts in order, and later, so others wait for less time.
    """
    tx.send(
        """SELECT 1 FROM task_queue WHERE id = ANY(:task_ids) ORDER BY user_openid, id FOR NO KEY UPDATE""",
        task_ids=list(task_ids),
    )


def lock_tasks_and_accounts(tx: Transaction, task_ids: Sequence[str]) -> None:
    """Lock the rows and then their users' accounts, in order; for several statements."""
    tx.send(
        """WITH held AS MATERIALIZED (SELECT user_openid FROM task_queue WHERE id = ANY(:task_ids)
                ORDER BY user_openid, id FOR NO KEY UPDATE)
            SELECT 1 FROM account WHERE user_openid IN (SELECT user_openid FROM held)
                ORDER BY user_openid FOR NO KEY UPDATE""",
        task_ids=list(task_ids),
    )


def lock_free_accounts(tx: Transaction, users: Collection[str]) -> set[str]:
    """Lock the accounts of these users, except those that other transactions have locked; the users of the locked ones.

    For what is done for all users: a producer's transaction may hold one account for hours.  It waits for nothing, so
    it needs no order.
    """
    rows = tx.all(
        f"""SELECT user_openid FROM account WHERE {tx.is_one_of("user_openid", ":users")}
            {tx.for_update_of_free("account")}""",
        users=encoded(sorted(users)),
    )
    return {row["user_openid"] for row in rows}


def wait_no_longer_than(tx: Transaction, seconds: float) -> None:
    """From here on, a statement of this transaction that waits so long for a lock fails: DatabaseBusy."""
    if tx.dialect.has_many_writers:
        tx.send(f"SET LOCAL lock_timeout = '{round(seconds * 1000)}ms'")
