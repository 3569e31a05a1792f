"""The host in trouble: database locked for long, disk full, clock stepped; nothing is lost, all work continues
afterwards."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.houses.instant_house import INSTANT
from tests.support.running_system import RunningSystem, running_system
from tests.support.waiting import eventually

LOCKED_SECONDS = 20.0  # longer than the busy time-out, and than what a worker may be silent for


def _producer(system: RunningSystem) -> sqlite3.Connection:
    return sqlite3.connect(system.data_dir / "darkroom.db", timeout=30)


def _insert(producer: sqlite3.Connection, image: str, count: int) -> None:
    for _ in range(count):
        producer.execute(
            "INSERT INTO task_queue (user_openid, type, params) VALUES ('demo', 'instant', ?)",
            (json.dumps({"images": [image]}),),
        )
    producer.commit()


def _submit(system: RunningSystem, image: str) -> int:
    try:
        system.order("instant", images=[image])
        return 202
    except urllib.error.HTTPError as error:
        return error.code


def _all_completed(producer: sqlite3.Connection, count: int) -> None:
    by_status = "SELECT status, count(*) FROM task_queue GROUP BY 1"
    eventually("all are completed", lambda: producer.execute(by_status).fetchall() == [("completed", count)])


def test_a_database_locked_for_20_seconds_costs_time_and_no_attempt():
    with running_system(PROVIDERS__instant__OPTIONS__wait_seconds="2", **INSTANT) as system:
        image = system.upload_sample()
        producer = _producer(system)
        _insert(producer, image, 5)
        statuses: list[int] = []
        producer.execute("BEGIN IMMEDIATE")
        waiting = threading.Thread(target=lambda: statuses.append(_submit(system, image)))
        waiting.start()
        time.sleep(LOCKED_SECONDS)  # the fault itself, not a wait for something
        producer.rollback()
        waiting.join(60)
        assert statuses in ([202], [503])  # stored once the lock was had, or refused with nothing stored
        assert _submit(system, image) == 202
        _all_completed(producer, 6 + statuses.count(202))
        assert producer.execute("SELECT max(failures), max(deaths) FROM task_queue").fetchone() == (0, 0)
        assert producer.execute("SELECT DISTINCT state FROM worker").fetchall() == [("live",)]


@pytest.mark.system  # a small file system needs the right to mount
def test_a_full_disk_is_reported_and_work_continues_when_there_is_room(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", tmp_path], check=True)
    try:
        with running_system(tmp_path, **INSTANT) as system:
            image = system.upload_sample()
            producer = _producer(system)
            _insert(producer, image, 3)
            _all_completed(producer, 3)
            ballast = tmp_path / "ballast"
            _fill(ballast)
            assert _submit(system, image) == 503
            ballast.unlink()
            eventually("a submission is taken again", lambda: _submit(system, image) == 202)
            _insert(producer, image, 3)
            _all_completed(producer, 7)
            assert producer.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            producer.close()
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_a_clock_that_steps_an_hour_forward_costs_an_attempt_at_most(tmp_path):
    gate = tmp_path / "gate"
    with running_system(PROVIDERS__instant__OPTIONS__gate=str(gate), **INSTANT) as system:
        image = system.upload_sample()
        producer = _producer(system)
        _insert(producer, image, 4)
        eventually(
            "all run",
            lambda: (
                producer.execute("SELECT count(*) FROM task_queue WHERE status = 'processing'").fetchone()[0]
                == 4
            ),
        )
        producer.execute("UPDATE rule SET shift = '+3600 seconds'")
        producer.commit()
        system.darkroom("sweep", check=True)
        gate.touch()
        _all_completed(producer, 4)
        assert producer.execute("SELECT max(failures), max(deaths) FROM task_queue").fetchone() <= (1, 0)
        kinds = producer.execute(
            "SELECT kind, count(*) FROM credit_entry WHERE task_id IS NOT NULL GROUP BY 1"
        )
        assert kinds.fetchall() == [("debit", 4)]


def _fill(ballast: Path) -> None:
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 65_536)
            file.flush()
