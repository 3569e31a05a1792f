"""How far the search for files without a row has come; it goes on where the last sweep stopped."""

from __future__ import annotations

import dataclasses

from supervisor.database.interface.database import Transaction

EVERY_SECONDS = 86_400


@dataclasses.dataclass(frozen=True)
class Walk:
    """store_id: the name that this database puts into its store.  after: the last key that was looked at."""

    store_id: str
    after: str


def under_way(tx: Transaction) -> Walk | None:
    """The walk that is to go on, or is due again; None until a day after the last one began."""
    row = tx.one(
        f"""SELECT store_id, after_key FROM file_walk
            WHERE after_key <> '' OR begun_at IS NULL OR begun_at < {tx.ago(":every_seconds")}""",
        every_seconds=EVERY_SECONDS,
    )
    return None if row is None else Walk(row["store_id"], row["after_key"])


def begin(tx: Transaction) -> None:
    """A new walk begins."""
    tx.execute(f"UPDATE file_walk SET begun_at = {tx.now}")


def note(tx: Transaction, after: str) -> None:
    """Everything up to this key was looked at; '' when the walk has come to its end."""
    tx.execute("UPDATE file_walk SET after_key = :after", after=after)
