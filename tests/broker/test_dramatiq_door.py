"""The Dramatiq interface: a producer process that only has Dramatiq and our package sends `submit`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import psutil
import psycopg
import pytest

from actors.broker.broker import HEARTBEAT_TIMEOUT_MS
from actors.entry import submit_actor
from actors.worker.worker import Worker
from supervisor.broker.broker_client import open_client
from supervisor.core.errors import BadParams
from supervisor.store.limits import blocks
from tests.conftest import PARAMS, Store
from tests.support.houses.instant_house import INSTANT
from tests.support.running_system import REPOSITORY, RunningSystem, running_system
from tests.support.servers.postgres_server import PostgresServer
from tests.support.waiting import PATIENCE_SECONDS, eventually

SEND_TWICE = """
import sys
from actors import submit
message = submit.message("o-1", "instant", {"images": [sys.argv[1]]}, priority=3)
from dramatiq import get_broker
get_broker().enqueue(message)
get_broker().enqueue(message)
submit.send("o-1", "no_such_type", {"images": [sys.argv[1]]})
submit.send(17, "instant", {"images": [sys.argv[1]]})
submit.send("o-1", "instant", {"images": [sys.argv[1]]}, task_id=["no text"])
"""
SEND_FIVE = """
import sys
from actors import submit
for _ in range(5):
    submit.send("o-1", "instant", {"images": [sys.argv[1]]})
"""
PERSON = "https://example.org/person.jpg"
WAITS, REFUSED = "submissions_wait", "submission_refused"


def _send(system: RunningSystem, program: str, image: str) -> None:
    subprocess.run(
        [sys.executable, "-c", program, image], env=system.environ, cwd=REPOSITORY, check=True, timeout=60
    )


def _wait_for_line(log: Path, word: str, *, times: int = 1) -> None:
    eventually(f"the log says {word}", lambda: log.read_text(errors="replace").count(word) >= times)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Another program keeps SQLite's only writer's lock."""
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def _wait_for_tasks(ask: Callable[[str], Any], count: int) -> None:
    """So many tasks are there, each paid for once.  ask: the one value of a query."""
    admitted = "SELECT count(*) FROM task_queue WHERE admitted_charge = 1"
    eventually(f"{count} tasks are there", lambda: ask(admitted) >= count)
    assert ask("SELECT count(*) FROM task_queue") == count
    assert ask("SELECT count(*) FROM credit_entry WHERE kind = 'debit'") == count


def test_a_message_delivered_twice_makes_one_task_and_a_wrong_one_makes_none(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running_system(log=log, **INSTANT | {"LOG_LEVEL": "info"}) as system:
        image = system.upload_sample()
        database = sqlite3.connect(system.data_dir / "darkroom.db", timeout=15)
        database.execute("UPDATE image SET user_openid = 'o-1' WHERE id = ?", (image,))
        database.commit()
        _send(system, SEND_TWICE, image)
        rows = "SELECT status, priority FROM task_queue"
        eventually("it is completed", lambda: database.execute(rows).fetchall() == [("completed", 3)])
        _wait_for_line(log, REFUSED, times=3)
        refused = "SELECT user_openid, type FROM refused_order ORDER BY user_openid, type"
        expected = [("17", "instant"), ("o-1", "instant"), ("o-1", "no_such_type")]
        eventually("operators can see them", lambda: database.execute(refused).fetchall() == expected)


@pytest.mark.parametrize("user", [17, None, True, {}, ["o-1"], "", "x" * 129, "\ud800", "a\0b"], ids=repr)
def test_an_order_without_a_user_is_refused_and_not_retried(store: Store, user: Any) -> None:
    with pytest.raises(BadParams, match="user_openid must be 1-128 characters"):
        _ordered(store, user, None)


@pytest.mark.parametrize("task_id", [17, True, 10**30, {}, ["t"], "", "a.b", "\ud800", "x" * 65], ids=repr)
def test_an_order_by_an_impossible_id_is_refused(store: Store, task_id: Any) -> None:
    with pytest.raises(BadParams, match="task_id must be 1-64 characters"):
        _ordered(store, "o-1", task_id)


def test_an_order_that_can_be_stored_is_stored_once(store: Store) -> None:
    assert [_ordered(store, "o-1", "t-1") for _ in range(2)] == [(True, "t-1"), (False, "t-1")]


def test_the_order_of_a_blocked_user_becomes_a_task_that_fails_at_no_cost(store: Store) -> None:
    store.write(lambda tx: blocks.block(tx, "o-1", "stolen card"))
    assert [_ordered(store, "o-1", "t-1") for _ in range(2)] == [(True, "t-1"), (False, "t-1")]
    store.admit_waiting()
    task = store.task("t-1")
    error = task["error"] if isinstance(task["error"], dict) else json.loads(task["error"])
    assert (task["status"], error["code"], store.entries("t-1")) == ("failed", "user_blocked", [])


def _ordered(store: Store, user: Any, task_id: Any) -> tuple[bool, str]:
    """Whether it was stored just now, and its id, as a worker does it on this database."""
    worker = cast(
        Worker, types.SimpleNamespace(settings=store.settings, database=store.database, draining=False)
    )
    order = {"type": "photography", "params": PARAMS}
    return asyncio.run(submit_actor._stored(worker, submit_actor._order(worker, task_id, user, order)))


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
                    _kill_worker(system)
            _wait_for_tasks(lambda sql: database.execute(sql).fetchone()[0], 5)
        assert REFUSED not in log.read_text(errors="replace")


def _kill_worker(system: RunningSystem) -> None:
    """Kill the process in which the only worker runs, and let the broker take it for dead now, not in a minute."""
    with contextlib.closing(sqlite3.connect(system.data_dir / "darkroom.db", timeout=15)) as database:
        (pid,) = database.execute("SELECT pid FROM worker WHERE state = 'live'").fetchone()
    with open_client(f"unix://{system.data_dir}/broker.sock") as client:
        beats = cast(
            dict[bytes, float], dict(client.zrange("dramatiq:__heartbeats__", 0, -1, withscores=True))
        )
        process = psutil.Process(pid)
        process.kill()
        psutil.wait_procs([process], timeout=PATIENCE_SECONDS)
        longer_ago = HEARTBEAT_TIMEOUT_MS + 1000
        client.zadd("dramatiq:__heartbeats__", {name: beat - longer_ago for name, beat in beats.items()})


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
                _wait_for_tasks(lambda sql: (reader.execute(sql).fetchone() or [0])[0], 5)
        assert REFUSED not in log.read_text(errors="replace")
    finally:
        server.close()
