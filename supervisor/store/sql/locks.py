"""The one order in which rows are locked (CORRECTNESS 27), taken at once for all the tasks of a transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from supervisor.database.interface.database import Row, Transaction
from supervisor.database.interface.errors import DatabaseError, is_locked
from supervisor.store.sql.rows import encoded

# The longest waits for a row that another program has locked.
LOCKED_ROW_SECONDS = 0.25  # of work that comes again by itself, or goes on without the row
AT_ONCE_SECONDS = 0.025  # of a transaction that has met a locked row, and should go on


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


def rows_of_free_accounts(tx: Transaction, ask: Callable[[list[str]], list[Row]]) -> list[Row]:
    """Locked rows, with the accounts of their users locked too; rows of locked accounts take no place among them.

    ask: users whose rows are left out -> the rows, locked as far as they are free, each with its `user_openid`.
    """
    held_up: set[str] = set()
    while rows := ask(sorted(held_up)):
        users = {row["user_openid"] for row in rows}
        others_hold = users - lock_free_accounts(tx, users)
        if not others_hold:
            break
        held_up |= others_hold
    return rows


def wait_no_longer(tx: Transaction) -> None:
    """From here on, a statement of this transaction fails when it has waited for a lock for AT_ONCE_SECONDS."""
    if tx.dialect.has_many_writers:
        tx.send(f"SET LOCAL lock_timeout = '{round(AT_ONCE_SECONDS * 1000)}ms'")


def unless_locked(tx: Transaction, do: Callable[[], None]) -> bool:
    """Whether it was done; False, and nothing is changed, if another transaction holds a row that it needs.

    For what no query can leave out, as a row that another transaction has inserted and not yet committed.
    """
    if not tx.dialect.has_many_writers:
        do()
        return True
    before = tx.value("SELECT current_setting('lock_timeout')")
    tx.send("SAVEPOINT unless_locked")
    wait_no_longer(tx)
    try:
        do()
        tx.send("SELECT set_config('lock_timeout', :before, true)", before=before)
        tx.execute("RELEASE SAVEPOINT unless_locked")
        return True
    except DatabaseError as error:
        if not is_locked(error):
            raise
    tx.execute("ROLLBACK TO SAVEPOINT unless_locked")
    tx.execute("RELEASE SAVEPOINT unless_locked")
    return False
