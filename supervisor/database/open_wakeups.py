"""The wake-ups of either database."""

from __future__ import annotations

from config.settings import Settings
from supervisor.database.interface.database import Database
from supervisor.database.interface.wakeups import Wakeups
from supervisor.database.sqlite.sqlite_database import SqliteDatabase
from supervisor.database.sqlite.sqlite_wakeups import SqliteWakeups


def dispatch_wakeups(database: Database, settings: Settings) -> Wakeups:
    """For the dispatcher: a wake-up for every change that makes work or frees a slot."""
    return _wakeups(database, settings, "darkroom_dispatch", rescans=False)


def feed_wakeups(database: Database, settings: Settings) -> Wakeups:
    """For the feed: a wake-up for every change that a user sees."""
    return _wakeups(database, settings, "darkroom_feed", rescans=True)


def _wakeups(database: Database, settings: Settings, channel: str, *, rescans: bool) -> Wakeups:
    if isinstance(database, SqliteDatabase):
        return SqliteWakeups(database)
    from supervisor.database.postgres.postgres_wakeups import PostgresWakeups

    url = settings.database_listen_url or settings.database_url
    return PostgresWakeups(url, channel, rescans=rescans)
