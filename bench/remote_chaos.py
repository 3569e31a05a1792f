"""`python -m bench.remote_chaos`: remote jobs while workers, dispatcher and web are killed at random.

Afterwards no picture was submitted twice, every task has ended once and the ledger is exact. A request whose answer was
lost with its worker is counted as `unknown_outcome` and not sent again.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from tests.support.chaos.chaos_house import ChaosHouse
from tests.support.chaos.plan import Role
from tests.support.fakes.remote_service import Plan, RemoteService
from tests.support.waiting import eventually

KILLED = {Role.WORKER: 6, Role.MASTER: 2, Role.DISPATCHER: 3, Role.WEB: 3}
MEAN_GAP_SECONDS = 1.5
USER = "o-1"
FINAL_SECONDS = 180.0


@click.command()
@click.option("--seed", default=1, show_default=True)
@click.option("--tasks", default=300, show_default=True)
@click.option("--seconds", default=60.0, show_default=True, help="How long parts are killed.")
def main(seed: int, tasks: int, seconds: float) -> None:
    """Live through one seed; exit 1 if a promise was broken."""
    draw = random.Random(f"remote chaos {seed}")
    folder = Path(tempfile.mkdtemp(prefix=f"dk-remote-{seed}-"))
    with RemoteService(lambda order: _plan(draw)) as service:
        house = ChaosHouse(folder, _settings(service.url, tasks))
        try:
            killed = _live_through(house, draw, tasks, seconds)
            figures, wrong = _judge(house, service, tasks)
        finally:
            house.end()
    print(f"seed {seed}: killed " + ", ".join(f"{count} × {role}" for role, count in sorted(killed.items())))
    for what, figure in figures.items():
        print(f"  {what}: {figure}")
    for sentence in wrong:
        print(f"WRONG: {sentence}")
    print(f"the house's folder is kept: {folder}" if wrong else "every promise kept")
    if not wrong:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if wrong else 0)


def _plan(draw: random.Random) -> Plan:
    """A fifth of the services' yeses comes late, so that workers die before they hear it; some jobs fail at first."""
    late = draw.random() < 0.2
    return Plan(
        seconds=draw.uniform(0.2, 12),
        reports=draw.random() < 0.5,
        answer_after_seconds=draw.uniform(0.5, 2.0) if late else 0.0,
    )


def _settings(url: str, tasks: int) -> dict[str, str]:
    return {
        "CREDITS__SIGNUP_GRANT": str(tasks),
        "LIMITS__RUNNING_TASKS_PER_USER": "0",
        "LIMITS__OPEN_TASKS_PER_USER": "0",
        "WORKER_THREADS": "4",
        "PROVIDERS__paint__KIND": "python",
        "PROVIDERS__paint__OPTIONS__class": "bench.remote_provider:RemoteProvider",
        "PROVIDERS__paint__OPTIONS__url": url,
        "PROVIDERS__paint__ALLOW_PRIVATE_ADDRESSES": "true",
        "TASKS__paint__PROVIDER": "paint",
        "TASKS__paint__MAX_ATTEMPTS": "10",
        "TASKS__paint__AI_TIMEOUT_SECONDS": "20",
        "TASKS__paint__TIME_LIMIT_SECONDS": "60",
    }


def _live_through(house: ChaosHouse, draw: random.Random, tasks: int, seconds: float) -> Counter[str]:
    """Order, kill, wait until all is over."""
    house.start()
    image = house.upload_sample(USER)
    killed: Counter[str] = Counter()
    ordered, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        due = min(tasks, round(tasks * (1 - (end - time.monotonic()) / seconds) * 1.3))
        ordered += _order(house, image, due - ordered)
        role = draw.choices(list(KILLED), list(KILLED.values()))[0]
        candidates = house.with_role(role)
        if candidates:
            with contextlib.suppress(Exception):  # it has died by itself this moment
                draw.choice(candidates).kill()
                killed[role.value] += 1
        time.sleep(min(3 * MEAN_GAP_SECONDS, draw.expovariate(1 / MEAN_GAP_SECONDS)))
    _order(house, image, tasks - ordered)
    eventually("all tasks are over", lambda: _open(house) == 0, FINAL_SECONDS)
    eventually("all evidence is settled", lambda: _unsettled(house) == 0, 60)
    return killed


def _judge(house: ChaosHouse, service: RemoteService, tasks: int) -> tuple[dict[str, object], list[str]]:
    """Figures, and what must not be."""
    rows = house.all("SELECT id, status, error, attempt, missing FROM task_queue")
    codes = Counter(json.loads(row["error"])["code"] for row in rows if row["error"])
    stats = service.stats()
    wrong = []
    if len(rows) != tasks:
        wrong.append(f"{len(rows)} tasks instead of {tasks}")
    if stats["twice"]:
        wrong.append(f"{stats['twice']} pictures were submitted twice")
    if codes.keys() - {"unknown_outcome"}:
        wrong.append(f"tasks failed with {dict(codes)}")
    for row in rows:
        booked = [
            entry["amount"]
            for entry in house.all("SELECT amount FROM credit_entry WHERE task_id = ? ORDER BY id", row["id"])
        ]
        expected = {"completed": [-1], "failed": [-1, 1]}[row["status"]]
        if booked != expected:
            wrong.append(f"{row['id']} is {row['status']} and booked {booked}")
        evidence = [each["state"] for each in house.all(_EVIDENCE, row["id"])]
        ends = {"completed": "done", "failed": "unknown"}[row["status"]]
        if evidence.count(ends) != 1 or set(evidence) - {ends, "failed"}:
            late = row["status"] == "failed" and set(evidence) <= {"unknown", "cancelled", "failed", "lost"}
            if not late:
                wrong.append(f"{row['id']} is {row['status']} and its evidence is {evidence}")
    (balance,) = house.all("SELECT balance FROM account WHERE user_openid = ?", USER)
    completed = sum(row["status"] == "completed" for row in rows)
    if balance["balance"] != tasks - completed:
        wrong.append(f"the balance is {balance['balance']} after {completed} pictures of {tasks}")
    figures: dict[str, object] = {
        "ended": dict(Counter(row["status"] for row in rows)),
        "errors": dict(codes),
        "attempts": dict(Counter(row["attempt"] for row in rows)),
        "the service": stats,
    }
    return figures, wrong


_EVIDENCE = "SELECT state FROM remote_job WHERE task_id = ? ORDER BY id"


def _open(house: ChaosHouse) -> int:
    (row,) = house.all(
        "SELECT count(*) AS n FROM task_queue WHERE status IN ('pending','processing','ai_processing')",
    )
    return int(row["n"])


def _unsettled(house: ChaosHouse) -> int:
    (row,) = house.all("SELECT count(*) AS n FROM remote_job WHERE state IN ('submitting','waiting')")
    return int(row["n"])


def _order(house: ChaosHouse, image: str, count: int) -> int:
    """So many tasks by plain SQL; how many that were."""
    params = json.dumps({"images": [image]})
    with contextlib.closing(sqlite3.connect(house.database, timeout=30)) as connection, connection:
        connection.executemany(
            "INSERT INTO task_queue (user_openid, type, params) VALUES (?, 'paint', ?)",
            [(USER, params)] * max(0, count),
        )
    return max(0, count)


if __name__ == "__main__":
    main()
