"""The leader's lock of either database."""

from __future__ import annotations

from collections.abc import Callable

from config.settings import Settings
from supervisor.database.interface.database import Database
from supervisor.database.interface.leader_lock import LeaderLock
from supervisor.database.sqlite.sqlite_database import SqliteDatabase


def open_leader_lock(database: Database, settings: Settings, on_change: Callable[[], None]) -> LeaderLock:
    """Nothing is opened yet.  on_change: called, in any thread, when it was got or lost unasked."""
    if isinstance(database, SqliteDatabase):
        from supervisor.database.sqlite.sqlite_leader_lock import SqliteLeaderLock

        return SqliteLeaderLock(database.path)
    from supervisor.database.postgres.postgres_leader_lock import PostgresLeaderLock

    return PostgresLeaderLock(settings.database_listen_url or settings.database_url, on_change)
