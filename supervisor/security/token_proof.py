"""By what a token can be taken back, and whether it was.  Pure; a program that reads no tokens loads no JWT library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

USER, TOKEN = "user", "jti"  # what a row of `token_revocation` is about


@dataclass(frozen=True, slots=True)
class Proof:
    """subject: whose token it is; a service's own name, whomever it acts for.

    issued_at: seconds since 1970, 0 where the token does not say: it counts as older than any other.
    token_id: its `jti`, if it has one.
    """

    subject: str
    issued_at: float
    token_id: str | None = None


def is_revoked(rows: Iterable[Mapping[str, Any]], proofs: Iterable[Proof]) -> bool:
    """Whether one of the proofs was taken back.  rows: of `token_revocation`, all that may concern them."""
    known = {(row["kind"], row["name"]): row["not_before"] for row in rows}
    return any(
        (TOKEN, proof.token_id) in known or proof.issued_at < known.get((USER, proof.subject), 0.0)
        for proof in proofs
    )
