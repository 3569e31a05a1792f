"""One turn of `bench.against`: what waiting for remote jobs costs one build on one kind of database, as JSON on stdout.

Run as a program with PYTHONPATH at the tree of the build, as `bench.against_turn` is.  The service and the adapter are
the build's own, as in `bench.remote_jobs`.  Only polls are measured: no job ends.  REMOTE_JOBS says how many there are.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

try:
    from tests.support.running_system import REPOSITORY, RunningSystem, running_system
except ImportError:  # of a build before its helpers were moved
    from bench.running_system import (  # type: ignore[no-redef,import-not-found]
        REPOSITORY,
        RunningSystem,
        running_system,
    )

JOBS = int(os.environ.get("REMOTE_JOBS", "10000"))
SETTLE_SECONDS = 10.0  # two rounds of polls
SECONDS = 30.0
DEADLINE_SECONDS = 1200.0
SERVICES = ("tests.support.fakes.remote_service", "bench.remote_service")


def main() -> None:
    """The database's URL is the only argument; `sqlite` for a file of its own."""
    url = sys.argv[1]
    with _service() as address:
        settings = _settings(address) | ({"DATABASE_URL": url} if url.startswith("postgres") else {})
        with running_system(**settings) as system, _producer(system, url) as run:
            print(json.dumps(_figures(system, run, lambda: _polls(address))))


def _figures(
    system: RunningSystem, run: Callable[[str, str], int], polls: Callable[[], int]
) -> dict[str, float]:
    params = json.dumps({"images": [system.upload_sample()]})
    began = time.monotonic()
    for _ in range(JOBS // 1000 or 1):
        run("INSERT INTO task_queue (user_openid, type, params) VALUES ('demo', 'paint', ?)", params)
    while run("SELECT count(*) FROM task_queue WHERE status = ?", "ai_processing") < JOBS:
        if time.monotonic() - began > DEADLINE_SECONDS:
            raise TimeoutError(f"not handed in within {DEADLINE_SECONDS:g} s")
        time.sleep(0.5)
    handed_in = time.monotonic() - began
    time.sleep(SETTLE_SECONDS)
    processes = [psutil.Process(system.pid), *psutil.Process(system.pid).children(recursive=True)]
    cpu, polled, watched = _cpu(processes), polls(), time.monotonic()
    time.sleep(SECONDS)
    spent, answered, seconds = _cpu(processes) - cpu, polls() - polled, time.monotonic() - watched
    return {
        f"{JOBS} remote jobs: handed in, s": handed_in,
        "polls a second": answered / seconds,
        "CPU µs of all processes for each poll": 1e6 * spent / answered,
    }


def _settings(url: str) -> dict[str, str]:
    return {
        "WORKER_PROCESSES": "2",
        "CREDITS__ENABLED": "true",
        "CREDITS__SIGNUP_GRANT": str(JOBS),
        "LIMITS__PENDING_TASKS": "0",
        "PROVIDERS__paint__KIND": "python",
        "PROVIDERS__paint__OPTIONS__class": "bench.remote_provider:RemoteProvider",
        "PROVIDERS__paint__OPTIONS__url": url,
        "PROVIDERS__paint__OPTIONS__poll_seconds": "5",
        "PROVIDERS__paint__ALLOW_PRIVATE_ADDRESSES": "true",
        "TASKS__paint__PROVIDER": "paint",
    }


@contextlib.contextmanager
def _service() -> Iterator[str]:
    """The address of the build's own service in a process of its own; its jobs do not end."""
    module = next(each for each in SERVICES if (REPOSITORY / f"{each.replace('.', '/')}.py").exists())
    command = [sys.executable, "-m", module, "1e6", "1e6", "0.5"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def _polls(address: str) -> int:
    with urllib.request.urlopen(f"{address}/stats", timeout=60) as answer:
        return int(json.load(answer)["polls"])


def _cpu(processes: list[psutil.Process]) -> float:
    """Seconds, of all their threads."""
    nanoseconds = 0
    for process in processes:
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


@contextlib.contextmanager
def _producer(system: RunningSystem, url: str) -> Iterator[Callable[[str, str], int]]:
    """A function that runs a statement with one `?`: 1,000 times in one transaction if it is an INSERT, else once."""
    if url == "sqlite":
        connection = sqlite3.connect(system.data_dir / "darkroom.db", timeout=60)
    else:
        import psycopg

        connection = psycopg.connect(url)  # type: ignore[assignment]

    def run(sql: str, value: str) -> int:
        cursor = connection.cursor()
        marked = sql if url == "sqlite" else sql.replace("?", "%s")
        if marked.startswith("INSERT"):
            cursor.executemany(marked, [(value,)] * min(JOBS, 1000))
        else:
            cursor.execute(marked, (value,))
        found = cursor.fetchall() if cursor.description else [(0,)]
        connection.commit()
        return int(found[0][0])

    with contextlib.closing(connection):
        yield run


if __name__ == "__main__":
    main()
