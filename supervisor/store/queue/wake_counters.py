"""The wake counters: a woken process reads them once and knows whether the commit concerns it.

SQLite only: every commit wakes the watcher of the file.  PostgreSQL notifies only the right listeners, and there a row
that every writer raises would let only one of them write at a time.
"""

from __future__ import annotations

import dataclasses

from supervisor.database.interface.database import Transaction


@dataclasses.dataclass(frozen=True)
class Wakes:
    """dispatch rises with every change that makes work or frees a slot, feed with every change that a user sees."""

    dispatch: int
    feed: int


def read(tx: Transaction) -> Wakes:
    """Both counters; on PostgreSQL they never change."""
    if tx.dialect.has_many_writers:
        return Wakes(0, 0)
    row = tx.one("SELECT dispatch, feed FROM wake WHERE id = 1")
    assert row is not None
    return Wakes(**row)
