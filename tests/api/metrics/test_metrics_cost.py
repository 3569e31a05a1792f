"""A scrape is cheap, is made once for all askers, and survives a database that fails or hangs."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from metrics.database_collector import DatabaseCollector, read_values
from metrics.families import cumulative
from metrics.single_flight import SingleFlight
from supervisor.database.interface.database import Text, Transaction
from supervisor.store.counters.counters import BUCKETS
from tests.conftest import DEADLINE_SECONDS, wait_until
from tests.support.houses.metrics_shop import Shop, Told, open_shop

# Partial indexes that hold open rows only.
INDEXES_OF_OPEN_ROWS = {
    "task_queue_active", "task_queue_again", "task_queue_between_steps", "task_queue_deadly", "task_queue_dispatched",
    "task_queue_expiry", "task_queue_fresh",
    "task_queue_held", "task_queue_next_poll",
    "task_queue_open", "task_queue_overdue", "task_queue_pick", "task_queue_running", "task_queue_unadmitted",
    "task_queue_unripe",
}  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path) as shop:
        yield shop


class PlanReader(Transaction):
    """Notes how SQLite would go about every statement, as it runs it."""

    def __init__(self, tx: Transaction) -> None:
        super().__init__(tx._execute, tx.dialect)
        self.plans: list[tuple[str, str]] = []

    def execute(self, sql: Text, /, *values: Any, **named: Any) -> Any:
        text = self.text_of(sql)
        for row in super().execute("EXPLAIN QUERY PLAN " + text, *values, **named).fetchall():
            self.plans.append((row[3], " ".join(text.split())))
        return super().execute(sql, *values, **named)


def plans_of(shop: Shop) -> list[tuple[str, str]]:
    def read(tx: Transaction) -> list[tuple[str, str]]:
        reader = PlanReader(tx)
        read_values(reader, shop.settings)
        return reader.plans

    return shop.database.read(read)


# The work of a task in hand is looked up by its id; `overview.running` bounds how many.
BY_KEY = re.compile(r"SEARCH works USING INDEX sqlite_autoindex_works_1 \(id=\?\)")


def refuse_costly_plans(shop: Shop) -> None:
    plans = plans_of(shop)
    assert any("task_queue" in plan for plan, _ in plans)
    for plan, sql in plans:
        assert "credit_entry" not in plan, f"{plan}: {sql}"
        assert "works" not in plan or BY_KEY.fullmatch(plan), f"{plan}: {sql}"
        if "task_queue" in plan:
            used = re.search(r"INDEX (\w+)", plan)
            assert used is not None and used[1] in INDEXES_OF_OPEN_ROWS, f"{plan}: {sql}"


def test_no_query_reads_finished_rows(shop: Shop) -> None:
    refuse_costly_plans(shop)


def test_no_query_reads_finished_rows_of_a_database_with_statistics(shop: Shop) -> None:
    """ANALYZE may change the planner's mind."""
    shop.worker(slots=20)
    for _ in range(10):
        shop.completed_task()
    shop.claimed_task()
    shop.handed_off_task()
    shop.pending_task()
    shop.sql("ANALYZE")
    refuse_costly_plans(shop)


def test_the_indexes_named_here_leave_finished_rows_out(shop: Shop) -> None:
    rows = shop.write(
        lambda tx: tx.all(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'task_queue'"
        )
    )
    partial = {row["name"]: row["sql"].partition("WHERE")[2] for row in rows if row["sql"]}
    for name in INDEXES_OF_OPEN_ROWS:
        assert "status" in partial[name]
        assert not re.search("completed|failed|cancelled", partial[name])


