"""Tasks of models that stay loaded, in a whole running system.

leaks: 200 MB a call under memory_mib; whether all tasks complete, and how the worker's own memory grows.  crashes: at
every third call; which tasks pay an attempt.  warm, cold: seconds a task of a model that loads for so long, one after
another in a process that is kept, and in one that is loaded for each.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import psutil

from actors.providers.warm.processes import PROGRAM
from tests.support.running_system import RunningSystem, running_system
from tests.support.waiting import eventually

LEAK_MIB, MEMORY_MIB = 200, 500
TROUBLED = "tests.support.providers.troubled_model:TroubledModel"
PATIENCE_SECONDS = 900.0


def settings_of(class_name: str, **options: str) -> dict[str, str]:
    """Settings of a type `mine` that such a model makes, in one worker process of four slots."""
    return {
        "WORKER_PROCESSES": "1",
        "WORKER_THREADS": "4",
        "TASKS__mine__PROVIDER": "mine",
        "TASKS__mine__INPUTS__IMAGES": "[0,1]",
        "TASKS__mine__MAX_ATTEMPTS": "5",
        "PROVIDERS__mine__KIND": "python",
        "PROVIDERS__mine__OPTIONS__class": class_name,
        **{f"PROVIDERS__mine__OPTIONS__{name}": value for name, value in options.items()},
    }


def leaks(tasks: int) -> tuple[float, list[str]]:
    """(MiB by which the worker has grown since its first tasks, how each task has ended)."""
    with running_system(None, None, **settings_of(TROUBLED, memory_mib=str(MEMORY_MIB))) as system:
        _order(system, [f"leak {LEAK_MIB}"] * 4)
        _until_done(system)
        before = _worker_mib(system)
        _order(system, [f"leak {LEAK_MIB}"] * (tasks - 4))
        _until_done(system)
        rows = system.sql("SELECT status FROM task_queue")
        return _worker_mib(system) - before, [row[0] for row in rows]


def crashes(tasks: int) -> tuple[int, int]:
    """(failures that tasks were charged with, calls that crashed); raises where a task did not complete."""
    with running_system(None, None, **settings_of(TROUBLED, notes="notes")) as system:
        notes = system.data_dir / "notes"
        _order(system, ["crash at every 3"] * tasks)
        _until_done(system)
        rows = system.sql("SELECT status, failures, deaths FROM task_queue")
        assert {row[0] for row in rows} == {"completed"}, rows
        assert not any(row[2] for row in rows), "no worker has died"
        calls = notes.read_text().count("make ")
        return sum(row[1] for row in rows), calls - tasks


def warm_and_cold(tasks: int, loading_seconds: float) -> tuple[float, float]:
    """Seconds a task, in a process that is kept and in one that ends after each task."""
    slow = "examples.models.slow_poster:SlowPoster"
    told = {"loading_seconds": str(loading_seconds), "load_seconds": "120"}
    found = []
    for idle_seconds in ("600", "0.01"):
        with running_system(None, None, **settings_of(slow, idle_seconds=idle_seconds, **told)) as system:
            seconds = 0.0
            for _ in range(tasks):
                started = time.monotonic()
                _order(system, ["a poster"])
                _until_done(system)
                seconds += time.monotonic() - started
                if idle_seconds != "600":
                    _until_unloaded(system)
            found.append(seconds / tasks)
    return found[0], found[1]


def _order(system: RunningSystem, prompts: list[str]) -> None:
    for prompt in prompts:
        system.sql(
            f"""INSERT INTO task_queue (user_openid, type, params)
                VALUES ('o-1', 'mine', '{{"images":[],"prompt":"{prompt}"}}')"""
        )


def _until_done(system: RunningSystem) -> None:
    still_open = "SELECT count(*) FROM task_queue WHERE status NOT IN ('completed','failed','cancelled')"
    eventually("all tasks have ended", lambda: system.sql(still_open) == [(0,)], PATIENCE_SECONDS)


def _until_unloaded(system: RunningSystem) -> None:
    eventually("the model's process has ended", lambda: not _model_processes(system))


def _model_processes(system: RunningSystem) -> list[int]:
    ((pid,),) = system.sql("SELECT pid FROM worker WHERE state = 'live'")
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if PROGRAM in child.cmdline():
                found.append(child.pid)
    return found


def _worker_mib(system: RunningSystem) -> float:
    """What the worker process itself holds of the memory."""
    ((pid,),) = system.sql("SELECT pid FROM worker WHERE state = 'live'")
    return _resident_pages(pid) * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


def _resident_pages(pid: Any) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
