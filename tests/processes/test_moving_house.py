"""From one host's file to PostgreSQL, as docs/scaling.md says: orders accepted before are done after."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import PlainPostgres
from tests.support.houses.instant_house import INSTANT
from tests.support.running_system import RunningSystem
from tests.support.servers.postgres_databases import give_back, take_database
from tests.support.waiting import eventually

SETTINGS = {**INSTANT, "WORKER_PROCESSES": "1"}
INSERT = "INSERT INTO task_queue (user_openid, type, params) VALUES ('o-1', 'instant', ?)"


@pytest.fixture
def target() -> Iterator[str]:
    taken = take_database()
    yield taken
    give_back(taken)


def test_a_system_is_moved_only_when_stopped_and_continues_its_work(tmp_path: Path, target: str) -> None:
    old = RunningSystem(tmp_path, SETTINGS)
    try:
        old.start()
        photo = json.dumps({"images": [old.upload_sample("o-1")]})
        old.sql(INSERT, photo)
        eventually(
            "the first task is done",
            lambda: old.one("SELECT count(*) FROM task_queue WHERE status = 'completed'") == (1,),
        )
        copy = ["copy", "--from", f"sqlite:///{tmp_path}/darkroom.db", "--to", target]
        refused = old.darkroom(*copy)
        assert refused.returncode == 2 and "Stop Darkroom" in refused.stderr, refused.stderr
    finally:
        old.stop()
    old.sql(INSERT, photo)  # which no worker there will run
    done = old.darkroom(*copy)
    assert done.returncode == 0 and "2 rows of task_queue" in done.stdout, done.stderr
    new = RunningSystem(tmp_path, {**SETTINGS, "DATABASE_URL": target})
    try:
        new.start()
        with contextlib.closing(PlainPostgres(target)) as plain:
            eventually(
                "the second task is done there",
                lambda: (
                    plain.execute("SELECT count(*) FROM task_queue WHERE status = 'completed'").fetchone()
                    == (2,)
                ),
            )
            assert plain.execute(
                """SELECT balance, (SELECT sum(amount) FROM credit_entry), (SELECT count(*) FROM credit_entry
                    WHERE kind = 'debit') FROM account WHERE user_openid = 'o-1'"""
            ).fetchone() == (998, 998, 2)
    finally:
        new.stop()
