"""The broker loses all its data: no task is lost, and no attempt is counted."""

from __future__ import annotations

import json
import os
import signal

import redis

from tests.support.running_system import RunningSystem, running_system
from tests.support.waiting import eventually


def test_hints_that_an_emptied_and_a_killed_broker_forgot_are_sent_again() -> None:
    with running_system(
        LIMITS__RUNNING_TASKS_PER_USER="0",
        LEASE_SECONDS="60",  # frozen for a moment, the workers are not to be taken for dead
        HEARTBEAT_SECONDS="20",
        TASKS__photography__PROVIDER="instant",
        PROVIDERS__instant=json.dumps(
            {
                "kind": "python",
                "options": {"class": "tests.support.providers.instant_provider:InstantProvider"},
            }
        ),
        WORKER_THREADS="2",
    ) as house:
        workers = [pid for (pid,) in house.sql("SELECT pid FROM worker WHERE state = 'live'")]
        assert workers
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        house.order("photography")
        _until_dispatched(house, 1)
        with redis.Redis(unix_socket_path=str(house.data_dir / "broker.sock")) as client:
            assert client.flushall()
        house.order("photography")
        _until_dispatched(house, 2)
        os.kill(house.pids()["broker"], signal.SIGKILL)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        eventually(
            "both tasks are completed",
            lambda: house.sql("SELECT count(*) FROM task_queue WHERE status = 'completed'") == [(2,)],
        )
        # By the workers themselves: a rescue would count another attempt.
        assert house.sql("SELECT attempt, failures, deaths FROM task_queue") == [(1, 0, 0)] * 2


def _until_dispatched(house: RunningSystem, count: int) -> None:
    eventually(
        f"{count} claims are in the broker",
        lambda: house.sql("SELECT count(*) FROM task_queue WHERE worker_id IS NOT NULL") == [(count,)],
    )
