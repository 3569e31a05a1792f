"""The only way to open a database; its address says which kind it is."""

from __future__ import annotations

from config.settings import Settings
from supervisor.core.errors import SettingFault
from supervisor.database.interface.database import Database, is_postgres
from supervisor.database.sqlite.sqlite_database import SqliteDatabase, sqlite_file


def open_database(where: Settings | str) -> Database:
    """The database of these settings, or behind a bare address; nothing is opened yet.  Raises SettingFault."""
    url = where if isinstance(where, str) else where.database_url
    if not is_postgres(url):
        path, synchronous = sqlite_file(url)
        return SqliteDatabase(path, synchronous=synchronous)
    try:
        from supervisor.database.postgres.postgres_database import PostgresDatabase
    except ImportError:
        raise SettingFault(
            "DATABASE_URL names PostgreSQL, whose client is not installed: pip install 'darkroom-queue[postgres]'."
        ) from None
    if isinstance(where, str):
        return PostgresDatabase(url)
    return PostgresDatabase(
        url, connections=where.database_connections, pooled=where.database_listen_url not in ("", url)
    )
