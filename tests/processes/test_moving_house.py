"""From one host's file to PostgreSQL, as docs/scaling.md says: orders accepted before are done after."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.databases import PlainPostgres
from tests.support.houses.house import DARKROOM, SAMPLES, House
from tests.support.houses.instant_house import INSTANT
from tests.support.servers.postgres_databases import give_back, take_database
from tests.support.waiting import eventually

SETTINGS = {f"DARKROOM_{name}": value for name, value in INSTANT.items()}
INSERT = "INSERT INTO task_queue (user_openid, type, params) VALUES ('o-1', 'instant', ?)"


def order(house: House, user: str) -> str:
    """What a task of this user is to be made of: a photo that was uploaded to this house."""
    request = urllib.request.Request(
        f"{house.address}/v1/images",
        (SAMPLES / "portrait.png").read_bytes(),
        {"Content-Type": "image/png", "Authorization": f"Bearer {house.token(user)}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.dumps({"images": [json.load(answer)["id"]]})


@pytest.fixture
def target() -> Iterator[str]:
    taken = take_database()
    yield taken
    give_back(taken)


def test_a_system_is_moved_only_when_stopped_and_continues_its_work(tmp_path: Path, target: str) -> None:
    old = House(tmp_path, **SETTINGS)
    try:
        photo = order(old, "o-1")
        with contextlib.closing(sqlite3.connect(tmp_path / "darkroom.db", timeout=15)) as producer:
            producer.execute(INSERT, (photo,))
            producer.commit()
        eventually(
            "the first task is done",
            lambda: old.one("SELECT count(*) FROM task_queue WHERE status = 'completed'") == (1,),
        )
        copy = [DARKROOM, "copy", "--from", f"sqlite:///{tmp_path}/darkroom.db", "--to", target]
        refused = subprocess.run(copy, env=old.environ, capture_output=True, text=True)
        assert refused.returncode == 2 and "Stop Darkroom" in refused.stderr, refused.stderr
    finally:
        old.end()
    with contextlib.closing(sqlite3.connect(tmp_path / "darkroom.db", timeout=15)) as producer:
        producer.execute(INSERT, (photo,))  # which no worker there will run
        producer.commit()
    done = subprocess.run(copy, env=old.environ, capture_output=True, text=True)
    assert done.returncode == 0 and "2 rows of task_queue" in done.stdout, done.stderr
    new = House(tmp_path, **SETTINGS, DARKROOM_DATABASE_URL=target)
    try:
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
        new.end()
