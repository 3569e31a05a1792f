"""Blocked users: no door takes anything from them, and their rows by SQL fail; their feeds may still be read.

A block stands in the user's account.  An order locks that row before it is stored, so it is committed before the block
or sees it.  All other requests read it in the transaction that they need anyway.  Tasks that are open go on.
"""

from __future__ import annotations

from supervisor.core.errors import UserBlocked
from supervisor.database.interface.database import PendingResult, Row, Transaction
from supervisor.store.ledger import credits
from supervisor.store.sql.rows import encoded


def block(tx: Transaction, user: str, reason: str) -> Row | None:
    """Block a user, perhaps one who was never seen; the block that stood before, which now has this reason."""
    credits.ensure_account(tx, user)
    before = of_user(tx, user, locked=True)
    tx.execute(
        f"""UPDATE account SET blocked_at = coalesce(blocked_at, {tx.now}), blocked_reason = :reason
            WHERE user_openid = :user""",
        user=user, reason=reason,
    )  # fmt: skip
    return before


def unblock(tx: Transaction, user: str) -> Row | None:
    """End a user's block; the block that stood, or None."""
    before = of_user(tx, user, locked=True)
    if before is not None:
        tx.execute(
            "UPDATE account SET blocked_at = NULL, blocked_reason = NULL WHERE user_openid = :user", user=user
        )
    return before


def of_user(tx: Transaction, user: str, *, locked: bool = False) -> Row | None:
    """The user's block, {since, reason}; None if there is none."""
    return tx.one(
        f"""SELECT {tx.as_text("blocked_at")} AS since, blocked_reason AS reason FROM account
            WHERE user_openid = :user AND blocked_at IS NOT NULL{tx.for_update if locked else ""}""",
        user=user,
    )


def ask(tx: Transaction, *users: str) -> PendingResult:
    """The query whose answer `refuse` takes; it is sent together with the next statement."""
    return tx.ask(
        f"""SELECT user_openid FROM account WHERE {tx.is_one_of("user_openid", ":users")}
            AND blocked_at IS NOT NULL ORDER BY user_openid""",
        users=encoded(sorted(set(users))),
    )


def refuse(asked: PendingResult) -> None:
    """Raises UserBlocked if a user of `ask` is blocked."""
    for row in asked.all():
        raise UserBlocked(row["user_openid"])


def all_blocked(tx: Transaction, most: int) -> list[Row]:
    """The users who were blocked last, {user_openid, since, reason}, newest first."""
    return tx.all(
        f"""SELECT user_openid, {tx.as_text("blocked_at")} AS since, blocked_reason AS reason FROM account
            WHERE blocked_at IS NOT NULL ORDER BY blocked_at DESC, user_openid LIMIT :most""",
        most=most,
    )
