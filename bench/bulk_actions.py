"""What others feel while an operator acts on 10,000 tasks: start latency by turns, as a ratio, on each database.

In the same run and by turns: some seconds with the action stopped and some with it going on, so other load on the
machine affects both alike.  Others' tasks are ordered by SQL, one at a time; the latency is from the commit of the
INSERT to the provider's first line.  The 10,000 are of a paused type and of 500 users with credits, ordered for
tomorrow: they are released, then cancelled, then those that are cancelled are tried again.  Each action is measured for
some turns and then stopped, and the record shows that each task that it has come to was acted on once.
`bench.bulk_kills` runs actions to their end.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import sqlite3
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from bench.figures import Quantiles
from bench.postgres_server import on_each_database
from tests.support.running_system import RunningSystem, probe_settings, running_system

TASKS = 10_000
USERS = 500
WARM_UP = 10
TURN_SECONDS = 4.0
MOST_TURNS = 10  # of each kind, for each action
PAUSE_SECONDS = (0.01, 0.05)
NEVER_FETCHED = '{"images":["https://example.org/person.jpg"]}'  # its type is paused

Run = Callable[[str], Any]


def run(tasks: int = TASKS) -> dict[str, str]:
    """{database and action: seconds, and p50 and p99 of others' start latency, calm and meanwhile, with ratios}."""
    return on_each_database(_on, tasks)


def _on(name: str, address: str, tasks: int) -> dict[str, str]:
    more = {"DATABASE_URL": address} if address else {}
    with tempfile.TemporaryDirectory(prefix="dr-bulk-") as folder, contextlib.ExitStack() as opened:
        probe = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        probe.bind(str(Path(folder, "probe.sock")))
        probe.settimeout(60)
        settings = probe_settings(str(Path(folder, "probe.sock"))) | {"TASKS__many__PROVIDER": "probe"}
        settings |= {"CREDITS__ENABLED": "true", "CREDITS__SIGNUP_GRANT": "100000", "WORKER_PROCESSES": "1"}
        system = opened.enter_context(running_system(**more, **settings))
        execute = _producer(system, address, opened)
        params = json.dumps({"images": [system.upload_sample()]})
        _ask(system, "POST", "/v1/ops/pauses", {"kind": "type", "name": "many", "reason": "a bench"})
        execute(orders_for_tomorrow(tasks))
        _until(lambda: _counted(execute, "admitted_charge = charge AND type = 'many'") == tasks)
        begin = _starter(execute, params, probe)
        for _ in range(WARM_UP):
            begin()
        return {f"{name}, {action}": _measured(system, execute, begin, action, tasks)
                for action in ("release", "cancel", "retry")}  # fmt: skip


def orders_for_tomorrow(tasks: int) -> str:
    """SQL for so many orders of the type `many`, of 500 users."""
    tomorrow = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86_400))
    return f"""INSERT INTO task_queue (user_openid, type, params, run_after)
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {tasks})
        SELECT 'o-' || (i % {USERS}), 'many', '{NEVER_FETCHED}', '{tomorrow}' FROM n"""


def _measured(
    system: RunningSystem, execute: Run, begin: Callable[[], float], action: str, tasks: int
) -> str:
    words = {"type": "many"} | ({"status": "cancelled"} if action == "retry" else {})
    seen = _ask(system, "POST", "/v1/ops/bulk/preview", {"action": action, "filter": words})
    assert seen["count"] == tasks or action == "retry", seen["count"]
    body = {"action": action, "filter": seen["filter"], "expected": seen["count"]}
    began = time.monotonic()
    bulk_id = _ask(system, "POST", "/v1/ops/bulk", body)["id"]
    calm: list[float] = []
    busy: list[float] = []
    at_work = 0.0
    for _ in range(MOST_TURNS):
        at_work += _turn(begin, busy)
        is_over = _ask(system, "POST", f"/v1/ops/bulk/{bulk_id}/stop")["state"] == "done"
        _turn(begin, calm)
        if is_over:
            break
        _ask(system, "POST", f"/v1/ops/bulk/{bulk_id}/resume")
    _ask(system, "POST", f"/v1/ops/bulk/{bulk_id}/stop")
    state = _ask(system, "GET", f"/v1/ops/bulk/{bulk_id}")
    assert state["done"] and not state["refused"], state
    once = execute(
        f"SELECT count(*), count(DISTINCT target) FROM audit WHERE action = '{action}' AND bulk_id = '{bulk_id}'"
    )
    assert list(once[0]) == [state["done"]] * 2, (once, state)
    before, meanwhile = Quantiles.of(calm), Quantiles.of(busy)
    return (
        f"{state['done']} of {seen['count']} in {at_work:.0f} s at work ({time.monotonic() - began:.0f} s in all, load "
        f"{os.getloadavg()[0]:.1f}); {len(busy)} starts calm {before}; meanwhile {meanwhile}; "
        f"ratio p50 {meanwhile.p50 / before.p50:.2f}, p90 {meanwhile.p90 / before.p90:.2f}, "
        f"p99 {meanwhile.p99 / before.p99:.2f}"
    )


def _turn(begin: Callable[[], float], sample: list[float]) -> float:
    """Start tasks for some seconds; how long it took."""
    began = time.monotonic()
    while time.monotonic() - began < TURN_SECONDS:
        time.sleep(random.uniform(*PAUSE_SECONDS))
        sample.append(begin())
    return time.monotonic() - began


def _starter(execute: Run, params: str, probe: socket.socket) -> Callable[[], float]:
    def begin() -> float:
        execute(f"INSERT INTO task_queue (user_openid, type, params) VALUES ('demo', 'probe', '{params}')")
        begun = time.monotonic_ns()
        return (int(probe.recv(200).split()[-1]) - begun) / 1e6

    return begin


def _producer(system: RunningSystem, address: str, opened: contextlib.ExitStack) -> Run:
    """Runs one committed statement of a plain program; its rows."""
    connection: Any = (
        psycopg.connect(address, autocommit=True)
        if address
        else sqlite3.connect(system.data_dir / "darkroom.db", timeout=30, isolation_level=None)
    )
    opened.callback(connection.close)

    def execute(statement: str) -> Any:
        done = connection.execute(statement)
        return done.fetchall() if done.description else []

    return execute


def _counted(execute: Run, where: str) -> int:
    return int(execute(f"SELECT count(*) FROM task_queue WHERE {where}")[0][0])


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "the tasks are not admitted within five minutes"
        time.sleep(0.2)


def _ask(system: RunningSystem, method: str, path: str, body: Any = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(
        system.url + path, data, {"Content-Type": "application/json"} if data else {}, method=method
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


if __name__ == "__main__":
    for what, figures in run().items():
        print(what, figures, sep="\n  ")
