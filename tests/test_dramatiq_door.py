"""The Dramatiq door: a producer process that only has Dramatiq and our package sends `submit`."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time

from bench.running_system import REPOSITORY, running_system
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


def test_a_message_delivered_twice_makes_one_task_and_a_wrong_one_makes_none():
    with running_system(**INSTANT) as system:
        image = system.upload_sample()
        database = sqlite3.connect(system.data_dir / "darkroom.db", timeout=15)
        database.execute("UPDATE image SET user_openid = 'o-1' WHERE id = ?", (image,))
        database.commit()
        subprocess.run(
            [sys.executable, "-c", SEND_TWICE, image],
            env=system.environ,
            cwd=REPOSITORY,
            check=True,
            timeout=60,
        )
        deadline = time.monotonic() + 30
        while (rows := database.execute("SELECT status, priority FROM task_queue").fetchall()) != [
            ("completed", 3)
        ]:
            assert time.monotonic() < deadline, rows
            time.sleep(0.05)
