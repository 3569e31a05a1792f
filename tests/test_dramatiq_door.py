"""The Dramatiq door: a producer process that only has Dramatiq and our package sends `submit`."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bench.running_system import REPOSITORY, RunningSystem, running_system
from tests.postgres_server import PostgresServer
from tests.test_many_producers import INSTANT

SEND_TWICE = """
import sys
from actors import submit
message = submit.message("o-1", "instant", {"images": [sys.argv[1]]}, priority=3)
from dramatiq import get_broker
get_broker().enqueue(message)
get_broker().enqueue(message)
submit.send("o-1", "no_such_type", {"images": [sys.argv[1]]})
"""
SEND_FIVE = """
import sys
from actors import submit
for _ in range(5):
    submit.send("o-1", "instant", {"images": [sys.argv[1]]})
"""
PERSON = "https://example.org/person.jpg"
WAITS = "submissions_wait"


def _send(system: RunningSystem, program: str, image: str) -> None:
    subprocess.run(
        [sys.executable, "-c", program, image], env=system.environ, cwd=REPOSITORY, check=True, timeout=60
    )


def _wait_for_line(log: Path, word: str) -> None:
    deadline = time.monotonic() + 60
    while word not in log.read_text(errors="replace"):
        assert time.monotonic() < deadline, f"the log says {word}"
        time.sleep(0.1)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Another program keeps SQLite's only writer's lock."""
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def _wait_for_tasks(ask: Callable[[str], Any], count: int, seconds: float) -> None:
    """So many tasks are there, each paid for once.  ask: the one value of a query."""
    deadline = time.monotonic() + seconds
    while (found := ask("SELECT count(*) FROM task_queue WHERE admitted_charge = 1")) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    assert ask("SELECT count(*) FROM task_queue") == count
    assert ask("SELECT count(*) FROM credit_entry WHERE kind = 'debit'") == count


def test_a_message_delivered_twice_makes_one_task_and_a_wrong_one_makes_none():
    with running_system(**INSTANT) as system:
        image = system.upload_sample()
        database = sqlite3.connect(system.data_dir / "darkroom.db", timeout=15)
        database.execute("UPDATE image SET user_openid = 'o-1' WHERE id = ?", (image,))
        database.commit()
        _send(system, SEND_TWICE, image)
        deadline = time.monotonic() + 30
        while (rows := database.execute("SELECT status, priority FROM task_queue").fetchall()) != [
            ("completed", 3)
        ]:
            assert time.monotonic() < deadline, rows
            time.sleep(0.05)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("worker", ["lives", "dies"])
def test_orders_that_come_while_sqlite_is_locked_wait_and_are_each_made_once(
    worker: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    settings = INSTANT | {"LOG_LEVEL": "info", "WORKER_PROCESSES": "1"}
    with running_system(log=log, **settings) as system:
        path = system.data_dir / "darkroom.db"
        with contextlib.closing(sqlite3.connect(path, timeout=15)) as database:
            with _locked(path):
                _send(system, SEND_FIVE, PERSON)
                _wait_for_line(log, WAITS)
                if worker == "dies":
                    os.kill(_worker_pid(system), signal.SIGKILL)
            # A message in the hands of the worker that died comes back when the broker takes it for dead: after 60 s.
            _wait_for_tasks(lambda sql: database.execute(sql).fetchone()[0], 5, 100)
        assert "submission_refused" not in log.read_text(errors="replace")


def _worker_pid(system: RunningSystem) -> int:
    """Of the process in which the only worker runs."""
    with contextlib.closing(sqlite3.connect(system.data_dir / "darkroom.db", timeout=15)) as database:
        (pid,) = database.execute("SELECT pid FROM worker WHERE state = 'live'").fetchone()
    return int(pid)


def test_orders_that_come_while_postgresql_is_away_wait_and_are_each_made_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    server = PostgresServer()
    try:
        url = server.url(server.create_database())
        with running_system(log=log, **(INSTANT | {"LOG_LEVEL": "info", "DATABASE_URL": url})) as system:
            server.stop()
            _send(system, SEND_FIVE, PERSON)
            _wait_for_line(log, WAITS)
            server.start()
            with psycopg.connect(url, autocommit=True) as reader:
                _wait_for_tasks(lambda sql: (reader.execute(sql).fetchone() or [0])[0], 5, 60)
        assert "submission_refused" not in log.read_text(errors="replace")
    finally:
        server.close()
