"""Accounts and the append-only ledger: grants, debits, statements.

The triggers of the step that ends a task write refunds (`supervisor.schema.sqlite.money_triggers`,
`supervisor.schema.postgres.money_triggers`), and a trigger on the ledger moves the balance.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from supervisor.database.interface.database import Transaction

_NEW_USERS = (
    "coalesce((SELECT balance FROM account WHERE user_openid = :user), (SELECT signup_grant FROM rule), 0)"
)
# This repeats the index's condition word for word; otherwise the planner would read the whole ledger.
_BY_REFERENCE = """SELECT user_openid, amount FROM credit_entry WHERE reference = :reference AND reference IS NOT NULL
    AND reference <> 'signup'"""


def ensure_account(tx: Transaction, user: str) -> None:
    """Open the user's account unless it is open; a trigger then makes the sign-up grant."""
    if tx.value("SELECT 1 FROM account WHERE user_openid = :user", user=user) is None:
        tx.execute("INSERT INTO account (user_openid) VALUES (:user) ON CONFLICT DO NOTHING", user=user)


def balance(tx: Transaction, user: str) -> int:
    """The user's credits."""
    return int(tx.value("SELECT balance FROM account WHERE user_openid = :user", user=user) or 0)


def net_paid(tx: Transaction, task_id: str) -> int:
    """What all charges of a task have taken together, less what was given back."""
    return -int(
        tx.value(
            "SELECT coalesce(sum(amount), 0) FROM credit_entry WHERE task_id = :task_id", task_id=task_id
        )
    )


def balance_of_anybody(tx: Transaction, user: str) -> int:
    """The user's credits; for an unknown user, the credits of a new account.  Opens no account."""
    return int(tx.value(f"SELECT {_NEW_USERS}", user=user))


class Granted(NamedTuple):
    """A grant in the ledger.  is_new: made by this call.  balance: of `user`, now."""

    user: str
    amount: int
    is_new: bool
    balance: int


def grant_once(tx: Transaction, user: str, amount: int, reference: str) -> Granted:
    """The grant with this reference, made if there is none; an existing one may have another user or amount."""
    is_new = grant(tx, user, amount, reference)
    row = tx.one(_BY_REFERENCE, reference=reference)
    assert row is not None
    return Granted(row["user_openid"], row["amount"], is_new, balance(tx, row["user_openid"]))


def grant(tx: Transaction, user: str, amount: int, reference: str) -> bool:
    """Give credits; False when this reference was granted before, which changes nothing: it opens no account.

    Of several transactions with one reference, each waits for the one before it.
    """
    tx.lock_name(f"grant {reference}")
    if tx.one(_BY_REFERENCE, reference=reference) is not None:
        return False
    ensure_account(tx, user)
    tx.execute(
        "INSERT INTO credit_entry (user_openid, kind, amount, reference) VALUES (:user, 'grant', :amount, :reference)",
        user=user, amount=amount, reference=reference,
    )  # fmt: skip
    return True


def statement(tx: Transaction, user: str, limit: int = 100) -> dict[str, Any]:
    """The balance and the newest entries, as docs/http-reference.md shows them."""
    entries = tx.all(
        """SELECT kind, amount, task_id, created_at AS at FROM credit_entry
            WHERE user_openid = :user ORDER BY id DESC LIMIT :limit""",
        user=user, limit=limit,
    )  # fmt: skip
    return {"balance": balance(tx, user), "entries": entries}
