"""Files whose rows are gone: named here in the transaction that forgets them, until their objects are gone too.

Whoever dies between the row and the object has written down what is left to do; deleting an object twice does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable

from supervisor.database.interface.database import Transaction
from supervisor.store.sql.rows import encoded


def enqueue_deletion(tx: Transaction, keys: Iterable[str]) -> int:
    """These objects are nobody's any more; how many they are."""
    doomed = sorted(set(keys))
    if doomed:
        tx.execute(
            f"""INSERT INTO doomed_file (key, doomed_at) SELECT value, {tx.now} FROM {tx.texts(":keys")} AS doomed
                WHERE 1 = 1 ON CONFLICT (key) DO NOTHING""",
            keys=encoded(doomed),
        )
    return len(doomed)


def next_keys(tx: Transaction, most: int) -> list[str]:
    """Some that are still to be deleted."""
    return [row["key"] for row in tx.all("SELECT key FROM doomed_file ORDER BY key LIMIT :most", most=most)]


def forget(tx: Transaction, keys: Iterable[str]) -> None:
    """Their objects are gone."""
    tx.execute(f"DELETE FROM doomed_file WHERE key IN {tx.each_of(':keys')}", keys=encoded(list(keys)))
