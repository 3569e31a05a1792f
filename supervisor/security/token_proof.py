"""The data by which a token can be revoked, and whether it was.  Pure; it needs no JWT library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

USER, TOKEN = "user", "jti"  # the kinds of rows of `token_revocation`


@dataclass(frozen=True, slots=True)
class Proof:
    """subject: the owner of the token; for a service its own name, not the user's.

    issued_at: seconds since 1970; 0 if the token has none, so that it counts as older than any other.
    token_id: its `jti`, if it has one.
    """

    subject: str
    issued_at: float
    token_id: str | None = None


def owner_of(proofs: Sequence[Proof]) -> tuple[str, ...]:
    """The owner of a token, who may act for another user; empty without a token.  proofs: its own is the first."""
    return tuple(proof.subject for proof in proofs[:1])


def is_revoked(rows: Iterable[Mapping[str, Any]], proofs: Iterable[Proof]) -> bool:
    """Whether one of the proofs was revoked.  rows: of `token_revocation`, all that may concern them."""
    known = {(row["kind"], row["name"]): row["not_before"] for row in rows}
    return any(
        (TOKEN, proof.token_id) in known or proof.issued_at < known.get((USER, proof.subject), 0.0)
        for proof in proofs
    )
