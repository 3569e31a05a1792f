"""One dispatcher works, any number stand by.

The row holds who works, its term, and a beat that rises with every tick.  A standby that has watched the same
beat for long enough by its own clock takes over by compare-and-set on (term, beat); every dispatch names its
term, so a dispatcher that was frozen meanwhile finds that it is no longer the one.
"""

from __future__ import annotations

import dataclasses

from supervisor.database import Asked, Transaction


@dataclasses.dataclass(frozen=True)
class Leadership:
    """What the row says."""

    holder: str | None
    term: int
    beat: int


def read(tx: Transaction) -> Leadership:
    """Who works now."""
    row = tx.one("SELECT holder, term, beat FROM dispatcher WHERE id = 1")
    assert row is not None
    return Leadership(**row)


def ask_term(tx: Transaction) -> Asked:
    """Ask which dispatcher's turn it is; from there to the commit nobody else can become it."""
    return tx.ask(f"SELECT term FROM dispatcher WHERE id = 1{tx.for_update}")


def is_held(tx: Transaction, held: Leadership) -> bool:
    """Whether this dispatcher is still the one."""
    return bool(ask_term(tx).value() == held.term)


def take_over(tx: Transaction, seen: Leadership, holder: str) -> Leadership | None:
    """Become the working dispatcher unless the other one has stirred since; None then."""
    row = tx.one(
        """UPDATE dispatcher SET holder = ?, term = term + 1, beat = beat + 1
            WHERE id = 1 AND term = ? AND beat = ? RETURNING holder, term, beat""",
        holder, seen.term, seen.beat,
    )  # fmt: skip
    return None if row is None else Leadership(**row)


def renew(tx: Transaction, held: Leadership) -> bool:
    """Show that the working dispatcher lives; False when another has taken over."""
    return tx.run("UPDATE dispatcher SET beat = beat + 1 WHERE id = 1 AND term = ?", held.term) == 1


def resign(tx: Transaction, held: Leadership) -> None:
    """Stop working in good order: the next one need not wait."""
    tx.execute(
        "UPDATE dispatcher SET holder = NULL, term = term + 1, beat = beat + 1 WHERE id = 1 AND term = ?",
        held.term,
    )
