"""Create or upgrade the database; safe to run again, and from several places at once.

Migrations are the numbered files of `migrations/`, applied in order by playhouse.migrations.  It takes no lock, so each
database has its own (`sqlite_upgrade`, `postgres_upgrade`).  Triggers are made anew from the code after every run, so
they always fit the program that migrated last.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import peewee

from config.settings import Settings
from supervisor.core.errors import NotReady, SettingFault
from supervisor.database.interface.database import Database, Transaction, is_postgres
from supervisor.database.open_database import open_database
from supervisor.database.sqlite.sqlite_database import sqlite_file
from supervisor.schema.sqlite.sqlite_upgrade import upgrade_sqlite

VERSIONS = Path(__file__).parent / "migrations"
HISTORY = "migration_history"


def known_versions() -> list[str]:
    """Names of the migrations this program knows, in order."""
    return sorted(path.stem for path in VERSIONS.glob("[0-9]*.py"))


def migrate(settings: Settings) -> list[str]:
    """Bring the database of these settings up to date; the names of the migrations that were applied.

    Raises SettingFault if the database is newer than this program, or can't be written; DatabaseBusy if its server is
    away, or if it can't be written for now.
    """
    if is_postgres(settings.database_url):
        open_database(settings).close()  # raises if the client is not installed
        # Their client need not be installed.
        from supervisor.schema.postgres.install_triggers import lock_all_tables
        from supervisor.schema.postgres.postgres_upgrade import upgrade_postgres

        def lock(database: peewee.Database) -> None:
            lock_all_tables(database, _our_tables())

        return upgrade_postgres(settings, lambda database: _run(database, settings, lock))
    return upgrade_sqlite(settings, lambda database: _run(database, settings, lambda _: None))


def _our_tables() -> set[str]:
    """The names of the tables that this program works with."""
    from supervisor.schema import tables  # parts that only look at the version do not need it

    found = (each for each in vars(tables).values() if isinstance(each, type))
    return {each._meta.table_name for each in found if issubclass(each, peewee.Model)}


def _run(database: peewee.Database, settings: Settings, lock: Callable[[peewee.Database], None]) -> list[str]:
    """Apply the missing migrations.  lock: keeps other programs away until the caller's transaction ends."""
    from playhouse.migrations import (
        Runner,
    )  # several megabytes, which parts that only look at the version do not need

    present = _applied(database)
    _refuse_newer(present, settings)
    if set(known_versions()) - set(present):
        lock(database)
    applied = Runner(database, directory=str(VERSIONS), table_name=HISTORY).up()
    return [str(name) for name in applied or []]


def _applied(database: peewee.Database) -> list[str]:
    if not database.table_exists(HISTORY):
        return []
    return [row[0] for row in database.execute_sql(f"SELECT name FROM {HISTORY} ORDER BY name").fetchall()]


def _refuse_newer(applied: list[str], settings: Settings) -> None:
    newer = sorted(set(applied) - set(known_versions()))
    if newer:
        raise SettingFault(
            f"{_the_database(settings)} was upgraded by a newer Darkroom ({newer[-1]}); run that version, or restore "
            "a backup."
        )


def _the_database(settings: Settings) -> str:
    """The beginning of a sentence; it names no network address, which may hold a password."""
    if is_postgres(settings.database_url):
        return "The database"
    return f"The database {sqlite_file(settings.database_url)[0]}"


def check_version(
    database: Database, settings: Settings, *, runs_already: bool = False, may_be_older: bool = False
) -> None:
    """Refuse to start on a missing, old or newer database.  Raises SettingFault with what to do: NotReady if it is
    still to be migrated.

    runs_already: the program has connected before, so a newer program may have migrated meanwhile.  may_be_older: a
    newer program may have migrated while parts of this program run.  Raises DatabaseBusy if the database can't be read
    for now.
    """
    if is_postgres(settings.database_url):
        if not runs_already:
            from supervisor.database.postgres.connection import (
                refuse_wrong_address,  # its client need not be installed
            )

            refuse_wrong_address(settings.database_url)
    elif not sqlite_file(settings.database_url)[0].exists():
        raise NotReady(
            f"There is no database at {sqlite_file(settings.database_url)[0]}; run `darkroom migrate` first."
        )
    present = database.read(_history)
    if not (runs_already or may_be_older):
        _refuse_newer(present, settings)
    missing = [name for name in known_versions() if name not in present]
    if missing:
        raise NotReady(
            f"{_the_database(settings)} is not up to date ({missing[0]} is missing); run `darkroom migrate`."
        )


_HAS_HISTORY = {
    "sqlite": f"SELECT 1 FROM sqlite_master WHERE name = '{HISTORY}'",
    "postgresql": f"SELECT to_regclass('{HISTORY}')",
}


def _history(tx: Transaction) -> list[str]:
    if tx.value(_HAS_HISTORY[tx.dialect.name]) is None:
        return []
    return [row["name"] for row in tx.all(f"SELECT name FROM {HISTORY}")]
