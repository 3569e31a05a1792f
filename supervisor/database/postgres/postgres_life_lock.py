"""Locks of processes on PostgreSQL: an advisory lock of a session that each process keeps open for nothing else."""

from __future__ import annotations

from supervisor.database.interface.database import Transaction
from supervisor.database.interface.life_lock import LifeLock, Lives
from supervisor.database.postgres.postgres_leader_lock import KEY, PostgresLeaderLock


class PostgresLives(Lives):
    """Asks in the transaction itself."""

    def has_ended(self, tx: Transaction, name: str) -> bool:
        # Shared, for several may ask at once; it is released with the transaction.
        return bool(
            tx.value(
                f"SELECT pg_try_advisory_xact_lock_shared({KEY.format(':holder')})", holder=_holder(name)
            )
        )


class PostgresLifeLock(PostgresLives, LifeLock):
    """The same, with a lock of its own.  url: of the server itself, not of a pooler."""

    def __init__(self, url: str) -> None:
        LifeLock.__init__(self)
        self._lock = PostgresLeaderLock(url, lambda: None, _holder(self.name))
        self._is_closed = False

    def seek(self) -> None:
        self._lock.seek()

    @property
    def is_held(self) -> bool:
        return self._lock.is_held

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._lock.close()


def _holder(name: str) -> str:
    return f"process {name}"
