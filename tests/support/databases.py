"""The databases that tests run on: an empty migrated one of either kind in milliseconds, and plain connections to it.

`TEST_DATABASES=sqlite` (or `postgresql`) runs the tests of both on one kind only.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import psycopg

from config.settings import Settings
from supervisor.database.interface.database import Database
from supervisor.database.open_database import open_database
from supervisor.database.postgres.connection import Connection
from supervisor.database.postgres.exchange import Answer, Exchanges
from supervisor.database.postgres.sql import adapt, numbered
from supervisor.database.sqlite.sqlite_database import SqliteDatabase
from supervisor.schema.migrate import migrate
from tests.support.servers.postgres_databases import take_database

SQLITE, POSTGRESQL = "sqlite", "postgresql"
KINDS = tuple(os.environ.get("TEST_DATABASES", "sqlite,postgresql").split(","))

# The errors of a program that writes a forbidden value, or one of a wrong type.
REFUSED = (sqlite3.IntegrityError, psycopg.IntegrityError, psycopg.DataError)

# A conflict clause, which SQLite alone has there, overrides those of a trigger's statements.
INSERTS = {
    SQLITE: (
        "INSERT",
        "INSERT OR REPLACE",
        "INSERT OR IGNORE",
        "INSERT OR FAIL",
        "INSERT OR ROLLBACK",
        "REPLACE",
    ),
    POSTGRESQL: ("INSERT",),
}
UPDATES = {
    SQLITE: ("UPDATE", "UPDATE OR REPLACE", "UPDATE OR IGNORE", "UPDATE OR FAIL"),
    POSTGRESQL: ("UPDATE",),
}

Parameters = Sequence[Any] | Mapping[str, Any]


class Plain(Protocol):
    """A connection of a program that knows nothing of ours: a commit for each statement; parameters are `?`."""

    def execute(self, sql: str, parameters: Parameters = ..., /) -> Any: ...

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> Any: ...

    def close(self) -> None: ...


class PlainPostgres:
    """Like a sqlite3 connection, as far as the tests of both databases use one."""

    def __init__(self, url: str) -> None:
        self.raw = psycopg.connect(url, autocommit=True)
        adapt(self.raw)

    def execute(self, sql: str, parameters: Parameters = (), /) -> psycopg.Cursor[Any]:
        if isinstance(parameters, Mapping):  # sqlite3's `:name`
            parameters = [parameters[name] for name in re.findall(r"(?<!:):([a-z_]+)", sql)]
        return self.raw.execute(_in_psycopgs_way(sql).encode(), parameters)

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]], /) -> psycopg.Cursor[Any]:
        cursor = self.raw.cursor()
        cursor.executemany(_in_psycopgs_way(sql).encode(), parameters)
        return cursor

    def close(self) -> None:
        self.raw.close()


def _in_psycopgs_way(sql: str) -> str:
    return re.sub(r"\$\d+", "%s", numbered(sql.replace("%", "%%")).text.decode())


@functools.cache
def _migrated_file() -> Path:
    """An empty migrated SQLite database, made once a process; a copy of it costs a millisecond."""
    folder = Path(tempfile.mkdtemp(prefix="darkroom-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    migrate(Settings(data_dir=folder))
    return folder / "darkroom.db"


def fresh_settings(folder: Path, *, kind: str = SQLITE, **changed: Any) -> Settings:
    """Settings of a data folder with an empty migrated database behind them."""
    if kind == POSTGRESQL:
        return Settings(data_dir=folder, **{"database_url": take_database(), **changed})
    shutil.copyfile(_migrated_file(), folder / "darkroom.db")
    return Settings(data_dir=folder, **changed)


def is_postgres(settings: Settings) -> bool:
    """Which kind these settings name."""
    return settings.database_url.startswith("postgresql:")


def open_quickly(settings: Settings) -> Database:
    """The database of these settings, which need not survive loss of power."""
    if is_postgres(settings):
        return open_database(settings)
    return SqliteDatabase(settings.database_url.removeprefix("sqlite:///"), synchronous="normal")


def plain_connection(settings: Settings) -> Plain:
    """What a program has that knows nothing of ours: no pragma, no function, a commit for each statement."""
    if is_postgres(settings):
        return PlainPostgres(settings.database_url)
    return sqlite3.connect(settings.data_dir / "darkroom.db", timeout=15, isolation_level=None)


def counted_exchanges(monkeypatch: Any) -> list[int]:
    """How many statements each exchange of this process with a PostgreSQL has, from now on.

    An exchange is all that is sent before a wait for the answer to some of it: what was sent before such a wait, and is
    read later, costs no further journey to the server.
    """
    counted: list[int] = []
    sent: list[list[Answer]] = []
    on_their_way = 0  # of `sent`, at the last wait that counted
    send, read, take_back = Exchanges.send, Exchanges.read, Connection.take_back

    def sending(self: Exchanges, several: Sequence[Answer]) -> None:
        sent.append(list(several))
        send(self, several)

    def reading(self: Exchanges, until: Answer | None = None) -> None:
        nonlocal on_their_way
        new = sent[on_their_way:]
        if until is not None and any(until is each for several in new for each in several):
            counted.append(sum(map(len, new)))
            on_their_way = len(sent)
        read(self, until)

    def rolling_back(self: Connection) -> None:
        counted.append(1)
        take_back(self)

    monkeypatch.setattr(Exchanges, "send", sending)
    monkeypatch.setattr(Exchanges, "read", reading)
    monkeypatch.setattr(Connection, "take_back", rolling_back)
    return counted
