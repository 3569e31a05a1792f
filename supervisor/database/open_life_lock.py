"""The locks of processes, of either database."""

from __future__ import annotations

from config.settings import Settings
from supervisor.database.interface.database import Database
from supervisor.database.interface.life_lock import LifeLock, Lives
from supervisor.database.sqlite.sqlite_database import SqliteDatabase
from supervisor.database.sqlite.sqlite_life_lock import SqliteLifeLock, SqliteLives


def open_life_lock(database: Database, settings: Settings) -> LifeLock:
    """This process's own.  Nothing is opened yet."""
    if isinstance(database, SqliteDatabase):
        return SqliteLifeLock(database.path)
    from supervisor.database.postgres.postgres_life_lock import PostgresLifeLock

    return PostgresLifeLock(settings.database_listen_url or settings.database_url)


def lives_on(database: Database) -> Lives:
    """Which processes on this database have ended, for a process without a lock of its own."""
    if isinstance(database, SqliteDatabase):
        return SqliteLives(database.path)
    from supervisor.database.postgres.postgres_life_lock import PostgresLives

    return PostgresLives()
