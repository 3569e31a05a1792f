"""Create or upgrade the database; safe to run again, and from several places at once.

Migrations are the numbered files of `versions/`, applied in order by playhouse.migrations, which takes no lock:
ours is a file lock beside the database.  Triggers are dropped and made anew from the code after every run, so
they always belong to the program that migrated last.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import peewee
from playhouse.migrations import Runner

from config.settings import Settings
from supervisor.database import Database, Transaction
from supervisor.faults import SettingFault
from supervisor.schema.sqlite_triggers import triggers
from supervisor.sqlite_database import sqlite_file

VERSIONS = Path(__file__).parent / "versions"
HISTORY = "migration_history"


def known_versions() -> list[str]:
    """Names of the migrations this program knows, in order."""
    return sorted(path.stem for path in VERSIONS.glob("[0-9]*.py"))


def migrate(settings: Settings) -> list[str]:
    """Bring the database of these settings up to date; the names of the migrations that were applied.

    Raises SettingFault when the database is newer than this program, or can't be written.
    """
    path = sqlite_file(settings.database_url)[0]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(path.name + ".migrate"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingFault(
            f"The database folder {path.parent} can't be written ({error.strerror}); mend DATA_DIR."
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _upgrade(path, settings)
    except peewee.DatabaseError as error:
        raise SettingFault(f"The database {path} can't be upgraded: {error}.") from error
    finally:
        os.close(lock)


def _upgrade(path: Path, settings: Settings) -> list[str]:
    database = peewee.SqliteDatabase(
        str(path), pragmas={"journal_mode": "wal", "synchronous": "full"}, timeout=15
    )
    try:
        database.connect()
        _refuse_newer(_applied(database), path)
        applied = Runner(database, directory=str(VERSIONS), table_name=HISTORY).up()
        with database.atomic("IMMEDIATE"):
            _make_triggers(database)
            grant = settings.credits.signup_grant if settings.credits.enabled else 0
            database.execute_sql("UPDATE rule SET signup_grant = ? WHERE signup_grant <> ?", (grant, grant))
        return [str(name) for name in applied or []]
    finally:
        database.close()


def _applied(database: peewee.Database) -> list[str]:
    if not database.table_exists(HISTORY):
        return []
    return [row[0] for row in database.execute_sql(f"SELECT name FROM {HISTORY} ORDER BY name").fetchall()]


def _refuse_newer(applied: list[str], path: Path) -> None:
    newer = sorted(set(applied) - set(known_versions()))
    if newer:
        raise SettingFault(
            f"The database {path} was upgraded by a newer Darkroom ({newer[-1]}); run that version, or restore a "
            "backup."
        )


def _make_triggers(database: peewee.Database) -> None:
    wanted = {name: f"CREATE TRIGGER {name} {text}" for name, text in triggers().items()}
    rows = database.execute_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    present = dict(rows)
    if present == wanted:
        return
    for name in present:
        database.execute_sql(f"DROP TRIGGER {name}")
    for statement in wanted.values():
        database.execute_sql(statement)


def check_version(database: Database, settings: Settings) -> None:
    """Refuse to start on a database that is missing, old or newer.  Raises SettingFault with what to do."""

    def applied(tx: Transaction) -> list[str]:
        if tx.value("SELECT 1 FROM sqlite_master WHERE name = ?", HISTORY) is None:
            return []
        return [row["name"] for row in tx.all(f"SELECT name FROM {HISTORY}")]

    path = sqlite_file(settings.database_url)[0]
    if not path.exists():
        raise SettingFault(f"There is no database at {path}; run `darkroom migrate` first.")
    present = database.read(applied)
    _refuse_newer(present, path)
    missing = [name for name in known_versions() if name not in present]
    if missing:
        raise SettingFault(
            f"The database {path} is not up to date ({missing[0]} is missing); run `darkroom migrate`."
        )
