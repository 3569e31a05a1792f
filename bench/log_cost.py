"""What the log of level `info` costs: a drain of tasks that do nothing, with that level and with `warning` by turns.

CPU seconds of all processes are what counts; the log is written to a file.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import time

from bench.idle_turn import cpu_seconds, processes_of
from tests.support.running_system import RunningSystem, running_system

TURNS = int(os.environ.get("BENCH_TURNS", "3"))
DRAINED = 3000
MOST_SECONDS = 180.0
LEVELS = ("warning", "info")
OPEN = "SELECT count(*) FROM task_queue WHERE status IN ('pending','processing','ai_processing')"
INSERT = "INSERT INTO task_queue (user_openid, type, params) VALUES ('demo', 'noop', ?)"
SETTINGS = {
    "WORKER_PROCESSES": "2",
    "WORKER_THREADS": "250",
    "CREDITS__ENABLED": "false",
    "TASKS__noop__PROVIDER": "noop",
    "PROVIDERS__noop__KIND": "python",
    "PROVIDERS__noop__OPTIONS__class": "bench.probe:ProbeProvider",
}


def run() -> dict[str, str]:
    """{level: seconds of the drain, and CPU seconds}, and how much dearer `info` is."""
    seen: dict[str, list[tuple[float, float]]] = {level: [] for level in LEVELS}
    for _ in range(TURNS):
        for level in LEVELS:
            with running_system(**SETTINGS | {"LOG_LEVEL": level}) as system:
                seen[level].append(_drain(system))
    medians = {
        level: [statistics.median(each) for each in zip(*turns, strict=True)] for level, turns in seen.items()
    }
    found = {
        level: f"{seconds:.2f} s, {cpu:.2f} CPU s for {DRAINED} tasks (turns: {_said(seen[level])})"
        for level, (seconds, cpu) in medians.items()
    }
    (wall, cpu), (dear_wall, dear_cpu) = medians["warning"], medians["info"]
    return found | {"info / warning": f"{dear_wall / wall:.2f} × the time, {dear_cpu / cpu:.2f} × the CPU"}


def _said(turns: list[tuple[float, float]]) -> str:
    return ", ".join(f"{seconds:.2f} s {cpu:.2f} CPU s" for seconds, cpu in turns)


def _drain(system: RunningSystem) -> tuple[float, float]:
    """Seconds until all are done, and CPU seconds of all processes meanwhile."""
    processes = processes_of(system.pid)
    image = system.upload_sample()
    connection = sqlite3.connect(system.data_dir / "darkroom.db", timeout=15)
    spent = cpu_seconds(processes)
    connection.executemany(INSERT, [(f'{{"images":["{image}"]}}',)] * DRAINED)
    connection.commit()
    began = time.monotonic()
    while connection.execute(OPEN).fetchone() != (0,):
        if time.monotonic() - began > MOST_SECONDS:
            raise TimeoutError(f"not done within {MOST_SECONDS:g} s")
        time.sleep(0.01)
    seconds = time.monotonic() - began
    connection.close()
    return seconds, cpu_seconds(processes) - spent
