"""`kill -9` of the whole system during work, and the next `up`."""

from __future__ import annotations

from tests.support.houses.instant_house import INSERT, INSTANT
from tests.support.running_system import running_system
from tests.support.waiting import eventually

TASKS = 12
PHOTO = "INSERT INTO image (id, user_openid, key, width, height, bytes, sha256) VALUES ('p','u','k/p.jpg',1,1,1,'')"


def test_after_kill_9_no_process_is_left_and_the_next_up_finishes_every_open_task():
    with running_system(**INSTANT, PROVIDERS__instant__OPTIONS__wait_seconds="1.5") as system:
        system.sql(PHOTO)
        target = system.data_dir / "files" / "k" / "p.jpg"
        target.parent.mkdir(parents=True)
        target.write_bytes(b"any bytes: the test's provider does not look")
        for _ in range(TASKS):
            system.sql(INSERT, "u", '{"images":["p"]}')

        def count(status: str) -> int:
            return int(system.one("SELECT count(*) FROM task_queue WHERE status = ?", status)[0])

        eventually("some tasks run", lambda: count("processing") > 3)
        descendants = system.descendants()
        system.kill()
        eventually("no descendant is left", lambda: not any(each.is_running() for each in descendants))
        assert count("completed") < TASKS

        system.start()
        eventually("every task is completed", lambda: count("completed") == TASKS)
        kinds = "SELECT kind, count(*) FROM credit_entry WHERE task_id IS NOT NULL GROUP BY 1"
        assert system.sql(kinds) == [("debit", TASKS)]
