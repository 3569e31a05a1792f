"""The queue of files to be deleted: the transaction that deletes a row adds its key; the key stays until the object is
gone.

If a process dies between the row and the object, the key is still in the queue.  Deleting an object twice does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.database.interface.database import Transaction
from supervisor.schema.statements import Built, each_of, param
from supervisor.schema.tables import DoomedFile
from supervisor.store.sql.rows import encoded

_NEXT = Built(DoomedFile.select(DoomedFile.key).order_by(DoomedFile.key).limit(param("most")))
_FORGET = Built(DoomedFile.delete().where(DoomedFile.key.in_(each_of("keys"))))


def enqueue_deletion(tx: Transaction, keys: Iterable[str]) -> int:
    """Queue these objects for deletion; how many."""
    doomed = sorted(set(keys))
    if doomed:
        tx.execute(
            f"""INSERT INTO doomed_file (key, doomed_at) SELECT value, {tx.now} FROM {tx.texts(":keys")} AS doomed
                WHERE 1 = 1 ON CONFLICT (key) DO NOTHING""",
            keys=encoded(doomed),
        )
    return len(doomed)


def next_keys(tx: Transaction, most: int) -> list[str]:
    """Some of the keys in the queue."""
    return [row["key"] for row in tx.all(_NEXT, most=most)]


def forget(tx: Transaction, keys: Iterable[str]) -> None:
    """Remove these keys from the queue, because their objects are deleted."""
    tx.execute(_FORGET, keys=encoded(list(keys)))
