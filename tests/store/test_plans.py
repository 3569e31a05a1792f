"""The frequent queries of dispatcher, metrics and web use indexes, whatever the table contains."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from config.settings import Settings
from tests.conftest import Store
from tests.support.questions import QUESTIONS, Spy


@pytest.mark.postgresql_only
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
        spy = Spy(tx, explains=True)
        for question in QUESTIONS.values():
            question(spy, settings, task)
        return spy.plans

    plans = store.write(ask)
    assert len(plans) > 30
    for table in ("task_queue", "works", "credit_entry", "remote_job", "webhook_delivery"):
        assert [plan for plan in plans if f"Seq Scan on {table}" in plan] == []
    heads = [plan for plan in plans if "is_suspect" in plan]
    assert heads and all("Index Scan using task_queue_pick" in plan for plan in heads), (
        "in order from the index"
    )


# Indexes of the few tasks that are special in some way; SQLite may go through all of one.
FEW = "unadmitted|unripe|again|held|dispatched|overdue"
WALK = re.compile(
    rf"SCAN (task_queue|works|credit_entry|remote_job|webhook_delivery)\b"
    rf"(?! USING [A-Z ]*INDEX (task_queue_({FEW})|webhook_delivery_(due|owed|failed))\b)"
)


def sqlite_plans(store: Store, task: str, names: Iterable[str]) -> list[str]:
    def ask(tx: Any) -> list[str]:
        spy = Spy(tx, explains=True)
        for name in names:
            QUESTIONS[name](spy, store.settings, task)
        return spy.plans

    return store.write(ask)


@pytest.mark.sqlite_only
def test_no_question_makes_sqlite_walk_through_the_whole_queue(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    live_worker(slots=2)
    waiting = [admitted_task(f"o-{n}") for n in range(20)]
    plans = sqlite_plans(store, waiting[0], QUESTIONS)
    assert len(plans) > 30
    assert [plan for plan in plans if WALK.search(plan)] == []


@pytest.mark.sqlite_only
def test_rescue_does_not_walk_through_the_queue_of_a_database_with_statistics(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    """Somebody's ANALYZE made it read all that waits, to find what is held in the order of users."""
    live_worker(slots=2)
    waiting = [admitted_task(f"o-{n}") for n in range(500)]
    store.write(lambda tx: tx.execute("ANALYZE"))
    (plan,) = sqlite_plans(store, waiting[0], ["rescue"])
    assert not WALK.search(plan)
    # The planner may see it otherwise in a larger table: which index serves is not left to it.
    for index in ("expiry", "held", "overdue"):
        assert f"INDEX task_queue_{index} " in plan and f"INDEXED BY task_queue_{index}" in plan
