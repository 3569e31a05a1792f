"""The broker loses all its data: no task is lost, and no attempt is counted."""

from __future__ import annotations

import json
import os
import signal

import redis

from tests.support.running_system import running_system
from tests.support.waiting import eventually


def test_claims_that_an_emptied_and_a_killed_broker_forgot_are_carried_out() -> None:
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
        workers = house.freeze_workers()
        assert workers
        for _ in range(2):
            house.order("photography")
        # Its claim, and that of the second unless a second has passed: from then on frozen workers get no claims.
        eventually(
            "a claim is in the broker",
            lambda: house.sql("SELECT count(*) FROM task_queue WHERE lease > 0") != [(0,)],
        )
        with redis.Redis(unix_socket_path=str(house.data_dir / "broker.sock")) as client:
            assert client.flushall()
        os.kill(house.pids()["broker"], signal.SIGKILL)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        eventually(
            "both tasks are completed",
            lambda: house.sql("SELECT count(*) FROM task_queue WHERE status = 'completed'") == [(2,)],
        )
        assert house.sql("SELECT failures, deaths FROM task_queue") == [(0, 0)] * 2
