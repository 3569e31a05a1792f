"""What an order through the doors of other services' SDKs costs a web process, beside the same order by `/v1/tasks`.

In one process, by turns, with 32 connections.  Only CPU time counts, of the web process and its SQLite together.
Orders that are answered at once: Replicate's predictions and fal's queue, beside a plain order.  Orders that are held
until their task has ended, with workers that do nothing: OpenAI's pictures and fal's direct calls, beside a plain order
with `Prefer: wait`.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from bench import submit_throughput
from bench.http_load import run_load
from tests.support.running_system import running_system

ROUNDS = 3
SECONDS = 3.0
CONNECTIONS = 32
PROMPT = "a portrait in the evening light"


class Door(NamedTuple):
    """An address, its body, and what it is answered with."""

    path: str
    body: dict[str, Any]
    status: int
    headers: str = ""


def _doors(type_: str, image: str) -> dict[str, dict[str, Door]]:
    """{plain order: it, and what is compared with it}."""
    params = {"images": [image], "prompt": PROMPT}
    plain = {"type": type_, "params": params}
    own = {"image": image, "prompt": PROMPT}
    return {
        "at once": {
            "plain": Door("/v1/tasks", plain, 202),
            "replicate": Door(f"/replicate/v1/models/darkroom/{type_}/predictions", {"input": own}, 201),
            "fal queue": Door(f"/fal/queue/darkroom/{type_}", own, 200),
        },
        "held": {
            "plain, waits": Door("/v1/tasks", plain, 200, "Prefer: wait=60\r\n"),
            "openai": Door("/openai/v1/images/generations", {"model": f"darkroom/{type_}", **own}, 200),
            "fal run": Door(f"/fal/run/darkroom/{type_}", own, 200),
            "replicate, waits": Door(
                f"/replicate/v1/models/darkroom/{type_}/predictions",
                {"input": own},
                201,
                "Prefer: wait=55\r\n",
            ),
        },
    }


def run(rounds: int = ROUNDS, seconds: float = SECONDS) -> dict[str, str]:
    """{door: µs of CPU for each order, and orders a CPU second as a share of the plain one's}."""
    with (
        tempfile.TemporaryDirectory(prefix="dr-bench-") as name,
        submit_throughput._server("darkroom", Path(name), "") as (url, pid),
    ):
        doors = _doors("photography", submit_throughput._upload(url))["at once"]
        found = _compared(url, pid, doors, rounds, seconds)
    settings = {
        "TASKS__noop__PROVIDER": "noop",
        "PROVIDERS__noop__KIND": "python",
        "PROVIDERS__noop__OPTIONS__class": "bench.probe:ProbeProvider",
        "WORKER_THREADS": "64",
    }
    with running_system(**settings) as system:
        web = next(
            each.pid
            for each in psutil.Process(system.pid).children(recursive=True)
            if "web" in each.cmdline()
        )
        return found | _compared(
            system.url, web, _doors("noop", system.upload_sample())["held"], rounds, seconds
        )


def _compared(url: str, pid: int, doors: dict[str, Door], rounds: int, seconds: float) -> dict[str, str]:
    spent: dict[str, list[float]] = {name: [] for name in doors}
    for _ in range(rounds):
        for name, door in doors.items():
            spent[name].append(_microseconds(url, pid, name, door, seconds))
    plain = next(iter(doors))
    return {name: _figures(spent[plain], each) for name, each in spent.items()}


def _figures(plain: list[float], door: list[float]) -> str:
    ratio = statistics.median(p / d for p, d in zip(plain, door, strict=True))
    return f"{statistics.median(door):.0f} µs of CPU an order; orders a CPU second: {ratio:.2f} of the plain one's"


def _microseconds(url: str, pid: int, name: str, door: Door, seconds: float) -> float:
    load: Callable[[float], Any] = lambda s: run_load(  # noqa: E731
        url,
        door.path,
        json.dumps(door.body).encode(),
        connections=CONNECTIONS,
        seconds=s,
        headers=door.headers,
    )
    asyncio.run(load(0.3))
    before = _cpu_seconds(pid)
    seen = asyncio.run(load(seconds))
    if set(seen.statuses) != {door.status}:
        raise RuntimeError(f"{name} answered {seen.statuses}, not {door.status} alone.")
    return 1e6 * (_cpu_seconds(pid) - before) / len(seen.milliseconds)


def _cpu_seconds(pid: int) -> float:
    """Of all threads of the process, to the nanosecond."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9
