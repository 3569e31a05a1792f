"""The frequent queries of dispatcher, metrics and web use indexes, whatever the table contains."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from config.settings import Settings
from supervisor.database.interface.database import Transaction
from supervisor.schema.tables import RUNNING
from supervisor.store.ledger import credits
from supervisor.store.queue import dispatch
from supervisor.store.tasks import claims
from supervisor.store.tasks.new_task import NewTask
from supervisor.store.tasks.submit import Submitted, submit_many
from tests.conftest import Store
from tests.support.questions import PARAMS, QUESTIONS, Spy


def plans_of_all(store: Store, settings: Settings, task_id: str) -> list[str]:
    """The plans of all questions, where an index is taken before a walk and a sort."""

    def ask(tx: Any) -> list[str]:
        tx.execute("SET LOCAL enable_seqscan = off")
        tx.execute("SET LOCAL enable_sort = off")
        spy = Spy(tx, explains=True)
        for question in QUESTIONS.values():
            question(spy, settings, task_id)
        return spy.plans

    return store.write(ask)


@pytest.mark.postgresql_only
@pytest.mark.parametrize("has_statistics", [False, True])
def test_no_question_that_is_asked_all_the_time_reads_the_whole_table(
    has_statistics: bool,
    store: Store,
    pending_task: Callable[..., str],
    admitted_task: Callable[..., str],
    live_worker: Callable[..., str],
) -> None:
    """So small a table is read faster as a whole and sorted: the planner is set not to, where an index serves."""
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

    plans = plans_of_all(store, settings, task)
    assert len(plans) > 30
    for table in ("task_queue", "works", "credit_entry", "remote_job", "webhook_delivery"):
        assert [plan for plan in plans if f"Seq Scan on {table}" in plan] == []
    heads = [plan for plan in plans if "is_suspect" in plan]
    assert heads and all("Index Scan using task_queue_pick" in plan for plan in heads), (
        "in order from the index"
    )


@pytest.mark.postgresql_only
def test_a_users_running_tasks_are_counted_without_reading_those_that_wait(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    settings = Settings(
        database_url=store.settings.database_url,
        limits={"running_tasks_per_user": 3, "open_tasks_per_user": 1000},
    )
    live_worker(slots=2)
    tasks = [admitted_task(f"o-{n % 15}") for n in range(300)]
    store.write(lambda tx: tx.execute("ANALYZE"))
    counts = [plan for plan in plans_of_all(store, settings, tasks[0]) if RUNNING in plan]
    assert counts and all("using task_queue_running" in plan for plan in counts), counts


@pytest.mark.postgresql_only
def test_a_task_costs_no_more_reading_in_tables_that_have_grown_since_its_statements_were_planned(
    store: Store, live_worker: Callable[..., str]
) -> None:
    """Plans that were made while the tables were nearly empty read all of them, and went on to do so."""
    limits = {"open_tasks_per_user": 0, "running_tasks_per_user": 0}
    settings = Settings(database_url=store.settings.database_url, limits=limits)
    live_worker(slots=100)

    def read() -> dict[str, int]:
        """How many rows were found so far, by each index, and in each table without one."""
        rows = store.all(
            """SELECT indexrelname AS way, idx_tup_read AS rows FROM pg_stat_user_indexes
                UNION ALL SELECT relname, seq_tup_read FROM pg_stat_user_tables"""
        )
        return {row["way"]: row["rows"] for row in rows}

    def step(work: Callable[[Transaction], Any]) -> Any:
        def counted(tx: Transaction) -> Any:
            done = work(tx)
            tx.execute("SELECT pg_stat_force_next_flush()")
            return done

        return store.write(counted)

    def complete(orders: int) -> dict[str, int]:
        """How many were found in order to store so many orders together, to claim and to complete them."""
        before = read()
        new = [NewTask("o-1", "photography", PARAMS)] * orders
        outcomes = step(lambda tx: submit_many(tx, settings, new, pending=0))
        assert all(isinstance(each, Submitted) for each in outcomes)
        claimed = step(lambda tx: dispatch.pick_and_claim(tx, settings)).claims
        made = [claims.Made(row["id"], row["lease"], []) for row in claimed]
        assert step(lambda tx: claims.complete_all(tx, made).get()) == [None] * orders
        return {way: count - before[way] for way, count in read().items() if count > before[way]}

    store.write(lambda tx: credits.grant(tx, "o-1", 10_000, "for many orders"))
    for _ in range(15):
        complete(5)  # by then everything is prepared and planned
    few = complete(5)
    for _ in range(12):
        complete(50)
    for _ in range(60):
        complete(
            1
        )  # by then a busy connection has planned anew, and index entries of what is over are forgotten
    many = complete(5)
    assert {way: found for way, found in many.items() if found > few.get(way, 0) + 40} == {}


# Indexes of the few tasks that are special in some way; SQLite may go through all of one.
FEW = "unadmitted|unripe|again|held|between_steps|dispatched|overdue"
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
    """An ANALYZE made it read all waiting rows to find the held ones in the order of users."""
    live_worker(slots=2)
    waiting = [admitted_task(f"o-{n}") for n in range(500)]
    store.write(lambda tx: tx.execute("ANALYZE"))
    (plan,) = sqlite_plans(store, waiting[0], ["rescue"])
    assert not WALK.search(plan)
    # The planner may see it otherwise in a larger table: which index serves is not left to it.
    for index in ("expiry", "held", "overdue"):
        assert f"INDEX task_queue_{index} " in plan and f"INDEXED BY task_queue_{index}" in plan