def test_the_number_of_queries_does_not_grow_with_the_tasks(shop: Shop) -> None:
    shop.worker(slots=20)

    def statements() -> int:
        return len({sql for _, sql in plans_of(shop)})

    before = statements()
    for _ in range(10):
        shop.claimed_task()
    shop.pending_task()
    assert statements() == before


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class TestOneAtATime:
    def test_a_reading_is_fresh_for_a_while(self) -> None:
        clock, readings = Clock(), iter(range(10))
        latest = SingleFlight(lambda: next(readings), fresh_seconds=1.0, clock=clock)
        assert [latest.latest(DEADLINE_SECONDS), latest.latest(DEADLINE_SECONDS)] == [0, 0]
        clock.now += 0.99
        assert latest.latest(DEADLINE_SECONDS) == 0
        clock.now += 0.02
        assert latest.latest(DEADLINE_SECONDS) == 1

    def test_many_scrapes_at_once_share_one_reading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        go, count, waiting = threading.Event(), 0, []

        def read() -> int:
            nonlocal count
            count += 1
            assert go.wait(DEADLINE_SECONDS)
            return count

        latest = SingleFlight(read, fresh_seconds=0.0)
        current = latest._current

        def noted() -> Future[int]:
            waiting.append(current())
            return waiting[-1]

        monkeypatch.setattr(latest, "_current", noted)
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(latest.latest, DEADLINE_SECONDS) for _ in range(8)]
            wait_until(lambda: len(waiting) == 8, "all of them ask")
            go.set()
            assert {future.result() for future in asked} == {1}

    def test_a_scrape_that_waits_too_long_ends_and_the_reading_continues(self) -> None:
        go, count = threading.Event(), 0

        def read() -> int:
            nonlocal count
            count += 1
            assert go.wait(DEADLINE_SECONDS)
            return count

        latest = SingleFlight(read, fresh_seconds=60.0)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                latest.latest(0.01)
        go.set()
        assert latest.latest(DEADLINE_SECONDS) == 1
        assert count == 1

    def test_an_error_is_reported_and_the_next_scrape_works(self) -> None:
        clock = Clock()
        results: Iterator[Callable[[], int]] = iter([lambda: 1 // 0, lambda: 7])
        latest = SingleFlight(lambda: next(results)(), fresh_seconds=1.0, clock=clock)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                latest.latest(DEADLINE_SECONDS)
        clock.now += 1
        assert latest.latest(DEADLINE_SECONDS) == 7

    def test_its_thread_ends_with_it(self) -> None:
        latest = SingleFlight(lambda: 1, fresh_seconds=1.0)
        assert latest.latest(DEADLINE_SECONDS) == 1
        thread = latest._thread
        assert thread is not None and thread.daemon
        del latest
        thread.join(DEADLINE_SECONDS)
        assert not thread.is_alive()


def test_a_scrape_reads_off_the_callers_thread(shop: Shop) -> None:
    threads: list[threading.Thread] = []
    read = shop.database.read

    def noting(query: Callable[[Transaction], Any]) -> Any:
        threads.append(threading.current_thread())
        return read(query)

    shop.database.read = noting  # type: ignore[method-assign]
    shop.scrape()
    assert threads and threading.current_thread() not in threads


def test_a_database_that_fails_leaves_names_and_the_process_own_metrics(shop: Shop) -> None:
    def fail(query: Callable[[Transaction], Any]) -> Any:
        raise OSError("the disk is gone")

    shop.database.read = fail  # type: ignore[method-assign]
    told = shop.scrape()
    assert told.types["darkroom_tasks"] == "gauge"
    assert told.label_sets("darkroom_tasks") == set()  # a gap, no zeros
    assert told.label_sets("darkroom_tasks_finished_total") == set()
    assert told("darkroom_listener_up") == 0
    assert told("darkroom_feed_clients") == 0


def test_a_database_that_is_missing_its_tables_does_not_fail_the_scrape(shop: Shop) -> None:
    shop.sql("DROP TABLE metric")
    assert shop.scrape().label_sets("darkroom_tasks") == set()


def test_a_database_that_hangs_does_not_hold_the_scrape_up(shop: Shop) -> None:
    go, calls = threading.Event(), 0
    read = shop.database.read

    def hang(query: Callable[[Transaction], Any]) -> Any:
        nonlocal calls
        calls += 1
        assert go.wait(DEADLINE_SECONDS)
        return read(query)

    shop.database.read = hang  # type: ignore[method-assign]
    registry = CollectorRegistry()
    registry.register(DatabaseCollector(shop.database, shop.settings, patience_seconds=0.05))
    for _ in range(3):
        assert Told(generate_latest(registry)).label_sets("darkroom_tasks") == set()
    assert calls == 1
    go.set()
    wait_until(lambda: Told(generate_latest(registry)).label_sets("darkroom_tasks"), "the metrics come back")


class TestCumulative:
    def test_bounds_are_those_of_the_tallies(self) -> None:
        bounds = [bound for bound, _ in cumulative({})]
        assert bounds[0] == "0.001" and bounds[-2:] == ["600.0", "+Inf"]
        assert len(bounds) == len(BUCKETS) + 1

    def test_a_bound_of_an_older_release_counts_into_the_next(self) -> None:
        shown = dict(cumulative({"0.3": 2, "+Inf": 1, "900": 1, "sum": 5.0}))
        assert (shown["0.25"], shown["0.5"], shown["600.0"], shown["+Inf"]) == (0, 2, 2, 4)
