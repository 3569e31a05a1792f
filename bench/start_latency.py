"""Idle start: from the commit of a plain SQL INSERT in this process to the provider's first line in a worker.

One task at a time, with a pause, so that every part has gone back to waiting.  Beside it, in the same run: stock
Dramatiq on the same server, from `send` to the actor's first line, and a bare durable INSERT.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.figures import Quantiles
from tests.support.running_system import REPOSITORY, probe_settings, running_system

TASKS = 200
WARM_UP = 20
PAUSE_SECONDS = (0.02, 0.12)


def run(tasks: int = TASKS) -> dict[str, Quantiles]:
    """{what: milliseconds}."""
    return {
        "darkroom, SQL INSERT to provider (synchronous=FULL, the default)": _darkroom(tasks, "full"),
        "darkroom, the same with ?synchronous=normal": _darkroom(tasks, "normal"),
        "one durable commit by plain sqlite3 (FULL)": _bare_commit(tasks),
        "stock dramatiq, send to actor (not durable)": _stock(tasks),
    }


def _darkroom(tasks: int, synchronous: str) -> Quantiles:
    with tempfile.TemporaryDirectory(prefix="dr-probe-") as folder, _probe_socket(Path(folder)) as probe:
        path = str(Path(folder) / "probe.sock")
        address = f"sqlite:///{{data_dir}}/darkroom.db?synchronous={synchronous}"
        with running_system(DATABASE_URL=address, **probe_settings(path)) as system:
            params = json.dumps({"images": [system.upload_sample()]})
            producer = sqlite3.connect(system.data_dir / "darkroom.db", timeout=15)

            def start(_: int) -> int:
                producer.execute(
                    "INSERT INTO task_queue (user_openid, type, params) VALUES ('demo', 'probe', ?)",
                    (params,),
                )
                producer.commit()
                return time.monotonic_ns()

            return _one_at_a_time(tasks, start, probe)


def _bare_commit(tasks: int) -> Quantiles:
    """What the disk alone costs: our path has one such commit before the wake-up and two after it."""
    with tempfile.TemporaryDirectory(prefix="dr-bare-") as folder:
        connection = sqlite3.connect(Path(folder) / "bare.db")
        connection.executescript(
            "PRAGMA journal_mode = wal; PRAGMA synchronous = full; CREATE TABLE t (v TEXT);"
        )
        sample = []
        for _ in range(tasks):
            time.sleep(random.uniform(*PAUSE_SECONDS))
            connection.execute("INSERT INTO t VALUES ('x')")
            begun = time.monotonic_ns()
            connection.commit()
            sample.append((time.monotonic_ns() - begun) / 1e6)
        return Quantiles.of(sample)


def _stock(tasks: int) -> Quantiles:
    with tempfile.TemporaryDirectory(prefix="dr-stock-") as name, _probe_socket(Path(name)) as probe:
        folder = Path(name)
        with _stock_system(folder) as send:

            def start(_: int) -> int:
                begun = time.monotonic_ns()
                send()
                return begun

            return _one_at_a_time(tasks, start, probe)


def _one_at_a_time(tasks: int, start: Callable[[int], int], probe: socket.socket) -> Quantiles:
    sample = []
    for n in range(WARM_UP + tasks):
        time.sleep(random.uniform(*PAUSE_SECONDS))
        begun = start(n)
        reached = int(probe.recv(200).split()[-1])
        if n >= WARM_UP:
            sample.append((reached - begun) / 1e6)
    return Quantiles.of(sample)


@contextlib.contextmanager
def _probe_socket(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        probe.bind(str(folder / "probe.sock"))
        probe.settimeout(30)
        yield probe


@contextlib.contextmanager
def _stock_system(folder: Path) -> Iterator[Callable[[], object]]:
    """A Valkey and two stock worker processes of eight threads."""
    from bench import stock_app
    from supervisor.broker.broker_address import socket_path
    from supervisor.broker.embedded_broker import broker_argv

    server = subprocess.Popen(broker_argv(folder), cwd=folder, stdout=subprocess.DEVNULL)
    environ = {
        **stock_app.environ_for(socket_path(folder), folder / "probe.sock"),
        "PYTHONPATH": str(REPOSITORY),
    }
    dramatiq = Path(sys.executable).with_name("dramatiq")
    workers = subprocess.Popen(
        [dramatiq, "bench.stock_app", "-p", "2", "-t", "8"],
        env=environ,
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield stock_app.sender(socket_path(folder), folder / "probe.sock")
    finally:
        for process in (workers, server):
            process.terminate()
            process.wait(30)
