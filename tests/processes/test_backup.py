"""A backup during work is a snapshot of one moment; restored elsewhere, all work continues from it."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.houses.instant_house import INSTANT
from tests.support.running_system import RunningSystem
from tests.support.waiting import eventually

SETTINGS = {
    **INSTANT,
    "TASKS__held__PROVIDER": "held",
    "PROVIDERS__held__KIND": "python",
    "PROVIDERS__held__OPTIONS__class": "tests.support.providers.instant_provider:InstantProvider",
    "WORKER_PROCESSES": "1",
    "WORKER_THREADS": "4",
    "LIMITS__OPEN_TASKS_PER_USER": "0",
    "LIMITS__RUNNING_TASKS_PER_USER": "0",
    "LOG_LEVEL": "warning",
}
TASKS = 60
HELD = 2  # of the four slots


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dk-backup-") as name:
        yield Path(name)


def changes(house: RunningSystem, since: str = "") -> Any:
    return house.ask("/v1/works/changes" + (f"?since={since}" if since else ""))


def sql(database: Path, statement: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(database, timeout=15)) as connection:
        return connection.execute(statement).fetchall()


def is_consistent(data_dir: Path) -> None:
    """The database is whole, the money adds up, and every picture that a row names is there."""
    database = data_dir / "darkroom.db"
    assert sql(database, "PRAGMA integrity_check") == [("ok",)]
    wrong = """SELECT user_openid FROM account WHERE balance <>
        (SELECT coalesce(sum(amount), 0) FROM credit_entry WHERE credit_entry.user_openid = account.user_openid)"""
    assert sql(database, wrong) == []
    named = sql(database, "SELECT json_extract(value, '$.key') FROM works, json_each(works.images)")
    for (key,) in [*named, *sql(database, "SELECT key FROM image")]:
        assert (data_dir / "files" / key).exists(), key


def test_a_backup_taken_under_load_is_restored_elsewhere_and_feeds_begin_anew(folder: Path) -> None:
    gate = folder / "gate"
    settings = {**SETTINGS, "PROVIDERS__held__OPTIONS__gate": str(gate)}
    lost, found = (RunningSystem(folder / name, settings) for name in ("lost", "found"))
    try:
        lost.start()
        for _ in range(HELD):
            lost.order("held")
        work = "SELECT count(*) FROM task_queue WHERE status = "
        eventually("some are at work", lambda: sql(lost.database, f"{work}'processing'") == [(HELD,)])
        with ThreadPoolExecutor(1) as pool:  # and others come, are made and end meanwhile
            posting = pool.map(lambda _: lost.order("instant"), range(TASKS))
            eventually("some are done", lambda: sql(lost.database, f"{work}'completed'")[0][0] > 5)
            found.data_dir.mkdir()
            sql(
                lost.database, f"VACUUM INTO '{found.database}'"
            )  # the database first: the files that it names exist already
            for name in ("files", "secret"):
                copy = shutil.copytree if (lost.data_dir / name).is_dir() else shutil.copy2
                copy(lost.data_dir / name, found.data_dir / name)
            list(posting)
        gate.touch()
        is_open = "SELECT count(*) FROM task_queue WHERE status IN ('pending','processing')"
        ((known,),) = sql(found.database, "SELECT count(*) FROM task_queue")
        ((open_then,),) = sql(found.database, is_open)
        assert known > 5 + HELD and open_then >= HELD
        eventually("all are done", lambda: sql(lost.database, is_open) == [(0,)])
        seen = changes(lost)["next"]  # beyond what the backup knows
        lost.stop()

        is_consistent(found.data_dir)
        done = found.darkroom("migrate", "--restored")
        assert done.stdout.splitlines()[-1] == "the feeds of 1 users begin anew", done.stderr
        found.start()
        eventually("what was open runs", lambda: sql(found.database, is_open) == [(0,)])
        assert sql(found.database, "SELECT status, count(*) FROM task_queue GROUP BY 1") == [
            ("completed", known)
        ]
        is_consistent(found.data_dir)
        again = changes(found, since=seen)
        assert again["type"] == "reset"
        assert len(again["docs"]) == known
        assert again["next"].partition("-")[0] != seen.partition("-")[0]
    finally:
        lost.stop()
        found.stop()
