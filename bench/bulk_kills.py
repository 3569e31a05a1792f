"""Processes that act on 10,000 tasks are killed in mid-way, and the action goes on: each task once, on each database.

A real `darkroom up`.  The 10,000 orders are of a paused type and of 500 users with credits.  All are released, then
cancelled, then tried again.  While each action runs, `kill -9` ends, one after the other and several times: the program
`darkroom bulk` that has begun it, the web process that does its parts beside it, both at once, and all of `up`.  The
program is called again as `darkroom bulk resume`, `up` starts web anew, and the whole system is started anew.  In the
end plain SQL says whether each task was acted on once, on record, and whether every balance is the sum of its ledger.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg

from bench.bulk_actions import orders_for_tomorrow
from bench.postgres_server import on_each_database
from tests.support.models.exactly_once import asked
from tests.support.running_system import DARKROOM, RunningSystem, running_system
from tests.support.waiting import eventually

TASKS = 10_000
GRANT = 1_000
ALL_DONE_SECONDS = 600.0
# What is killed when so much of an action is done, and what goes on.
KILLS = (
    (0.1, ("program",)),
    (0.25, ("web",)),
    (0.4, ("program", "web")),
    (0.55, ("up",)),
    (0.7, ("program",)),
)
STATUS = {"release": "pending", "cancel": "cancelled", "retry": "pending"}
# The entries in the ledger of each task, once the action is done: sums and numbers of debits and refunds.
BOOKED = {"release": (1, 0), "cancel": (1, 1), "retry": (2, 1)}

SETTINGS = {
    "CREDITS__ENABLED": "true",
    "CREDITS__SIGNUP_GRANT": str(GRANT),
    "LIMITS__OPEN_TASKS_PER_USER": "0",
    "LIMITS__RUNNING_TASKS_PER_USER": "0",
    "LOG_LEVEL": "warning",
    "WORKER_PROCESSES": "1",
    "TASKS__many__PROVIDER": "studio",
}


def run(tasks: int = TASKS) -> dict[str, str]:
    """{database and action: how it went}.  Raises RuntimeError where a task was met twice, or not, or paid wrongly."""
    return on_each_database(_on, tasks)


def _on(name: str, address: str, tasks: int) -> dict[str, str]:
    more = {"DATABASE_URL": address} if address else {}
    with (
        tempfile.TemporaryDirectory(prefix="dr-kills-") as folder,
        running_system(Path(folder), Path(folder, "log"), lifted=False, **SETTINGS, **more) as system,
    ):
        url = address or f"sqlite:///{system.database}"
        system.ask("/v1/ops/pauses", {"kind": "type", "name": "many", "reason": "a bench"})
        _execute(url, orders_for_tomorrow(tasks))
        admitted = "SELECT count(*) FROM task_queue WHERE admitted_charge = charge"
        eventually("all are admitted", lambda: asked(url, admitted) == [(tasks,)], ALL_DONE_SECONDS)
        found = {}
        for action in BOOKED:
            found[f"{name}, {action}"] = told = _Action(system, url, action, tasks).shown()
            print(f"{name}, {action}: {told}", flush=True)
        return found


def _execute(url: str, statement: str) -> None:
    connection: Any = (
        sqlite3.connect(url.removeprefix("sqlite:///"), timeout=60, isolation_level=None)
        if url.startswith("sqlite:")
        else psycopg.connect(url, autocommit=True)
    )
    with contextlib.closing(connection):
        connection.execute(statement)


class _Action:
    """One action on all tasks, with its kills."""

    def __init__(self, system: RunningSystem, url: str, action: str, tasks: int) -> None:
        self.system, self.url, self.action, self.tasks = system, url, action, tasks
        self.bulk_id = ""
        self.killed: list[str] = []
        self.program: subprocess.Popen[bytes] | None = None

    def shown(self) -> str:
        began = time.monotonic()
        before = {row[0] for row in asked(self.url, "SELECT id FROM bulk_action")}
        status = ("--status", "cancelled") if self.action == "retry" else ()
        self._call("bulk", self.action, "--type", "many", *status, "--yes", "--json")
        new = lambda: {row[0] for row in asked(self.url, "SELECT id FROM bulk_action")} - before  # noqa: E731
        (self.bulk_id,) = eventually("it has begun", new, 60)
        for share, victims in KILLS:
            eventually(
                f"{share:.0%} are done", lambda s=share: self._done() >= s * self.tasks, ALL_DONE_SECONDS
            )
            self._kill(victims)
        eventually("it is done", lambda: self._state() == "done", ALL_DONE_SECONDS)
        self._reap()
        self._check()
        return (
            f"done in {time.monotonic() - began:.0f} s; killed: {', '.join(self.killed)}; "
            f"{self.tasks} tasks, each acted on once, on record, paid as it should be"
        )

    def _call(self, *argv: str) -> None:
        self._reap()
        self.program = subprocess.Popen(
            [DARKROOM, *argv], env=self.system.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _reap(self) -> None:
        if self.program is not None:
            self.program.wait(ALL_DONE_SECONDS)

    def _kill(self, victims: tuple[str, ...]) -> None:
        doomed = {"program": self._program, "web": self._web, "up": self._whole}
        pids = [pid for victim in victims for pid in doomed[victim]()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        self.killed.append(f"{' and '.join(victims)} at {self._done()}")
        if victims == ("up",):
            self.system.kill()
            eventually("nothing of it is left", lambda: not any(map(psutil.pid_exists, pids)), 60)
            self.system.start()
        if "program" in victims:
            self._call("bulk", "resume", self.bulk_id, "--json")
        if "web" in victims:
            eventually("web is there again", lambda: self.system.pids()["web"] not in (0, *pids), 60)

    def _program(self) -> list[int]:
        assert self.program is not None
        assert self.program.poll() is None, "the program has ended before it was killed"
        return [self.program.pid]

    def _web(self) -> list[int]:
        return [self.system.pids()["web"]]

    def _whole(self) -> list[int]:
        return [self.system.pid, *(each.pid for each in self.system.descendants())]

    def _row(self) -> tuple[Any, ...]:
        row = f"SELECT state, done, refused, passed FROM bulk_action WHERE id = '{self.bulk_id}'"
        return tuple(asked(self.url, row)[0])

    def _state(self) -> str:
        return str(self._row()[0])

    def _done(self) -> int:
        return int(self._row()[1])

    def _check(self) -> None:
        debits, refunds = BOOKED[self.action]
        of_it = f"FROM audit WHERE action = '{self.action}' AND bulk_id = '{self.bulk_id}'"
        booked = "(SELECT coalesce(sum(amount), 0) FROM credit_entry WHERE user_openid = account.user_openid)"
        each_has = """(SELECT count(*) FROM credit_entry WHERE task_id = task_queue.id AND kind = '{kind}'
            AND amount = {amount})"""
        promises: list[tuple[str, str, list[tuple[Any, ...]]]] = [
            ("each task was recorded once", f"SELECT count(*), count(DISTINCT target) {of_it}", [(self.tasks,) * 2]),
            ("all tasks are as they should be", "SELECT DISTINCT status FROM task_queue", [(STATUS[self.action],)]),
            ("balances are ledgers", f"SELECT user_openid FROM account WHERE balance <> {booked}", []),
            ("debits", f"SELECT id FROM task_queue WHERE {debits} <> {each_has.format(kind='debit', amount=-1)}", []),
            ("refunds", f"SELECT id FROM task_queue WHERE {refunds} <> {each_has.format(kind='refund', amount=1)}", []),
        ]  # fmt: skip
        if self._row() != ("done", self.tasks, 0, 0):
            raise RuntimeError(f"{self.action}: the row says {self._row()}")
        for claim, sql, right in promises:
            if (found := [tuple(row) for row in asked(self.url, sql)]) != right:
                raise RuntimeError(f"{self.action}: not kept: {claim}: {found[:5]}")


if __name__ == "__main__":
    for what, figures in run().items():
        print(what, figures, sep="\n  ")
