"""Darkroom on PostgreSQL beside pgqueuer and procrastinate, each with two worker processes, one after the other.

idle start: from the commit of one row to the job's first line, in milliseconds, one at a time with pauses.
drain: 5,000 jobs that do nothing, put in at once while the workers are idle, until the last one is over.
waiting: 500 jobs that wait 2 s each, the same way; and the memory of the worker processes just before the end (PSS).
Darkroom's tasks take their whole way: admission with credits, work, change log, claim, completion.
"""

from __future__ import annotations

import random
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import psutil
import psycopg

from bench.figures import Quantiles
from bench.peers import jobs, pgqueuer_queue, procrastinate_queue
from bench.peers.running import new_database, running_peer, seconds_until_drained
from bench.postgres_server import postgres_server
from tests.support.running_system import RunningSystem, running_system

STARTS = 150
WARM_UP = 15
PAUSE_SECONDS = (0.02, 0.12)
DRAINED = 5_000
WAITING = 500
MOST_SECONDS = 120.0
USERS = 50

INSERT = """WITH given AS (SELECT %s::text[] AS users, %s::text[] AS images, %s::text AS type)
    INSERT INTO task_queue (user_openid, type, params)
    SELECT users[1 + n %% cardinality(users)], type,
        jsonb_build_object('images', jsonb_build_array(images[1 + n %% cardinality(users)]))
    FROM given, generate_series(1, %s) AS n"""

OPEN_TASKS = """SELECT count(*) FROM task_queue
    WHERE status IN ('pending','processing','ai_processing') AND type IN ('noop','probe','wait')"""
THREADS = {"WORKER_PROCESSES": "2", "WORKER_THREADS": "250"}  # 500 tasks wait at once; a slot for each
CREDITS_ON = {"CREDITS__ENABLED": "true", "CREDITS__SIGNUP_GRANT": "1000000"}


def run() -> dict[str, object]:
    """{what: figures}."""
    seen: dict[str, object] = {}
    with postgres_server() as dsn:
        seen |= _darkroom(new_database(dsn, "darkroom"))
        for name, peer in (("pgqueuer", pgqueuer_queue), ("procrastinate", procrastinate_queue)):
            seen |= _peer(name, peer, new_database(dsn, name))
    return {f"{what}: {who}": seen[f"{what}: {who}"] for what, who in sorted(k.split(": ") for k in seen)}


def _darkroom(dsn: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="dr-probe-") as folder:
        path = Path(folder) / "probe.sock"
        with (
            _probe(path) as probe,
            running_system(DATABASE_URL=dsn, **THREADS, **CREDITS_ON, **_types(path)) as system,
            psycopg.connect(dsn, autocommit=True) as producer,
        ):
            users = [f"o-{n}" for n in range(USERS)]
            images = [system.upload_sample(user) for user in users]

            def put(name: str, count: int) -> None:
                producer.execute(INSERT, (users, images, name, count))

            return _measure("darkroom", dsn, OPEN_TASKS, put, probe, lambda: _worker_memory(system))


def _types(probe: Path) -> dict[str, str]:
    """Three task types of the probe provider: one that reports, one that does nothing, one that waits."""
    settings = {}
    for name in jobs.NAMES:
        settings |= {
            f"TASKS__{name}__PROVIDER": name,
            f"PROVIDERS__{name}__KIND": "python",
            f"PROVIDERS__{name}__OPTIONS__class": "bench.probe:ProbeProvider",
        }
    settings["PROVIDERS__probe__OPTIONS__socket"] = str(probe)
    settings["PROVIDERS__wait__OPTIONS__wait_seconds"] = str(jobs.WAIT_SECONDS)
    return settings


def _peer(name: str, peer: ModuleType, dsn: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="dr-probe-") as folder:
        path = Path(folder) / "probe.sock"
        with _probe(path) as probe, running_peer(peer, dsn, path) as pids, peer.producer(dsn) as put:
            return _measure(name, dsn, peer.OPEN, put, probe, lambda: _pss(map(psutil.Process, pids)))


def _measure(
    who: str,
    dsn: str,
    open_jobs: str,
    put: Callable[[str, int], None],
    probe: socket.socket,
    memory: Callable[[], float],
) -> dict[str, object]:
    starts = [_start(put, probe) for _ in range(WARM_UP + STARTS)][WARM_UP:]
    drained = _drain(dsn, open_jobs, put, "noop", DRAINED)
    time.sleep(1)
    waited = _drain(dsn, open_jobs, put, "wait", WAITING)
    return {
        f"idle start: {who}": Quantiles.of(starts),
        f"drain of {DRAINED}: {who}": f"{DRAINED / drained:,.0f} a second",
        f"{WAITING} that wait 2 s: {who}": f"{waited:.2f} s, workers' PSS {memory():.0f} MiB",
    }


def _start(put: Callable[[str, int], None], probe: socket.socket) -> float:
    time.sleep(random.uniform(*PAUSE_SECONDS))
    begun = time.monotonic_ns()
    put("probe", 1)
    reached = int(probe.recv(200).split()[-1])
    return (reached - begun) / 1e6


def _drain(dsn: str, open_jobs: str, put: Callable[[str, int], None], name: str, count: int) -> float:
    began = time.monotonic()
    put(name, count)
    seconds_until_drained(dsn, open_jobs, MOST_SECONDS)
    return time.monotonic() - began


def _probe(path: Path) -> socket.socket:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    probe.bind(str(path))
    probe.settimeout(30)
    return probe


def _worker_memory(system: RunningSystem) -> float:
    """MiB of everything below `up` that is a Dramatiq worker: masters, workers and their children."""
    below = psutil.Process(system.pid).children(recursive=True)
    masters = [process for process in below if "dramatiq" in " ".join(process.cmdline()[:3])]
    return _pss({each for master in masters for each in (master, *master.children(recursive=True))})


def _pss(processes: object) -> float:
    return float(sum(process.memory_full_info().pss for process in processes) / 2**20)  # type: ignore[attr-defined]
