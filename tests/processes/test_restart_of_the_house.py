"""`kill -9` of the whole system during work, and the next `up`."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

from tests.support.houses.instant_house import INSTANT
from tests.support.running_system import LIFTED, REPOSITORY
from tests.support.waiting import eventually

TASKS = 12


def _up(folder: str) -> subprocess.Popen[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("DARKROOM_")}
    environ |= LIFTED | {f"DARKROOM_{name}": value for name, value in INSTANT.items()}
    environ |= {
        "DARKROOM_PROVIDERS__instant__OPTIONS__wait_seconds": "1.5",
        "DARKROOM_DATA_DIR": folder,
        "DARKROOM_PORT": "0",
        "DARKROOM_CONFIG": "",
        "PYTHONPATH": str(REPOSITORY),
    }
    darkroom = Path(sys.executable).with_name("darkroom")
    process = subprocess.Popen([darkroom, "up"], env=environ, stdout=subprocess.PIPE, text=True, cwd=folder)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ready ")
    return process


def test_after_kill_9_no_process_is_left_and_the_next_up_finishes_every_open_task():
    with tempfile.TemporaryDirectory(prefix="dr-house-") as folder:
        first = _up(folder)
        database = sqlite3.connect(Path(folder) / "darkroom.db", timeout=15)
        database.execute(
            "INSERT INTO image (id, user_openid, key, width, height, bytes, sha256) VALUES ('p','u','k/p.jpg',1,1,1,'')"
        )
        target = Path(folder) / "files" / "k" / "p.jpg"
        target.parent.mkdir(parents=True)
        target.write_bytes(b"any bytes: the test's provider does not look")
        for _ in range(TASKS):
            database.execute(
                "INSERT INTO task_queue (user_openid, type, params) VALUES ('u', 'instant', '{\"images\":[\"p\"]}')"
            )
        database.commit()

        def count(status: str) -> int:
            return database.execute("SELECT count(*) FROM task_queue WHERE status = ?", (status,)).fetchone()[
                0
            ]

        eventually("some tasks run", lambda: count("processing") > 3)
        descendants = psutil.Process(first.pid).children(recursive=True)
        first.kill()
        first.wait()
        eventually("no descendant is left", lambda: not any(each.is_running() for each in descendants))
        assert count("completed") < TASKS

        second = _up(folder)
        try:
            eventually("every task is completed", lambda: count("completed") == TASKS)
            kinds = database.execute(
                "SELECT kind, count(*) FROM credit_entry WHERE task_id IS NOT NULL GROUP BY 1"
            )
            assert kinds.fetchall() == [("debit", TASKS)]
        finally:
            second.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                second.wait(90)
            second.kill()
