"""The wake counters: one read tells a woken process whether anything happened that concerns it.

SQLite only.  A file's watcher is woken by every commit; PostgreSQL notifies whom it concerns, and there a row that
every writer raises would let only one of them work at a time.
"""

from __future__ import annotations

import dataclasses

from supervisor.database.interface.database import Transaction


@dataclasses.dataclass(frozen=True)
class Wakes:
    """dispatch rises with whatever makes work or frees a slot, feed with every change a user sees."""

    dispatch: int
    feed: int


def read(tx: Transaction) -> Wakes:
    """Both counters; on PostgreSQL they stand still."""
    if tx.dialect.has_many_writers:
        return Wakes(0, 0)
    row = tx.one("SELECT dispatch, feed FROM wake WHERE id = 1")
    assert row is not None
    return Wakes(**row)
