"""Submissions a second over HTTP from 32 connections, each answered when its row is durable.

In the same run, in turns: `darkroom web` (checks, order, work, change log and triggers included), bare aiohttp with
one durable INSERT a request, and the group-commit floor (bench.submit_servers).  Each round has a fresh database.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from bench.figures import Quantiles
from bench.http_load import Load, run_load
from tests.support.running_system import LIFTED, REPOSITORY, SAMPLE

ROUNDS = 3
SECONDS = 4.0
CONNECTIONS = 32
START_SECONDS = 30


def run(rounds: int = ROUNDS, seconds: float = SECONDS) -> dict[str, str]:
    """{what: requests/s, median of the rounds, and latencies of all rounds}."""
    return compared(lambda _: "", rounds, seconds)


def compared(new_dsn: Callable[[str], str], rounds: int = ROUNDS, seconds: float = SECONDS) -> dict[str, str]:
    """As `run`.  new_dsn: the URL of a new PostgreSQL database of a name; '' for a SQLite file."""
    loads: dict[str, list[Load]] = {"group": [], "darkroom": [], "bare": []}
    for n in range(rounds):
        for kind, seen in loads.items():
            seen.append(_measure(kind, seconds, new_dsn(f"{kind}-{n}")))
    medians = {kind: statistics.median(load.per_second for load in seen) for kind, seen in loads.items()}
    names = {
        "darkroom": "darkroom web, whole submission, durable",
        "bare": "bare aiohttp, one durable INSERT a request",
        "group": "group-commit floor: minimal aiohttp, one writer",
    }
    found = {
        name: f"{medians[kind]:,.0f} requests/s  {Quantiles.of(_milliseconds(loads[kind]))}  "
        f"{_cpu_of(loads[kind]):.0f} µs of CPU each"
        for kind, name in names.items()
    }
    found["darkroom / floor"] = f"{medians['darkroom'] / medians['group']:.2f}"
    found["darkroom / bare"] = f"{medians['darkroom'] / medians['bare']:.2f}"
    found["CPU of bare / darkroom"] = f"{_cpu_of(loads['bare']) / _cpu_of(loads['darkroom']):.2f}"
    return found


def _cpu_of(loads: list[Load]) -> float:
    """Microseconds of the server and its database for each order, median of the rounds."""
    return statistics.median(1e6 * load.cpu_seconds / len(load.milliseconds) for load in loads)


def _milliseconds(loads: list[Load]) -> list[float]:
    return [each for load in loads for each in load.milliseconds]


def _measure(kind: str, seconds: float, dsn: str) -> Load:
    with (
        tempfile.TemporaryDirectory(prefix="dr-bench-") as name,
        _server(kind, Path(name), dsn) as (url, pid),
    ):
        image = _upload(url) if kind == "darkroom" else "01JABCDEFGHJKMNPQRSTVWXYZ0"
        order = {"type": "photography", "params": {"images": [image], "sceneId": "studio"}}
        pids = [pid, *([_postgres_pid(dsn)] if dsn else [])]
        spent = _cpu_seconds(pids)
        load = asyncio.run(
            run_load(url, "/v1/tasks", json.dumps(order).encode(), connections=CONNECTIONS, seconds=seconds)
        )
        load.cpu_seconds = _cpu_seconds(pids) - spent
    if set(load.statuses) != {202}:
        raise RuntimeError(f"{kind} answered {load.statuses}, not 202 alone.")
    return load


@contextlib.contextmanager
def _server(kind: str, folder: Path, dsn: str) -> Iterator[tuple[str, int]]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("DARKROOM_")}
    environ |= LIFTED | {
        "DARKROOM_DATA_DIR": str(folder),
        "DARKROOM_PORT": "0",
        "DARKROOM_CONFIG": "",
        "PYTHONPATH": str(REPOSITORY),
    }
    if dsn:
        environ["DARKROOM_DATABASE_URL"] = dsn
    if kind == "darkroom":
        darkroom = Path(sys.executable).with_name("darkroom")
        subprocess.run([darkroom, "migrate"], env=environ, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        command = [str(darkroom), "web"]
    else:
        servers = "bench.postgres_submit_servers" if dsn else "bench.submit_servers"
        command = [sys.executable, "-m", servers, kind, str(folder), dsn]
    process = subprocess.Popen(command, env=environ, cwd=folder)
    try:
        yield _address(process, folder / "url"), process.pid
    finally:
        process.terminate()
        process.wait(30)


def _address(process: subprocess.Popen[bytes], file: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while not file.exists() or not file.read_text().endswith("\n"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"The server did not start: {process.args}.")
        time.sleep(0.02)
    return file.read_text().strip()


def _postgres_pid(dsn: str) -> int:
    """Of the server's first process, by the file in the folder of its data, where its socket is too."""
    [folder] = urllib.parse.parse_qs(urllib.parse.urlsplit(dsn).query)["host"]
    return int((Path(folder) / "postmaster.pid").read_text().split()[0])


def _cpu_seconds(pids: list[int]) -> float:
    """CPU time of the processes and all below them, ended ones too."""
    total = 0.0
    for pid in pids:
        first = psutil.Process(pid)
        for process in [first, *first.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:4])
    return total


def _upload(url: str) -> str:
    request = urllib.request.Request(
        f"{url}/v1/images", SAMPLE.read_bytes(), {"Content-Type": "image/png"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return str(json.load(response)["id"])
