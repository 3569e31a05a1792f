"""Two worker processes of a peer, on a database of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psycopg

from bench.peers import jobs
from tests.support.running_system import REPOSITORY

PROCESSES = 2
SETTLE_SECONDS = 1.0  # after "ready" a worker still opens its listener
LOOK_SECONDS = 0.01


@contextlib.contextmanager
def running_peer(peer: ModuleType, dsn: str, probe: Path | None = None) -> Iterator[list[int]]:
    """Its workers until the block ends; their pids.  dsn: an empty database.  probe: where `probe` jobs report."""
    peer.prepare(dsn)
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), jobs.PROBE: str(probe or "")}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", peer.__name__, dsn],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(PROCESSES)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None and worker.stdout.readline() == b"ready\n"
        time.sleep(SETTLE_SECONDS)
        yield [worker.pid for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait(10)


def seconds_until_drained(dsn: str, open_jobs: str, most_seconds: float) -> float:
    """From now until the query counts nothing.  Raises TimeoutError."""
    began = time.monotonic()
    with psycopg.connect(dsn, autocommit=True) as connection:
        while connection.execute(open_jobs).fetchone() != (0,):  # type: ignore[arg-type]
            if time.monotonic() - began > most_seconds:
                raise TimeoutError(f"not drained within {most_seconds:g} s")
            time.sleep(LOOK_SECONDS)
    return time.monotonic() - began


def new_database(dsn: str, name: str) -> str:
    """The URL of a new empty database on the same server.  dsn: a URL too."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]
    return urllib.parse.urlsplit(dsn)._replace(path=f"/{name}").geturl()
