"""Databases of earlier releases, from the dumps beside this file (`tests/upgrade/fill.py` made them)."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg

from config.settings import Settings
from tests.support.servers.postgres_server import server
from tests.upgrade.fill import DEADLINE_SECONDS

FOLDER = Path(__file__).parent
TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(\.\d+)(Z|[+-]\d\d)?")


def as_of_now(dump: str) -> str:
    """The dump as if it had been filled a moment ago: every time in its rows is moved by one interval.

    A task as old as the dump would be older than EXPIRE_SECONDS, and rightly fail.
    """
    lines = dump.splitlines()
    in_rows = [found for line in lines if line.startswith("INSERT") for found in TIME.finditer(line)]
    last_deadline = max(_moment(found) for found in in_rows)
    filled = last_deadline - datetime.timedelta(seconds=DEADLINE_SECONDS)
    ahead = datetime.datetime.now(datetime.UTC) - filled

    def moved(found: re.Match[str]) -> str:
        then = datetime.datetime.fromisoformat(found[1]) + ahead
        return then.isoformat(found[1][10], "seconds") + found[2] + (found[3] or "")

    return "\n".join(TIME.sub(moved, line) if line.startswith("INSERT") else line for line in lines)


def _moment(found: re.Match[str]) -> datetime.datetime:
    return datetime.datetime.fromisoformat(f"{found[1]}{found[3] or 'Z'}")


@contextlib.contextmanager
def restored(name: str, folder: Path) -> Iterator[Settings]:
    """Settings of a database as this dump has it, filled a moment ago.  name: such as `0012-sqlite`."""
    dump = as_of_now(gzip.decompress((FOLDER / f"{name}.sql.gz").read_bytes()).decode())
    if name.endswith("-sqlite"):
        with contextlib.closing(sqlite3.connect(folder / "darkroom.db")) as connection:
            connection.executescript(dump)
            connection.execute("PRAGMA journal_mode = wal")
        yield Settings(data_dir=folder)
        return
    database = server().create_database()
    with contextlib.closing(psycopg.connect(server().url(database), autocommit=True)) as connection:
        connection.execute(dump)
    yield Settings(data_dir=folder, database_url=server().url(database))
    server().drop_database(database)
