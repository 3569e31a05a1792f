"""The cost of a scrape at 1,000,000 finished and 100,000 open tasks: the queries, and the whole text of /metrics.

The rows are inserted without triggers, which would take minutes and change no figure here.
"""

from __future__ import annotations

import contextlib
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from config.settings import Settings
from metrics.database_collector import read_snapshot
from metrics.exposition import Exposition
from supervisor.database.open_database import open_database
from supervisor.schema.migrate import migrate

FINISHED = 1_000_000
WAITING = 90_000
REMOTE = 10_000
ROUNDS = 15
USERS = 5_000

_COLUMNS = "id, user_openid, type, params, admitted_charge"
_VALUES = """substr('ABC', k, 1) || substr('0000000000' || n, -10), 'u' || (n % {users}),
    CASE WHEN n % 3 = 0 THEN 'fitting' ELSE 'photography' END, '{{}}', 1"""
_MANY = (
    "WITH RECURSIVE each(n, k) AS (SELECT 1, {kind} UNION ALL SELECT n + 1, k FROM each WHERE n < {count})"
)
_AHEAD = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+1 day')"
_BEFORE = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', (n - 200000) || ' seconds')"

_ROWS = (
    (FINISHED, 1, "status, progress, finished_at", "'completed', 100, '2026-01-01T00:00:00.000Z'"),
    (
        WAITING,
        2,
        "status, ready, turn, expires_at, created_at",
        f"'pending', 1, n / 5000, {_AHEAD}, {_BEFORE}",
    ),
    (
        REMOTE,
        3,
        "status, attempt, lease, next_poll_at, remote_deadline_at, expires_at, processing_started_at",
        f"'ai_processing', 1, 1, {_AHEAD}, {_AHEAD}, {_AHEAD}, {_BEFORE}",
    ),
)


def run() -> dict[str, str]:
    """{what: milliseconds}."""
    with tempfile.TemporaryDirectory(prefix="dr-scrape-") as folder:
        settings = Settings(data_dir=Path(folder))
        fill(settings)
        database = open_database(settings)
        try:
            read = _milliseconds(lambda: read_snapshot(database, settings))
            whole = _milliseconds(lambda: Exposition(settings, database).render())
        finally:
            database.close()
    rows = f"{FINISHED:,} finished, {WAITING:,} waiting, {REMOTE:,} with a service"
    return {f"reading the database ({rows})": _said(read), "a whole scrape, nothing cached": _said(whole)}


def fill(settings: Settings) -> None:
    """A migrated database with these rows, its triggers in place and its statistics taken."""
    migrate(settings)
    path = settings.data_dir / "darkroom.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = off")
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("BEGIN")
        for count, kind, columns, values in _ROWS:
            many, common = _MANY.format(kind=kind, count=count), _VALUES.format(users=USERS)
            connection.execute(
                f"{many} INSERT INTO task_queue ({_COLUMNS}, {columns}) SELECT {common}, {values} FROM each"
            )
        connection.execute("COMMIT")
        connection.execute("ANALYZE")
    migrate(settings)


def _milliseconds(act: Callable[[], object]) -> list[float]:
    sample = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        act()
        sample.append((time.perf_counter() - began) * 1000)
    return sample


def _said(sample: list[float]) -> str:
    return f"median {statistics.median(sample):.1f}  max {max(sample):.1f} ms"
