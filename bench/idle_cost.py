"""The cost of a whole idle system: CPU seconds of a minute and memory, by process, before the first studio task.

CPU seconds are what counts: wall-clock shares on a busy machine say more about the neighbours.  Memory is PSS, where
a page that n processes share counts as an n-th of itself in each.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.running_system import running_system

SETTLE_SECONDS = 10.0  # what starting leaves behind: caches, first heartbeats, the first look at everything
SECONDS = 60.0
MIB = 1024 * 1024


@dataclass(frozen=True)
class Cost:
    """Of one process of `darkroom up`, with all that it forked."""

    cpu_seconds: float
    pss_bytes: int


def run(seconds: float = SECONDS) -> dict[str, str]:
    """{process: CPU seconds and PSS}; last the whole."""
    with running_system() as system:
        time.sleep(SETTLE_SECONDS)
        costs = measure(system.pid, system.data_dir / "processes.json", seconds)
    whole = Cost(
        sum(cost.cpu_seconds for cost in costs.values()), sum(cost.pss_bytes for cost in costs.values())
    )
    return {name: _said(cost, seconds) for name, cost in {**costs, "whole system": whole}.items()}


def measure(supervisor_pid: int, state_file: Path, seconds: float) -> dict[str, Cost]:
    """{process: its cost over so many seconds}; the supervisor first."""
    before = _cpu_seconds(supervisor_pid)
    time.sleep(seconds)
    after = _cpu_seconds(supervisor_pid)
    groups = {process["pid"]: process["name"] for process in json.loads(state_file.read_bytes())["processes"]}
    costs: dict[str, Cost] = {}
    for process, cpu in after.items():
        name = groups.get(_leader(process, groups), "supervisor")
        so_far = costs.get(name, Cost(0.0, 0))
        costs[name] = Cost(
            so_far.cpu_seconds + cpu - before.get(process, 0.0),
            so_far.pss_bytes + process.memory_full_info().pss,
        )
    return costs


def _cpu_seconds(supervisor_pid: int) -> dict[psutil.Process, float]:
    supervisor = psutil.Process(supervisor_pid)
    found = {}
    for process in [supervisor, *supervisor.children(recursive=True)]:
        times = process.cpu_times()
        found[process] = times.user + times.system
    return found


def _leader(process: psutil.Process, groups: dict[int, str]) -> int:
    """The supervised process that this one is, or stems from; 0 for the supervisor itself."""
    for each in [process, *process.parents()]:
        if each.pid in groups:
            return int(each.pid)
    return 0


def _said(cost: Cost, seconds: float) -> str:
    share = 100 * cost.cpu_seconds / seconds
    cpu = f"{cost.cpu_seconds:5.2f} CPU s in {seconds:g} s ({share:.1f} % of a core)"
    return f"{cpu}  {cost.pss_bytes / MIB:5.0f} MiB PSS"
