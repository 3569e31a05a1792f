"""The progress of the search for files without a row; each sweep goes on where the last one stopped."""

from __future__ import annotations

import dataclasses

from supervisor.database.interface.database import Transaction

EVERY_SECONDS = 86_400


@dataclasses.dataclass(frozen=True)
class Walk:
    """store_id: the mark of this database in its store.  after: the last key that was checked."""

    store_id: str
    after: str


def under_way(tx: Transaction) -> Walk | None:
    """The search that is to go on, or is due again; None until a day after the last one began."""
    row = tx.one(
        f"""SELECT store_id, after_key FROM file_walk
            WHERE after_key <> '' OR begun_at IS NULL OR begun_at < {tx.ago(":every_seconds")}""",
        every_seconds=EVERY_SECONDS,
    )
    return None if row is None else Walk(row["store_id"], row["after_key"])


def begin(tx: Transaction) -> None:
    """Begin a new search."""
    tx.execute(f"UPDATE file_walk SET begun_at = {tx.now}")


def note(tx: Transaction, after: str) -> None:
    """Record that every key up to this one was checked; '' at the end of the search."""
    tx.execute("UPDATE file_walk SET after_key = :after", after=after)
