"""Revoked tokens: all that a user had at some moment, or one by its id.

A row says from when on a user's tokens are valid again (`not_before`, in seconds since 1970, by the clock of the host
that revokes, since that clock also dates tokens), or that a token id is invalid.  It is read in a transaction that the
request needs anyway, so it costs no round trip.  Signed file links and callback tokens belong to no user and can't be
revoked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from supervisor.core.ids import seconds_of_ulid
from supervisor.database.interface.database import PendingResult, Transaction
from supervisor.security.token_proof import TOKEN, USER, Proof
from supervisor.store.sql.rows import encoded

MOST_ASKED_AT_ONCE = 1000
# after the token's end: a sweep whose clock is ahead must not make a token valid again
KEPT_SECONDS = 30 * 86_400


def revoke_user(tx: Transaction, user: str, not_before: float) -> None:
    """Make every token of the user from before that time invalid.  A row only ever moves forward."""
    tx.execute(
        f"""INSERT INTO token_revocation (kind, name, not_before) VALUES ('{USER}', :user, :not_before)
            ON CONFLICT (name, kind) DO UPDATE
                SET not_before = {tx.greatest("token_revocation.not_before", "excluded.not_before")},
                    revoked_at = {tx.now}""",
        user=user, not_before=not_before,
    )  # fmt: skip


def revoke_token(tx: Transaction, token_id: str, now: float) -> None:
    """Make the token with this id invalid.  The row is deleted a month after the token's end, if its id says when that
    is."""
    tx.execute(
        f"""INSERT INTO token_revocation (kind, name, not_before, expires_at)
            VALUES ('{TOKEN}', :token_id, :now, :expires_at)
            ON CONFLICT (name, kind) DO NOTHING""",
        token_id=token_id, now=now, expires_at=seconds_of_ulid(token_id),
    )  # fmt: skip


def ask(tx: Transaction, proofs: Collection[Proof]) -> PendingResult:
    """The rows that may concern these proofs, for `is_revoked`."""
    names = {proof.subject for proof in proofs} | {proof.token_id for proof in proofs if proof.token_id}
    return tx.ask(
        f"SELECT kind, name, not_before FROM token_revocation WHERE {tx.is_one_of('name', ':names')}",
        names=encoded(sorted(names)),
    )


def concerning(tx: Transaction, proofs: Iterable[Proof]) -> list[dict[str, Any]]:
    """The same for many tokens, in several parts: there may be thousands of streams."""
    several, found = list(proofs), []
    for start in range(0, len(several), MOST_ASKED_AT_ONCE):
        found += ask(tx, several[start : start + MOST_ASKED_AT_ONCE]).all()
    return found


def prune(tx: Transaction, now: float, most: int) -> int:
    """Delete the ids of tokens that have expired by themselves; how many.  now: seconds since 1970."""
    return tx.run(
        """DELETE FROM token_revocation WHERE name IN (SELECT name FROM token_revocation
            WHERE expires_at IS NOT NULL AND expires_at < :now ORDER BY expires_at LIMIT :most) AND kind = 'jti'""",
        now=now - KEPT_SECONDS, most=most,
    )  # fmt: skip
