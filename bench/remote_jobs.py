"""The cost of waiting: thousands of remote jobs at once on one host, which then end within a minute.

Half of the services' jobs report their end, the others are found by polls.  Pictures are one pixel and not encoded
anew, so that the figures are the machinery's own.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.support.running_system import REPOSITORY, RunningSystem, running_system

JOBS = int(os.environ.get("REMOTE_JOBS", "10000"))
WAITING_SECONDS = 30.0  # how long they are watched while nothing happens
ENDING_SECONDS = 30.0
DEADLINE_SECONDS = 1200.0
LOOK_SECONDS = 0.5
ROLES = {
    "actors": "workers",
    "dispatcher": "dispatcher",
    "web": "web",
    "valkey": "broker",
    "redis": "broker",
    "periodiq": "scheduler",
}


def run() -> dict[str, str]:
    """What was seen."""
    with _service() as url, running_system(None, None, **_settings(url)) as system:
        image = system.upload_sample()
        began = time.monotonic()
        _order(system, image)
        _until(system, "ai_processing", JOBS)
        handed_in = time.monotonic() - began
        before, polls_before = _cpu(system), _stats(url)["polls"]
        time.sleep(WAITING_SECONDS)
        after, polls = _cpu(system), _stats(url)["polls"] - polls_before
        memory = _memory(system)
        told = _ask(f"{url}/end", {"seconds": ENDING_SECONDS})
        ended_at = time.monotonic()
        assert told == {}
        _until(system, "completed", JOBS)
        ending = time.monotonic() - ended_at
        stats, wrong = _stats(url), _complaints(system)
    assert not wrong, wrong
    assert stats["twice"] == 0, stats
    cpu = {
        role: 100 * (after.get(role, 0.0) - before.get(role, 0.0)) / WAITING_SECONDS for role in sorted(after)
    }
    return {
        "jobs waiting at once": f"{JOBS}, 2 worker processes of 16 slots",
        "all handed in after": f"{handed_in:.1f} s, {JOBS / handed_in:.0f} a second",
        "while they wait: polls": f"{polls / WAITING_SECONDS:.0f} a second",
        "while they wait: CPU": ", ".join(f"{role} {share:.0f} %" for role, share in cpu.items()),
        "while they wait: memory (PSS)": ", ".join(f"{role} {mib:.0f} MiB" for role, mib in memory.items()),
        "ended by report, by poll": f"{stats['reported']}, {JOBS - stats['reported']}",
        f"all completed after the {ENDING_SECONDS:g} s in which they ended": f"{ending - ENDING_SECONDS:.1f} s",
        "polls in all, submitted twice": f"{stats['polls']}, {stats['twice']}",
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
    """The address of a service in a process of its own; its jobs wait for a command to end."""
    command = [sys.executable, "-m", "tests.support.fakes.remote_service", "1e6", "1e6", "0.5"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def _order(system: RunningSystem, image: str) -> None:
    """By plain SQL, in one transaction: submission is another bench's subject."""
    params = json.dumps({"images": [image]})
    with contextlib.closing(sqlite3.connect(_database(system), timeout=60)) as connection, connection:
        connection.executemany(
            "INSERT INTO task_queue (user_openid, type, params) VALUES ('demo', 'paint', ?)",
            [(params,)] * JOBS,
        )


def _until(system: RunningSystem, status: str, count: int) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (seen := _counts(system)).get(status, 0) < count:
        assert time.monotonic() < deadline and "failed" not in seen, seen
        time.sleep(LOOK_SECONDS)


def _counts(system: RunningSystem) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(_database(system), timeout=60)) as connection:
        return dict(connection.execute("SELECT status, count(*) FROM task_queue GROUP BY status"))


def _complaints(system: RunningSystem) -> list[str]:
    """The faults: a ledger that is not exact, open evidence."""
    with contextlib.closing(sqlite3.connect(_database(system), timeout=60)) as connection:
        debits = connection.execute("SELECT count(*), sum(amount) FROM credit_entry WHERE kind = 'debit'")
        debited = tuple(debits.fetchone())
        states = dict(connection.execute("SELECT state, count(*) FROM remote_job GROUP BY state"))
    wrong = [] if debited == (JOBS, -JOBS) else [f"debits: {debited}"]
    return wrong if states == {"done": JOBS} else [*wrong, f"evidence: {states}"]


def _database(system: RunningSystem) -> Path:
    return system.data_dir / "darkroom.db"


def _stats(url: str) -> dict[str, int]:
    return dict(_ask(f"{url}/stats"))


def _ask(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as answer:
        return json.load(answer)


def _processes(system: RunningSystem) -> Iterator[tuple[str, psutil.Process]]:
    """(role, process) of all processes below `up`, and `up` itself."""
    up = psutil.Process(system.pid)
    yield "up", up
    for process in up.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            command = " ".join(process.cmdline())
            yield next((role for word, role in ROLES.items() if word in command), "others"), process


def _cpu(system: RunningSystem) -> dict[str, float]:
    """{role: seconds of CPU so far}."""
    found: dict[str, float] = {}
    for role, process in _processes(system):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found[role] = found.get(role, 0.0) + times.user + times.system
    return found


def _memory(system: RunningSystem) -> dict[str, float]:
    """{role: MiB that it has to itself or its share of}."""
    found: dict[str, float] = {}
    for role, process in _processes(system):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            found[role] = found.get(role, 0.0) + process.memory_full_info().pss / 2**20
    return found


if __name__ == "__main__":
    for what, figure in run().items():
        print(f"{what:50} {figure}")
