"""Bring a SQLite file up to date, under a file lock beside it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable

import peewee

from config.settings import Settings
from supervisor.core.errors import DatabaseBusy, SettingFault
from supervisor.database.sqlite.sqlite_database import is_passing, sqlite_file
from supervisor.objects.private_files import make_database_file, make_private_folder
from supervisor.schema.shared.count_rows import COUNT_ANEW_ON_SQLITE
from supervisor.schema.sqlite.sqlite_triggers import triggers

BUSY_SECONDS = 15.0  # for a program that holds the file; then the upgrade is tried again


def upgrade_sqlite(settings: Settings, run: Callable[[peewee.Database], list[str]]) -> list[str]:
    """Run the migrations and make the triggers; what `run` returns.

    Raises SettingFault, and DatabaseBusy if it can't be done now: try again.
    """
    path = sqlite_file(settings.database_url)[0]
    try:
        make_private_folder(path.parent)
        lock = os.open(path.with_name(path.name + ".migrate"), os.O_RDWR | os.O_CREAT, 0o600)
        make_database_file(path, settings.data_dir)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DatabaseBusy(f"The database folder {path.parent} is full; free some space.") from None
        raise SettingFault(
            f"The database folder {path.parent} can't be written ({error.strerror}); mend DATA_DIR."
        ) from None
    database = peewee.SqliteDatabase(
        str(path), pragmas={"journal_mode": "wal", "synchronous": "full"}, timeout=BUSY_SECONDS
    )
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        database.connect()
        applied = run(database)
        with database.atomic("IMMEDIATE"):
            _make_triggers(database)
            grant = settings.credits.signup_grant if settings.credits.enabled else 0
            database.execute_sql(
                "UPDATE rule SET signup_grant = :grant WHERE signup_grant <> :grant", {"grant": grant}
            )
        return applied
    except peewee.DatabaseError as error:
        if is_passing(error):
            raise DatabaseBusy(f"The database {path} can't be upgraded: {error}.") from error
        raise SettingFault(f"The database {path} can't be upgraded: {error}.") from error
    finally:
        database.close()
        os.close(lock)


def _make_triggers(database: peewee.Database) -> None:
    wanted = {name: f"CREATE TRIGGER {name} {text}" for name, text in triggers().items()}
    rows = database.execute_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    present = dict(rows)
    if present == wanted:
        return
    for name in present:
        database.execute_sql(f"DROP TRIGGER {name}")
    for statement in (*wanted.values(), *COUNT_ANEW_ON_SQLITE):
        database.execute_sql(statement)
