"""Accounts and the append-only ledger.  The balance is moved by a trigger on the ledger, never here."""

from __future__ import annotations

from typing import Any

from supervisor.database.api import Transaction

# The index's own condition stands here word for word, or the planner would read the whole ledger.
_BY_REFERENCE = """SELECT 1 FROM credit_entry WHERE reference = ? AND reference IS NOT NULL
    AND reference <> 'signup'"""


def ensure_account(tx: Transaction, user: str) -> None:
    """Open the user's account unless it is open; opening it makes the sign-up grant, in its trigger."""
    if tx.value("SELECT 1 FROM account WHERE user_openid = ?", user) is None:
        tx.execute("INSERT INTO account (user_openid) VALUES (?) ON CONFLICT DO NOTHING", user)


def balance(tx: Transaction, user: str) -> int:
    """Credits the user has."""
    return int(tx.value("SELECT balance FROM account WHERE user_openid = ?", user) or 0)


def locked_balance(tx: Transaction, user: str) -> int:
    """Credits the user has until this transaction ends: nobody else moves them meanwhile."""
    return int(tx.value(f"SELECT balance FROM account WHERE user_openid = ?{tx.for_update}", user) or 0)


def debit(tx: Transaction, user: str, task_id: str, charge: int, price: int) -> None:
    """Take the price of a charge; the ledger's guard refuses a second debit and an overdrawn account."""
    tx.execute(
        "INSERT INTO credit_entry (user_openid, task_id, charge, kind, amount) VALUES (?, ?, ?, 'debit', ?)",
        user, task_id, charge, -price,
    )  # fmt: skip


def grant(tx: Transaction, user: str, amount: int, reference: str) -> bool:
    """Give credits; False when this reference was granted before, which changes nothing."""
    ensure_account(tx, user)
    if tx.value(_BY_REFERENCE, reference) is not None:
        return False
    tx.execute(
        "INSERT INTO credit_entry (user_openid, kind, amount, reference) VALUES (?, 'grant', ?, ?)",
        user, amount, reference,
    )  # fmt: skip
    return True


def statement(tx: Transaction, user: str, limit: int = 100) -> dict[str, Any]:
    """The balance and the newest entries, as CONTRACT section 4 shows them."""
    entries = tx.all(
        """SELECT kind, amount, task_id, created_at AS at FROM credit_entry
            WHERE user_openid = ? ORDER BY id DESC LIMIT ?""",
        user, limit,
    )  # fmt: skip
    return {"balance": balance(tx, user), "entries": entries}
