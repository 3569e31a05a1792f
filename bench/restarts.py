"""Orders whose AI server is killed and started again and again: `python -m bench.restarts --help`.

A real LitServe server of the package registry makes each picture in a second; `darkroom up` orders from it under the
preset `litserve`, with or without a fallback.  Printed: how the orders ended, how long they waited, how often each was
made, and what the ledger holds.  The exit status is 1 when one has failed or was paid for and not delivered once.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from bench.real_servers import KINDS, install, running, write_app
from tests.support.fakes.fake_ai_service import Asked, FakeAiService, Reply, picture_reply
from tests.support.pictures import picture
from tests.support.running_system import RunningSystem, running_system

OPEN = "('pending','processing','ai_processing')"


def main() -> int:
    """The exit status."""
    asked = argparse.ArgumentParser(prog="bench.restarts", description=__doc__)
    asked.add_argument("--orders", type=int, default=60)
    asked.add_argument("--seconds", type=float, default=120.0, help="for how long it is killed and started")
    asked.add_argument(
        "--every", type=float, default=10.0, help="seconds from a start to the kill, and to the start"
    )
    asked.add_argument("--fallback", action="store_true", help="a second service stands in")
    asked.add_argument("--undisturbed", action="store_true", help="nothing is killed")
    asked.add_argument("--folder", type=Path)
    given = asked.parse_args()
    home = (given.folder or Path(tempfile.mkdtemp(prefix="darkroom-restarts-"))) / "litserve"
    home.mkdir(parents=True, exist_ok=True)
    kind = KINDS["litserve"]
    install(home, kind.packages)
    write_app(home, dataclasses.replace(kind, text=kind.text.replace('asked.get("seconds", 0.1)', "1.0")))
    try:
        with running(home, kind, politely=False) as (url, process), FakeAiService(_slowly) as second:
            settings = _settings(url, second.url if given.fallback else "")
            with running_system(None, None, **settings) as system:
                return _run(given, system, process, second)
    finally:
        if given.folder is None:
            shutil.rmtree(home.parent, ignore_errors=True)


def _slowly(_: Asked) -> Reply:
    return picture_reply(picture("red"), after_seconds=1.0)


def _settings(url: str, second: str) -> dict[str, str]:
    made = {
        "TASKS__portrait__PROVIDER": "own",
        "PROVIDERS__own__PRESET": "litserve",
        "PROVIDERS__own__URL": url,
        "PROVIDERS__own__LIMITS__CONCURRENCY": "2",
        "LIMITS__OPEN_TASKS_PER_USER": "0",
        "LIMITS__RUNNING_TASKS_PER_USER": "0",
        "CREDITS__ENABLED": "true",
        "CREDITS__SIGNUP_GRANT": "100000",
        "WORKER_PROCESSES": "1",
    }
    if second:
        made |= {
            "TASKS__portrait__FALLBACK": '["second"]',
            "PROVIDERS__second__KIND": "http",
            "PROVIDERS__second__URL": second,
            "PROVIDERS__second__RESULT": '["$.image"]',
            "PROVIDERS__second__SUBMIT__BODY__prompt": "${params.prompt}",
        }
    return made


def _run(
    given: argparse.Namespace,
    system: RunningSystem,
    process: tuple[Callable[[], None], Callable[[], None]],
    second: FakeAiService,
) -> int:
    kill, start = process
    over = threading.Event()
    kills = 0
    image = system.upload_sample()
    params = json.dumps({"images": [image], "prompt": "by the sea"})
    began = time.monotonic()

    def order() -> None:
        """Evenly over the time."""
        for n in range(given.orders):
            over.wait(max(0.0, began + n * given.seconds / given.orders - time.monotonic()))
            statement = (
                f"INSERT INTO task_queue (user_openid, type, params) VALUES ('demo', 'portrait', '{params}')"
            )
            system.sql(statement)

    ordering = threading.Thread(target=order)
    ordering.start()
    while not given.undisturbed and time.monotonic() - began < given.seconds:
        over.wait(given.every / 2)
        kill()
        kills += 1
        over.wait(given.every / 2)
        start()
    ordering.join()
    end = time.monotonic() + 600
    while (
        system.sql(f"SELECT count(*) FROM task_queue WHERE status IN {OPEN}")[0][0] and time.monotonic() < end
    ):
        over.wait(0.5)
    return _tell(system, second, kills, time.monotonic() - began)


def _tell(system: RunningSystem, second: FakeAiService, kills: int, seconds: float) -> int:
    ended = dict(system.sql("SELECT status, count(*) FROM task_queue GROUP BY status"))
    waits = [
        row[0]
        for row in system.sql(
            """SELECT (julianday(finished_at) - julianday(created_at)) * 86400 FROM task_queue
                WHERE finished_at IS NOT NULL"""
        )
    ]
    waits.sort()
    evidence = dict(system.sql("SELECT provider || ' ' || state, count(*) FROM remote_job GROUP BY 1"))
    most_attempts = system.sql("SELECT max(attempt), max(failures) FROM task_queue")[0]
    twice = system.sql(
        """SELECT count(*) FROM (SELECT task_id, charge FROM remote_job WHERE state = 'done'
            GROUP BY 1, 2 HAVING count(*) > 1)"""
    )[0][0]
    paid = dict(system.sql("SELECT kind, count(*) FROM credit_entry GROUP BY kind"))
    delivered = system.sql("SELECT count(*) FROM result_file")[0][0]
    print(f"killed and started {kills} times in {seconds:.0f} s")
    print(
        f"orders: {ended}; pictures delivered: {delivered}; charges with two results: {twice}; ledger: {paid}"
    )
    if waits:
        p95 = waits[max(0, round(len(waits) * 0.95) - 1)]
        print(f"waited: median {statistics.median(waits):.1f} s, p95 {p95:.1f} s, most {waits[-1]:.1f} s")
    print(f"requests: {evidence}; most attempts {most_attempts[0]}, most failures {most_attempts[1]}")
    print(f"asked of the fallback: {len(second.asked)}")
    return 0 if set(ended) == {"completed"} and not twice else 1


if __name__ == "__main__":
    sys.exit(main())
