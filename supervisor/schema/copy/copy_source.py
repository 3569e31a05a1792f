"""A SQLite database that no other program has open, as the source of a copy: its tables, their rows, and the sums.

An exclusive lock proves that: SQLite gives it only to a single connection, so a running part, a shell or a backup
prevents it, and no program can write, or even read, until the copy is over.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from supervisor.core.errors import SettingFault
from supervisor.database.sqlite.sqlite_database import READABLE_TEXT

HISTORY = "migration_history"
WAIT_SECONDS = 3.0  # for a part that is just ending
ROWS_AT_ONCE = 1000

# Characters that PostgreSQL can't store: NUL, and halves of a surrogate pair.  In JSON text they are escaped.
_NUL = "\x00"
_ESCAPED = re.compile(r"\\u(0000|d[89a-f])", re.IGNORECASE)
_REPLACED = "\ufffd"


class Source:
    """path: of a file of this program's version.  Raises SettingFault for another version, and for a file in use."""

    def __init__(self, path: Path, known_versions: Sequence[str]) -> None:
        if not path.exists():
            raise SettingFault(f"There is no database at {path}.")
        self.path = path
        self._connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None)
        self._connection.text_factory = READABLE_TEXT
        try:
            self._connection.execute("PRAGMA locking_mode = exclusive")
            self._connection.execute("BEGIN EXCLUSIVE")
            self._refuse_other_versions(known_versions)
        except sqlite3.OperationalError as error:
            self.close()
            if "locked" not in str(error):
                raise SettingFault(f"{path} can't be read: {error}.") from error
            raise SettingFault(
                f"A process has {path} open. Stop Darkroom (every part of it, and any shell in that file), then copy."
            ) from None
        except (SettingFault, sqlite3.DatabaseError) as error:
            self.close()
            if isinstance(error, SettingFault):
                raise
            raise SettingFault(f"{path} can't be read: {error}.") from error

    def close(self) -> None:
        """Release the lock."""
        self._connection.close()

    def tables(self) -> dict[str, list[str]]:
        """{table: its columns}, without SQLite's own tables."""
        names = self._all(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY name"
        )
        return {name: [row[1] for row in self._all(f"PRAGMA table_info({name})")] for (name,) in names}

    def count(self, table: str) -> int:
        return int(self._all(f"SELECT count(*) FROM {table}")[0][0])

    def rows(
        self, table: str, columns: Sequence[str], json_columns: frozenset[str]
    ) -> Iterator[list[list[Any]]]:
        """A table's rows, some at a time, as PostgreSQL takes them."""
        clean: list[Callable[[Any], Any]] = [_clean_json if c in json_columns else _clean for c in columns]
        with contextlib.closing(self._connection.cursor()) as cursor:
            cursor.execute(f"SELECT {', '.join(columns)} FROM {table}")
            while several := cursor.fetchmany(ROWS_AT_ONCE):
                yield [[of(value) for of, value in zip(clean, row, strict=True)] for row in several]

    def last_ids(self) -> dict[str, int]:
        """{table: the last used id}, even if its row was deleted."""
        return {name: int(last) for name, last in self._all("SELECT name, seq FROM sqlite_sequence")}

    def value(self, sql: str) -> Any:
        return self._all(sql)[0][0]

    def _refuse_other_versions(self, known: Sequence[str]) -> None:
        if not self._all(f"SELECT 1 FROM sqlite_master WHERE name = '{HISTORY}'"):
            raise SettingFault(f"{self.path} is no database of Darkroom's.")
        present = {row[0] for row in self._all(f"SELECT name FROM {HISTORY}")}
        if present != set(known):
            raise SettingFault(
                f"{self.path} is not of this version; run this version's `darkroom migrate` on it first."
                if present < set(known)
                else f"{self.path} was upgraded by a newer Darkroom; copy with that one."
            )

    def _all(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql).fetchall()


def _clean(value: Any) -> Any:
    return value.replace(_NUL, _REPLACED) if isinstance(value, str) and _NUL in value else value


def _clean_json(value: Any) -> Any:
    if not isinstance(value, str) or not _ESCAPED.search(value):
        return value
    import json  # orjson refuses half a pair, so it finds them

    return orjson.dumps(_without_halves(json.loads(value))).decode()


def _without_halves(value: Any) -> Any:
    match value:
        case str():
            return re.sub("[\x00\ud800-\udfff]", _REPLACED, value)
        case list():
            return [_without_halves(each) for each in value]
        case dict():
            return {_without_halves(name): _without_halves(each) for name, each in value.items()}
    return value
