"""The clocks: monotonic time is the event loop's; the database's wall clock is that plus the steps.

Wall time does not move between two events, so a seed gives the same times on any machine.
"""

from __future__ import annotations

import contextlib
import datetime
import sqlite3
from typing import Any

from supervisor.database.sqlite.sqlite_database import SqliteDatabase
from tests.histories.virtual_loop import FIRST_MOMENT, VirtualLoop
from tests.support.databases import PlainPostgres

EPOCH = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)
_FROZEN = """CREATE OR REPLACE FUNCTION darkroom_now() RETURNS timestamptz LANGUAGE plpgsql STABLE AS $body$
BEGIN
    RETURN timestamptz '2026-03-01T00:00:00Z' + (SELECT shift FROM rule);
END $body$"""


class WorldClock:
    """ahead: by how many seconds the wall clock has been stepped."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.ahead = 0.0
        self._formatter = sqlite3.connect(":memory:", check_same_thread=False)
        self._postgres: PlainPostgres | None = None
        self._told: float | None = None

    def step(self, seconds: float) -> None:
        """The clock is set."""
        self.ahead += seconds

    @property
    def since_epoch(self) -> float:
        """Seconds of wall time since EPOCH."""
        return round(self._loop.time() - FIRST_MOMENT + self.ahead, 3)

    def text(self, in_seconds: float = 0.0) -> str:
        """Wall time as the database writes it."""
        moment = EPOCH + datetime.timedelta(seconds=self.since_epoch + in_seconds)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def nanoseconds(self) -> int:
        """For ids that contain the time."""
        return int((EPOCH.timestamp() + self.since_epoch) * 1e9)

    def show_to_sqlite(self, connection: sqlite3.Connection) -> None:
        """Let a connection see this clock as 'now'."""

        def strftime(pattern: str, *more: Any) -> Any:
            asked = [self.text() if part == "now" else part for part in more]
            marks = ",".join("?" * len(asked))
            return self._formatter.execute(f"SELECT strftime(?,{marks})", (pattern, *asked)).fetchone()[0]

        connection.create_function("strftime", -1, strftime)

    def show_to_postgres(self, url: str) -> None:
        """Let a database see it as `darkroom_now()`."""
        self._postgres = PlainPostgres(url)
        self._postgres.raw.execute(_FROZEN)

    def tell(self) -> None:
        """Before a statement: the database learns what time it is."""
        if self._postgres is not None and self._told != self.since_epoch:
            self._told = self.since_epoch
            self._postgres.raw.execute(
                "UPDATE rule SET shift = make_interval(secs => %s)", (self._told,), prepare=True
            )

    def close(self) -> None:
        """Give connections back."""
        self._formatter.close()
        if self._postgres is not None:
            with contextlib.suppress(Exception):
                self._postgres.close()


class SqliteOfTheWorld(SqliteDatabase):
    """A SQLite database that sees the world's clock, and need not survive loss of power."""

    def __init__(self, path: str, clock: WorldClock) -> None:
        super().__init__(path, synchronous="normal")
        self._clock = clock

    def _connect(self, database: Any) -> None:
        super()._connect(database)
        self._clock.show_to_sqlite(database.connection())
