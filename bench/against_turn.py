"""One turn of `bench.against`: the figures of one build on one kind of database, as JSON on stdout.

Run as a program with PYTHONPATH at the tree of the build. So it imports only a module that every build has:
`running_system`, wherever that build keeps it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import socket
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

try:
    from tests.support.running_system import RunningSystem, running_system
except ImportError:  # of a build before its helpers were moved
    from bench.running_system import RunningSystem, running_system  # type: ignore[no-redef,import-not-found]

WARM_UP, STARTS = 10, 100
PAUSE_SECONDS = (0.02, 0.12)
DRAINED = {"sqlite": 3000, "postgresql": 5000}
WAITING, WAIT_SECONDS = 500, 2.0
FROZEN_TASKS = 30
MOST_SECONDS = 180.0
FREE_SECONDS = 1.0  # longer than any write
USERS = 50
OPEN = "SELECT count(*) FROM task_queue WHERE status IN ('pending','processing','ai_processing')"
SETTINGS = {
    "WORKER_PROCESSES": "2",
    "WORKER_THREADS": "250",
    "CREDITS__ENABLED": "true",
    "CREDITS__SIGNUP_GRANT": "1000000",
}


def main() -> None:
    """The database's URL is the only argument; `sqlite` for a file of its own."""
    url = sys.argv[1]
    kind = "postgresql" if url.startswith("postgres") else "sqlite"
    with tempfile.TemporaryDirectory(prefix="dr-turn-") as folder:
        path = Path(folder) / "probe.sock"
        settings = {**SETTINGS, **_types(path)} | ({"DATABASE_URL": url} if kind == "postgresql" else {})
        with _probe(path) as probe, running_system(**settings) as system, _producer(system, url) as run:
            print(json.dumps(_figures(kind, system, run, probe)))


def _figures(
    kind: str, system: RunningSystem, run: Callable[..., list[Any]], probe: socket.socket
) -> dict[str, float]:
    users = [f"o-{n}" for n in range(USERS)]
    images = [system.upload_sample(user) for user in users]

    def put(type_: str, count: int) -> float:
        rows = [(users[n % USERS], type_, json.dumps({"images": [images[n % USERS]]})) for n in range(count)]
        run("INSERT INTO task_queue (user_openid, type, params) VALUES (?, ?, ?)", rows)
        return time.monotonic()

    starts = [_start(put, probe) for _ in range(WARM_UP + STARTS)][WARM_UP:]
    cuts = statistics.quantiles(starts, n=100, method="inclusive")
    drained = DRAINED[kind]
    seconds = _until_done(run, put("noop", drained))
    time.sleep(1)
    waited = _until_done(run, put("wait", WAITING))
    return {
        "start p50, ms": cuts[49],
        "start p99, ms": cuts[98],
        f"drain of {drained}, s": seconds,
        f"{WAITING} that wait {WAIT_SECONDS:g} s, s": waited,
        **_frozen(run, put, system.data_dir / "darkroom.db.lock"),
    }


def _start(put: Callable[[str, int], float], probe: socket.socket) -> float:
    time.sleep(random.uniform(*PAUSE_SECONDS))
    began = put("probe", 1)
    return (int(probe.recv(200).split()[-1]) / 1e9 - began) * 1e3


def _until_done(run: Callable[..., list[Any]], began: float) -> float:
    while run(OPEN) != [(0,)]:
        if time.monotonic() - began > MOST_SECONDS:
            raise TimeoutError(f"not done within {MOST_SECONDS:g} s")
        time.sleep(0.01)
    return time.monotonic() - began


def _frozen(
    run: Callable[..., list[Any]], put: Callable[[str, int], float], write_lock: Path
) -> dict[str, float]:
    """One of two workers stands still, and tasks that do nothing come."""
    ((pid,), _) = run("SELECT pid FROM worker WHERE state = 'live' ORDER BY id")
    while True:
        os.kill(pid, signal.SIGSTOP)
        try:
            run("UPDATE task_queue SET priority = priority WHERE id = ''")
            _take_and_leave(write_lock)
            break
        except (
            sqlite3.OperationalError,
            BlockingIOError,
        ):  # it was frozen inside a write: that is another fault
            os.kill(pid, signal.SIGCONT)
    try:
        seconds = _until_done(run, put("noop", FROZEN_TASKS))
    finally:
        os.kill(pid, signal.SIGCONT)
    deaths = run("SELECT coalesce(sum(deaths), 0) FROM task_queue")
    return {
        f"one of two workers frozen, {FROZEN_TASKS} tasks, s": seconds,
        "deaths then": float(deaths[0][0]),
    }


def _take_and_leave(write_lock: Path) -> None:
    """Our processes' lock before each write of a SQLite file.  Raises BlockingIOError if it is not free in time."""
    if not write_lock.exists():
        return
    end = time.monotonic() + FREE_SECONDS
    with write_lock.open("rb") as lock:
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.001)


def _types(probe: Path) -> dict[str, str]:
    """Three task types of the probe provider: one that reports, one that does nothing, one that waits."""
    settings = {}
    for name in ("probe", "noop", "wait"):
        settings |= {
            f"TASKS__{name}__PROVIDER": name,
            f"PROVIDERS__{name}__KIND": "python",
            f"PROVIDERS__{name}__OPTIONS__class": "bench.probe:ProbeProvider",
        }
    settings["PROVIDERS__probe__OPTIONS__socket"] = str(probe)
    settings["PROVIDERS__wait__OPTIONS__wait_seconds"] = str(WAIT_SECONDS)
    return settings


@contextlib.contextmanager
def _producer(system: RunningSystem, url: str) -> Iterator[Callable[..., list[Any]]]:
    """A function that runs a statement with `?`, once for each row of values if there are any, and commits."""
    if url == "sqlite":
        connection: Any = sqlite3.connect(system.data_dir / "darkroom.db", timeout=2)
    else:
        import psycopg

        connection = psycopg.connect(url)

    def run(sql: str, rows: list[Any] | None = None) -> list[Any]:
        cursor = connection.cursor()
        marked = sql if url == "sqlite" else sql.replace("?", "%s")
        if rows is not None:
            cursor.executemany(marked, rows)
        else:
            cursor.execute(marked)
        found = cursor.fetchall() if cursor.description else []
        connection.commit()
        return list(found)

    with contextlib.closing(connection):
        yield run


def _probe(path: Path) -> socket.socket:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    probe.bind(str(path))
    probe.settimeout(60)
    return probe


if __name__ == "__main__":
    main()
