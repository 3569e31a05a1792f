"""The cost of each query at 1,000,000 finished and 100,000 waiting tasks, on both databases.

The rows are inserted without triggers, which would take minutes; the triggers' counts are made afterwards. Each query
runs several times in a transaction that is rolled back.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from bench.peers.running import new_database
from bench.postgres_server import postgres_server
from config.settings import Settings
from supervisor.database.interface.database import Database, Transaction
from supervisor.database.open_database import open_database
from supervisor.schema.migrate import migrate
from supervisor.schema.shared.count_rows import COUNT_ANEW_ON_POSTGRES
from supervisor.store.queue import workers
from tests.support.questions import PARAMS, QUESTIONS, TYPES, Question, Spy

FINISHED, WAITING = 1_000_000, 100_000
ROUNDS = 7
A_TASK = f"B{1:024d}"  # of user o-1

_COLUMNS = "id, user_openid, type, params, admitted_charge, created_at, updated_at"
_FINISHED = "status, progress, processing_started_at, finished_at"
_WAITING = "status, ready, turn, expires_at"
_ROWS = {
    "sqlite": """WITH RECURSIVE each(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM each WHERE n < {count})
        INSERT INTO task_queue ({columns}) SELECT '{kind}' || printf('%024d', n), 'o-' || (n % 5000),
            CASE n % 3 WHEN 0 THEN 'fitting' ELSE 'photography' END, '{params}', 1, {before}, {before}, {values}
            FROM each""",
    "postgresql": """INSERT INTO task_queue ({columns}) SELECT '{kind}' || lpad(n::text, 24, '0'),
            'o-' || (n % 5000), CASE n % 3 WHEN 0 THEN 'fitting' ELSE 'photography' END, '{params}', 1,
            {before}, {before}, {values} FROM generate_series(1, {count}) AS n""",
}
_BEFORE = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', (n / 50 - 90000) || ' seconds')",
    "postgresql": "now() + (n / 50 - 90000) * interval '1 second'",
}
_AHEAD = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+1 day')",
    "postgresql": "now() + interval '1 day'",
}


class _TakenBack(Exception):
    """Ends a transaction that must leave nothing."""


def run() -> dict[str, str]:
    """{database and question: statements, milliseconds of the whole and of its slowest statement, medians}."""
    figures: dict[str, str] = {}
    for name, opened in (("sqlite", _sqlite()), ("postgresql", _postgresql())):
        with opened as (settings, database):
            database.write(lambda tx: workers.register(tx, "worker-1", host="here", pid=1, slots=16)).result()
            for what, question in QUESTIONS.items():
                figures[f"{name}: {what}"] = _measured(database, settings, question)
    return figures


def rows(dialect: str) -> list[str]:
    """Statements that fill an empty task_queue without triggers."""
    before, ahead = _BEFORE[dialect], _AHEAD[dialect]
    return [
        _ROWS[dialect].format(
            count=count,
            kind=kind,
            columns=f"{_COLUMNS}, {columns}",
            params=json.dumps(PARAMS),
            values=values,
            before=before,
        )
        for count, kind, columns, values in (
            (FINISHED, "A", _FINISHED, f"'completed', 100, {before}, {before}"),
            (WAITING, "B", _WAITING, f"'pending', 1, n / 5000, {ahead}"),
        )
    ]


@contextlib.contextmanager
def _sqlite() -> Iterator[tuple[Settings, Database]]:
    with tempfile.TemporaryDirectory(prefix="dr-large-") as folder:
        settings = _settings(Path(folder))
        migrate(settings)
        with contextlib.closing(sqlite3.connect(Path(folder) / "darkroom.db")) as connection:
            connection.execute("PRAGMA synchronous = off")
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            ).fetchall():
                connection.execute(f"DROP TRIGGER {name}")
            for statement in rows("sqlite"):
                connection.execute(statement)
            connection.commit()
            connection.execute("ANALYZE")
        migrate(settings)
        with contextlib.closing(open_database(settings)) as database:
            yield settings, database


@contextlib.contextmanager
def _postgresql() -> Iterator[tuple[Settings, Database]]:
    with tempfile.TemporaryDirectory(prefix="dr-large-") as folder, postgres_server() as server:
        settings = _settings(Path(folder), new_database(server, "large"))
        migrate(settings)
        with psycopg.connect(settings.database_url, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            for statement in (*rows("postgresql"), *COUNT_ANEW_ON_POSTGRES, "VACUUM ANALYZE"):
                connection.execute(statement.encode())
        with contextlib.closing(open_database(settings)) as database:
            yield settings, database


def _settings(folder: Path, database_url: str = "") -> Settings:
    return Settings(
        data_dir=folder,
        limits={"running_tasks_per_user": 4, "open_tasks_per_user": 0, "pending_tasks": 10 * WAITING},
        tasks={type_: {} for type_ in TYPES},
        credits={"enabled": False},
        **({"database_url": database_url} if database_url else {}),
    )


def _measured(database: Database, settings: Settings, question: Question) -> str:
    whole, slowest, statements = [], [], 0
    for n in range(ROUNDS + 1):
        asked: list[Spy] = []

        def ask(tx: Transaction, explains: bool = n == 0, asked: list[Spy] = asked) -> None:
            asked.append(Spy(tx, explains=explains))
            question(asked[0], settings, A_TASK)
            raise _TakenBack

        with contextlib.suppress(_TakenBack):
            database.write_now(ask)
        if n == 0:
            scans = [plan for plan in asked[0].plans if _reads_all(plan)]
            continue
        whole.append(sum(asked[0].milliseconds))
        slowest.append(max(asked[0].milliseconds, default=0.0))
        statements = len(asked[0].milliseconds)
    said = f"{statements} statements  {statistics.median(whole):.1f} ms  slowest {statistics.median(slowest):.1f} ms"
    return said + (f"  READS ALL OF task_queue: {scans[0]}" if scans else "")


def _reads_all(plan: str) -> bool:
    return any(
        "Seq Scan on task_queue" in line or ("SCAN task_queue" in line and "INDEX" not in line)
        for line in plan.splitlines()
    )
