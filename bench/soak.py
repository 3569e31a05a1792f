"""A soak: a whole system at a steady rate for most of an hour.  What grows that should not: memory, descriptors, log.

Two orders a second by HTTP, of tasks that run for a second, and twenty streams that are read.  Before that, a warm-up
fills what grows with each task up to a bound: the leases that a worker remembers (1,000), Python's free lists (2,000
tuples of each size), the threads with their connections.  So it orders four times as fast, for a third of the time:
3,600 tasks in each of two workers.  Afterwards the memory of each process is fitted by a line; its slope is told per
hour.  Told are all pages (RSS), whose growth is a leak, and its own (USS): those grow in a forked part for hours
without one, as pages that it shared with the fork server are written to.

`SOAK_SECONDS` and `SOAK_ORDERS_PER_SECOND` set others, both after the warm-up; `SOAK_WARM_UP_SECONDS` its time.
`SOAK_DATABASE=postgres` runs on a PostgreSQL of its own instead of SQLite.  `SOAK_SAMPLES` names a file for the
samples, as lines of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import aiohttp
import psutil
import psycopg

from bench.postgres_server import postgres_server
from supervisor.security.tokens import make_user_token
from tests.support.houses.instant_house import INSTANT
from tests.support.running_system import RunningSystem, running_system

SECONDS = 2700.0
ORDERS_PER_SECOND = float(os.environ.get("SOAK_ORDERS_PER_SECOND", "2"))
WARM_UP_TIMES_FASTER = 4
STREAMS = 20
SAMPLE_SECONDS = 20.0
KIB, MIB = 1024, 1024 * 1024
SETTINGS = INSTANT | {
    "PROVIDERS__instant__OPTIONS__wait_seconds": "1",
    "CREDITS__SIGNUP_GRANT": "1000000",
    "LIMITS__REQUESTS_PER_MINUTE": "0",
    "LIMITS__ORDERS_PER_MINUTE": "0",
    "LOG_LEVEL": "info",
    "LOG_FORMAT": "json",
}


def run() -> dict[str, str]:
    """{process: slope of its memory and its descriptors; the log; the tasks}."""
    seconds = float(os.environ.get("SOAK_SECONDS", SECONDS))
    warm_up_seconds = float(os.environ.get("SOAK_WARM_UP_SECONDS", seconds / 3))
    with contextlib.ExitStack() as opened:
        log = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="dr-soak-"))) / "log"
        settings, url = dict(SETTINGS), ""
        if os.environ.get("SOAK_DATABASE") == "postgres":
            settings["DATABASE_URL"] = url = opened.enter_context(postgres_server())
        with running_system(log=log, **settings) as system:
            samples, ordered, events = asyncio.run(_soak(system, warm_up_seconds, seconds))
            ends = _ends(system, url)
        completed, stopped = ends.pop("completed", 0), sum(ends.values())
        size = log.stat().st_size
    _keep(samples)
    told = {name: _told(values, warm_up_seconds) for name, values in sorted(samples.items())}
    return told | {
        "log": f"{size / KIB / max(1, ordered):.2f} KiB a task",
        "tasks": f"{ordered} ordered, {completed} completed, {stopped} not, {events} events in {STREAMS} streams",
    }


def _ends(system: RunningSystem, url: str) -> dict[str, int]:
    """{status: tasks}.  url: of PostgreSQL, or empty."""
    query = "SELECT status, count(*) FROM task_queue GROUP BY status"
    if not url:
        return dict(system.sql(query))
    with psycopg.connect(url) as connection:
        return dict(connection.execute(query).fetchall())


def _keep(samples: dict[str, list[Sample]]) -> None:
    if name := os.environ.get("SOAK_SAMPLES"):
        lines = [json.dumps([process, *each]) for process, values in samples.items() for each in values]
        Path(name).write_text("\n".join(lines) + "\n")


Sample = tuple[float, int, int, int]  # at, bytes in all, bytes of its own, descriptors


async def _soak(
    system: RunningSystem, warm_up_seconds: float, seconds: float
) -> tuple[dict[str, list[Sample]], int, int]:
    secret = (system.data_dir / "secret").read_text().strip()
    users = [f"o-{n}" for n in range(STREAMS)]
    tokens = {
        user: make_user_token(secret, user, ttl_seconds=int(warm_up_seconds + seconds) + 3600)
        for user in users
    }
    image = system.upload_sample(users[0])
    images = {
        user: image if user == users[0] else await asyncio.to_thread(system.upload_sample, user)
        for user in users
    }
    samples: dict[str, list[Sample]] = defaultdict(list)
    counts = {"ordered": 0, "events": 0}
    begun = time.monotonic()
    warm = begun + warm_up_seconds
    end = warm + seconds

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:

        async def listen(user: str) -> None:
            headers = {"Authorization": f"Bearer {tokens[user]}"}
            while True:
                async with session.get(f"{system.url}/v1/works/feed", headers=headers) as answer:
                    async for line in answer.content:
                        counts["events"] += line.startswith(b"data: ")

        async def order() -> None:
            n, due = 0, begun
            while due < end:
                user = users[n % STREAMS]
                body = {"type": "instant", "params": {"images": [images[user]]}}
                headers = {"Authorization": f"Bearer {tokens[user]}"}
                async with session.post(f"{system.url}/v1/tasks", json=body, headers=headers) as answer:
                    assert answer.status == 202, await answer.text()
                n += 1
                counts["ordered"] = n
                due += 1 / ORDERS_PER_SECOND / (WARM_UP_TIMES_FASTER if due < warm else 1)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

        async def sample() -> None:
            while time.monotonic() < end:
                for name, value in (await asyncio.to_thread(_sampled, system)).items():
                    samples[name].append(value)
                await asyncio.sleep(SAMPLE_SECONDS)

        streams = [asyncio.ensure_future(listen(user)) for user in users]
        await asyncio.gather(order(), sample())
        await asyncio.sleep(5)  # the last tasks end
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
    return samples, counts["ordered"], counts["events"]


def _sampled(system: RunningSystem) -> dict[str, Sample]:
    state = json.loads((system.data_dir / "processes.json").read_bytes())["processes"]
    names = {process["pid"]: process["name"] for process in state}
    found: dict[str, Sample] = {}
    supervisor = psutil.Process(system.pid)
    for process in [supervisor, *supervisor.children(recursive=True)]:
        try:
            memory, open_files = process.memory_full_info(), process.num_fds()
            above = names.get(process.ppid())
        except psutil.Error:
            continue
        its_own = names.get(process.pid, process.name() if process.pid != system.pid else "supervisor")
        name = f"{its_own} of {above}" if above else its_own
        found[f"{name} ({process.pid})"] = (time.monotonic(), memory.rss, memory.uss, open_files)
    return found


def _told(values: list[Sample], warm_up_seconds: float) -> str:
    warm = [each for each in values if each[0] >= values[0][0] + warm_up_seconds]
    if len(warm) < 3:
        return "too short-lived"
    told = [_grown([each[0] for each in warm], [each[n] for each in warm]) for n in (1, 2)]
    files = [each[3] for each in warm]
    return f"{told[0]}; of its own {told[1]}; descriptors {files[0]} to {files[-1]} (most {max(files)})"


def _grown(times: list[float], sizes: list[int]) -> str:
    slope = statistics.linear_regression(times, sizes).slope
    return f"{slope * 3600 / MIB:+.2f} MiB/h, {sizes[0] / MIB:.1f} to {sizes[-1] / MIB:.1f} MiB"
