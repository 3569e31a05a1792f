"""One turn of `bench.against`: what one idle build costs on one kind of database, as JSON on stdout.

Run as a program with PYTHONPATH at the tree of the build, as `bench.against_turn` is.  Settings are the defaults: two
workers, sixteen slots.  PSS is memory where a page that n processes share counts as an n-th of itself in each.
"""

from __future__ import annotations

import contextlib
import json
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

try:
    from tests.support.running_system import RunningSystem, running_system
except ImportError:  # of a build before its helpers were moved
    from bench.running_system import RunningSystem, running_system  # type: ignore[no-redef,import-not-found]

SETTLE_SECONDS = 15.0  # what starting leaves behind: caches, first heartbeats, the first look at everything
SECONDS = 60.0  # one sweep, whenever it begins
MIB = 1024 * 1024


def main() -> None:
    """The database's URL is the first argument, `sqlite` for a file of its own; the second, if any, the seconds."""
    url, seconds = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else SECONDS
    settings = {"DATABASE_URL": url} if url.startswith("postgres") else {}
    with running_system(**settings) as system, _commits(system, url) as commits:
        time.sleep(SETTLE_SECONDS)
        processes = processes_of(system.pid)
        committed, cpu = commits(), cpu_seconds(processes)
        time.sleep(seconds)
        print(
            json.dumps(
                {
                    "idle: commits a second": (commits() - committed) / seconds,
                    f"idle: CPU s in {seconds:g} s": cpu_seconds(processes) - cpu,
                    "idle: PSS, MiB": sum(each.memory_full_info().pss for each in processes) / MIB,
                }
            )
        )


def processes_of(supervisor_pid: int) -> list[psutil.Process]:
    """`darkroom up` and all that it has started."""
    supervisor = psutil.Process(supervisor_pid)
    return [supervisor, *supervisor.children(recursive=True)]


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Seconds, of all their threads: to the nanosecond, as ticks miss most of what is over within one."""
    nanoseconds = 0
    for process in processes:
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


@contextlib.contextmanager
def _commits(system: RunningSystem, url: str) -> Iterator[Callable[[], int]]:
    """How many transactions have written something, so far."""
    if url == "sqlite":
        yield lambda: _sqlite_commits(system.data_dir / "darkroom.db-shm")
        return
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        # A writing transaction takes the next number, a reading one takes none; the server's own are prevented.
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("SELECT pg_reload_conf()")
        sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"
        yield lambda: int((connection.execute(sql).fetchone() or ("0",))[0])


def _sqlite_commits(shared_memory: Path) -> int:
    """The wal-index's `iChange`, raised by each commit that wrote (https://sqlite.org/walformat.html, 2.1)."""
    with shared_memory.open("rb") as file:
        (changes,) = struct.unpack_from("=I", file.read(48), 8)
    return int(changes)


if __name__ == "__main__":
    main()
