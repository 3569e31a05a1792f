"""The progress of the search for files without a row; each sweep goes on where the last one stopped."""

from __future__ import annotations

import dataclasses

from supervisor.database.interface.database import Transaction
from supervisor.schema.statements import NOW, Built, ago, param
from supervisor.schema.tables import FileWalk

EVERY_SECONDS = 86_400


_UNDER_WAY = Built(
    FileWalk.select(FileWalk.store_id, FileWalk.after_key).where(
        (FileWalk.after_key != "") | FileWalk.begun_at.is_null() | (FileWalk.begun_at < ago("seconds"))
    )
)
_BEGIN = Built(FileWalk.update(begun_at=NOW))
_NOTE = Built(FileWalk.update(after_key=param("after")))


@dataclasses.dataclass(frozen=True)
class OrphanScan:
    """store_id: the mark of this database in its store.  after: the last key that was checked."""

    store_id: str
    after: str


def under_way(tx: Transaction) -> OrphanScan | None:
    """The search that must continue or begin now; None until a day after the last one began."""
    row = tx.one(_UNDER_WAY, seconds=EVERY_SECONDS)
    return None if row is None else OrphanScan(row["store_id"], row["after_key"])


def begin(tx: Transaction) -> None:
    """Begin a new search."""
    tx.execute(_BEGIN)


def note(tx: Transaction, after: str) -> None:
    """Record that every key up to this one was checked; '' at the end of the search."""
    tx.execute(_NOTE, after=after)
