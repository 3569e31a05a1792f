"""The broker loses all its data: no task is lost, and no attempt is counted."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from pathlib import Path

import redis

from tests.support.houses.web_server import picture_bytes
from tests.support.houses.whole_house import House, needs_darkroom
from tests.support.repository import ROOT
from tests.support.waiting import eventually

pytestmark = needs_darkroom


def test_hints_that_an_emptied_and_a_killed_broker_forgot_are_sent_again(tmp_path: Path) -> None:
    house = House(
        tmp_path,
        DARKROOM_LIMITS__RUNNING_TASKS_PER_USER="0",
        DARKROOM_LEASE_SECONDS="60",  # frozen for a moment, the workers are not to be taken for dead
        DARKROOM_HEARTBEAT_SECONDS="20",
        DARKROOM_TASKS__photography__PROVIDER="instant",
        DARKROOM_PROVIDERS__instant=json.dumps(
            {
                "kind": "python",
                "options": {"class": "tests.support.providers.instant_provider:InstantProvider"},
            }
        ),
        PYTHONPATH=str(ROOT),
    )
    try:
        image = house.post("/v1/images", picture_bytes(), "image/jpeg")["id"]
        order = json.dumps({"type": "photography", "params": {"images": [image]}}).encode()
        workers = [pid for (pid,) in _all(house, "SELECT pid FROM worker WHERE state = 'live'")]
        assert workers
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        house.post("/v1/tasks", order)
        _until_dispatched(house, 1)
        with redis.Redis(unix_socket_path=str(tmp_path / "broker.sock")) as client:
            assert client.flushall()
        house.post("/v1/tasks", order)
        _until_dispatched(house, 2)
        os.kill(house.state()["broker"]["pid"], signal.SIGKILL)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        eventually(
            "both tasks are completed",
            lambda: _all(house, "SELECT count(*) FROM task_queue WHERE status = 'completed'") == [(2,)],
        )
        # By the workers themselves: a rescue would count another attempt.
        assert _all(house, "SELECT attempt, failures, deaths FROM task_queue") == [(1, 0, 0)] * 2
    finally:
        house.end()
        print(house.said())  # pytest shows it where the test fails


def _all(house: House, sql: str) -> list[tuple[int, ...]]:
    with sqlite3.connect(house.folder / "darkroom.db", timeout=15) as connection:
        return connection.execute(sql).fetchall()


def _until_dispatched(house: House, count: int) -> None:
    eventually(
        f"{count} claims are in the broker",
        lambda: _all(house, "SELECT count(*) FROM task_queue WHERE worker_id IS NOT NULL") == [(count,)],
    )
