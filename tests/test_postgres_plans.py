"""What the dispatcher, the metrics and the web ask all the time is answered from indexes, whatever is in the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from config.settings import Settings
from supervisor.store import (
    admission,
    claims,
    dispatching,
    gauges,
    handoffs,
    line,
    places,
    rescuing,
    task_views,
    tasks,
)
from tests.conftest import PARAMS, Store

pytestmark = pytest.mark.postgresql_only

TYPES = ("photography", "fitting")
EXPLAINED = ("SELECT", "UPDATE", "INSERT", "DELETE")


class _Spy:
    """A transaction that keeps the plan of every statement asked through it."""

    def __init__(self, tx: Any) -> None:
        self._tx = tx
        self.plans: list[str] = []

    def __getattr__(self, name: str) -> Any:
        given = getattr(self._tx, name)
        if name not in ("all", "one", "value", "run", "execute"):
            return given

        def call(sql: str, *params: Any) -> Any:
            if sql.lstrip().upper().startswith(EXPLAINED):
                lines = self._tx.all(f"EXPLAIN {sql}", *params)
                self.plans.append(f"{sql}\n" + "\n".join(line["QUERY PLAN"] for line in lines))
            return given(sql, *params)

        return call


QUESTIONS: dict[str, Callable[[Any, Settings, str], Any]] = {
    "admit": lambda tx, settings, task: admission.admit_waiting(tx, settings, 10),
    "ripen": lambda tx, settings, task: dispatching.ripen(tx),
    "next due": lambda tx, settings, task: dispatching.seconds_to_next_due(tx),
    "resend": lambda tx, settings, task: dispatching.overdue_hints(tx),
    "polls": lambda tx, settings, task: dispatching.due_polls(tx, dispatching.room_for_polls(tx)),
    "pick": lambda tx, settings, task: dispatching.pick_and_mark(tx, settings),
    "rescue": lambda tx, settings, task: rescuing.rescue(tx, draw=lambda: 0.5),
    "metrics": lambda tx, settings, task: gauges.read(tx, TYPES),
    "line": lambda tx, settings, task: line.first_in_line(tx, list(TYPES), 20),
    "order": lambda tx, settings, task: places.read_order(tx, TYPES),
    "view": lambda tx, settings, task: task_views.get(tx, task, "o-1"),
    "submit": lambda tx, settings, task: tasks.submit(
        tx, settings, tasks.NewTask("o-1", "photography", PARAMS)
    ),
    "claim": lambda tx, settings, task: claims.claim(tx, task, 1, "worker-1", 600),
    "claim polls": lambda tx, settings, task: handoffs.claim_polls(
        tx, [(task, 1)], "worker-1", {"photography": 9.0}
    ),
    "cancel": lambda tx, settings, task: tasks.cancel(tx, task),
}


@pytest.mark.parametrize("has_statistics", [False, True])
def test_no_question_that_is_asked_all_the_time_reads_the_whole_table(
    has_statistics: bool,
    store: Store,
    pending_task: Callable[..., str],
    admitted_task: Callable[..., str],
    live_worker: Callable[..., str],
) -> None:
    """So small a table is read faster as a whole and sorted: the planner is told not to, where an index serves."""
    settings = Settings(
        database_url=store.settings.database_url,
        limits={"running_tasks_per_user": 3, "open_tasks_per_user": 1000},
        tasks={"photography": {"max_running": 50}, "fitting": {}},
    )
    live_worker(slots=2)
    task = admitted_task("o-1")
    for n in range(20):
        admitted_task(f"o-{n}")
        pending_task(f"o-{n}")
    if has_statistics:
        store.write(lambda tx: tx.execute("ANALYZE"))

    def ask(tx: Any) -> list[str]:
        tx.execute("SET LOCAL enable_seqscan = off")
        tx.execute("SET LOCAL enable_sort = off")
        spy = _Spy(tx)
        for question in QUESTIONS.values():
            question(spy, settings, task)
        return spy.plans

    plans = store.write(ask)
    assert len(plans) > 30
    for table in ("task_queue", "works", "credit_entry", "remote_job"):
        assert [plan for plan in plans if f"Seq Scan on {table}" in plan] == []
    heads = [plan for plan in plans if "is_suspect" in plan]
    assert heads and all("Index Scan using task_queue_pick" in plan for plan in heads), (
        "in order from the index"
    )
