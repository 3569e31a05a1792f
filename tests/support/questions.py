"""The frequent queries of dispatcher, web and metrics, each as one function of a few statements."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from config.settings import Settings
from supervisor.database.interface.database import PendingResult, Transaction
from supervisor.store.counters import open_task_counts
from supervisor.store.operators import gauges, overview
from supervisor.store.queue import dispatch, liveness, queue_snapshot
from supervisor.store.queue import next_task as line
from supervisor.store.recovery import stuck_tasks
from supervisor.store.tasks import admission, claims, remote_wait, task_views, user_actions
from supervisor.store.webhooks import webhook_health

TYPES = ("photography", "fitting")
PARAMS = {"images": ["https://example.org/person.jpg"]}
USER = "o-1"

Question = Callable[[Any, Settings, str], Any]

# (transaction, settings, a waiting task of USER).  They write: roll it back.
QUESTIONS: dict[str, Question] = {
    "admit": lambda tx, settings, task: admission.admit_waiting(tx, settings, 10).get().rows,
    "ripen": lambda tx, settings, task: dispatch.ripen(tx),
    "next due": lambda tx, settings, task: dispatch.seconds_to_next_due(tx).get(),
    "polls": lambda tx, settings, task: remote_wait.claim_due_polls(
        tx, remote_wait.room_for_polls(tx), lambda *_: 9.0
    ),
    "pick": lambda tx, settings, task: dispatch.pick_and_claim(tx, settings),
    "rescue": lambda tx, settings, task: stuck_tasks.rescue(tx, chance=lambda: 0.5),
    "metrics": lambda tx, settings, task: gauges.read(tx, settings),
    "open tasks": lambda tx, settings, task: open_task_counts.open_tasks(tx),
    "pending limit": lambda tx, settings, task: open_task_counts.pending(tx),
    "line": lambda tx, settings, task: line.first_in_line(tx, list(TYPES), 20),
    "order": lambda tx, settings, task: queue_snapshot.read_order(tx, settings),
    "operators' page": lambda tx, settings, task: overview.queue(
        tx, settings, liveness.read(tx, settings.silent_seconds)
    ),
    "webhooks": lambda tx, settings, task: webhook_health.read(tx),
    "view": lambda tx, settings, task: task_views.get(tx, task, USER),
    "submit": lambda tx, settings, task: user_actions.submit(
        tx, settings, user_actions.NewTask(USER, "photography", PARAMS)
    ),
    "claim": lambda tx, settings, task: claims.claim_for(tx, [claims.Wanted(task, "worker-1", 600)]).get(),
    "cancel": lambda tx, settings, task: user_actions.cancel(tx, task),
}

_EXPLAIN = {"sqlite": ("EXPLAIN QUERY PLAN", "detail"), "postgresql": ("EXPLAIN", "QUERY PLAN")}
_EXPLAINED = ("SELECT", "UPDATE", "INSERT", "DELETE", "WITH")


class Spy:
    """A transaction that keeps each statement asked through it, with how long it took and, if wanted, its plan.

    It stands for a Transaction wherever one is asked for.
    """

    def __init__(self, tx: Transaction, *, explains: bool = False) -> None:
        self._tx, self._explains = tx, explains
        self.plans: list[str] = []
        self.milliseconds: list[float] = []

    def __getattr__(self, name: str) -> Any:
        given = {"ask": self._ask_now, "send": self._tx.execute}.get(name) or getattr(self._tx, name)
        if name not in ("all", "one", "value", "run", "execute", "send", "ask", "change"):
            return given

        def call(sql: Any, **named: Any) -> Any:
            text = self._tx.text_of(sql)
            if self._explains and text.lstrip().upper().startswith(_EXPLAINED):
                explain, column = _EXPLAIN[self._tx.dialect.name]
                lines = self._tx.all(f"{explain} {text}", **named)
                self.plans.append(f"{text}\n" + "\n".join(line[column] for line in lines))
            began = time.perf_counter()
            answer = given(sql, **named)
            self.milliseconds.append((time.perf_counter() - began) * 1000)
            return answer

        return call

    def _ask_now(self, sql: Any, **named: Any) -> PendingResult:
        cursor = self._tx.execute(sql, **named)
        return PendingResult(lambda: cursor)
