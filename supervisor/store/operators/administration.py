"""What admins do to users: block, grant, revoke; each recorded in its own transaction."""

from __future__ import annotations

from supervisor.database.interface.database import Row, Transaction
from supervisor.store.ledger import credits
from supervisor.store.ledger.credits import Granted
from supervisor.store.limits import blocks, revocations
from supervisor.store.operators import audit
from supervisor.store.operators.audit import Operator


def block(tx: Transaction, operator: Operator, user: str, reason: str) -> Row:
    """Block a user, or give a block another reason; {since, reason}.  Their open tasks go on."""
    before = blocks.block(tx, user, reason)
    after = blocks.of_user(tx, user)
    assert after is not None
    if before != after:
        audit.record(tx, operator, "block", "user", user, before=before, after=after)
    return after


def unblock(tx: Transaction, operator: Operator, user: str) -> bool:
    """End a user's block; False if there was none."""
    before = blocks.unblock(tx, user)
    if before is not None:
        audit.record(tx, operator, "unblock", "user", user, before=before)
    return before is not None


def grant(tx: Transaction, operator: Operator, user: str, amount: int, reference: str) -> Granted:
    """Grant credits once for each reference; an existing grant may have another user or amount."""
    given = credits.grant_once(tx, user, amount, reference)
    if given.is_new:
        after = {"amount": amount, "reference": reference, "balance": given.balance}
        audit.record(
            tx, operator, "grant", "user", user, before={"balance": given.balance - amount}, after=after
        )
    return given


def revoke_user(tx: Transaction, operator: Operator, user: str, not_before: float) -> None:
    """Revoke every token that a user has had until this moment, in seconds since 1970."""
    revocations.revoke_user(tx, user, not_before)
    audit.record(tx, operator, "revoke", "user", user, after={"not_before": not_before})


def revoke_token(tx: Transaction, operator: Operator, token_id: str, now: float) -> None:
    """Revoke one token by its id."""
    revocations.revoke_token(tx, token_id, now)
    audit.record(tx, operator, "revoke", "token", token_id)
