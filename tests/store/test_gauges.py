"""The metrics' figures are right on each kind of database: the queries of a scrape, and the tallies behind counters."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from supervisor.core.claim import Claim
from supervisor.store.counters import counters
from supervisor.store.feed import feed_epochs
from supervisor.store.operators import gauges
from supervisor.store.queue import workers
from supervisor.store.tasks import user_actions
from tests.conftest import Clock, Store


def read(store: Store) -> gauges.Gauges:
    return store.database.read(lambda tx: gauges.read(tx, store.settings))


def counted(store: Store, name: str) -> dict[str, float]:
    """{labels: value} of a counter."""
    added_up = store.database.read(counters.read_all)
    return {labels: sum(of.values()) for (each, labels), of in added_up.items() if each == name}


def test_one_reading_counts_waiting_running_and_stuck_tasks(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim], admitted_task: Callable[..., str]
) -> None:
    claimed_task("o-1")
    admitted_task("o-2")
    clock.advance(40)
    store.write(lambda tx: workers.mark_dead(tx, "worker-1"))
    now = read(store)
    assert now.open_tasks == {("photography", "processing"): 1, ("photography", "pending"): 1}
    assert now.oldest_seconds["photography"] == pytest.approx(40, abs=30)
    assert now.stuck == {"dead_worker": 1}
    assert now.dead_workers == 1
    assert (now.not_due, now.last_sweep, now.breakers) == ({}, None, {})


def test_a_breaker_is_half_open_once_its_time_is_up(store: Store, clock: Clock) -> None:
    store.write(
        lambda tx: tx.execute(
            f"INSERT INTO provider_state (name, breaker, until) VALUES ('studio', 'open', {tx.in_seconds('60')})"
        )
    )
    assert read(store).breakers == {"studio": "open"}
    clock.advance(61)
    assert read(store).breakers == {"studio": "half_open"}


def test_a_breaker_that_no_task_tries_fires_no_alert(store: Store, clock: Clock) -> None:
    store.write(
        lambda tx: tx.execute(
            f"""INSERT INTO provider_state (name, breaker, opened_at, until)
                VALUES ('studio', 'open', {tx.now}, {tx.in_seconds("60")})"""
        )
    )
    clock.advance(100)
    assert read(store).breaker_open_seconds == {"studio": pytest.approx(100, abs=30)}
    clock.advance(60)
    assert read(store).breaker_open_seconds == {}, "no task waits for it, and nobody knows whether it is down"


def test_credits_are_counted_by_kind(store: Store, cancelled_task: Callable[..., str]) -> None:
    cancelled_task("o-1", count=3)
    assert counted(store, "darkroom_credits_total") == {
        '{"kind":"grant"}': 100, '{"kind":"debit"}': 3, '{"kind":"refund"}': 3,
    }  # fmt: skip


def test_a_cancelled_run_counts_how_long_it_ran(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim]
) -> None:
    task_id = claimed_task("o-1").task_id
    clock.advance(40)
    store.write(lambda tx: user_actions.cancel(tx, task_id))
    ran = store.database.read(counters.read_all)[
        "darkroom_task_run_seconds", '{"outcome":"cancelled","type":"photography"}'
    ]
    assert ran["sum"] == pytest.approx(40, abs=30)
    assert sum(value for bucket, value in ran.items() if bucket != "sum") == 1


def test_a_pick_records_how_long_each_task_has_been_due(
    store: Store, clock: Clock, live_worker: Callable[..., str], admitted_task: Callable[..., str]
) -> None:
    live_worker()
    admitted_task("o-1")
    clock.advance(100)
    (claim,) = store.dispatch()
    assert claim.wait_seconds == pytest.approx(100, abs=30)


def test_a_restored_database_gives_each_user_a_new_epoch(
    store: Store, admitted_task: Callable[..., str]
) -> None:
    for user in ("o-1", "o-2"):
        admitted_task(user)
    before = store.all("SELECT user_openid, epoch, seq FROM account ORDER BY user_openid")
    assert store.write(feed_epochs.renew_epochs) == 2
    after = store.all("SELECT user_openid, epoch, seq FROM account ORDER BY user_openid")
    assert len({row["epoch"] for row in [*before, *after]}) == 4
    assert [row["seq"] for row in before] == [row["seq"] for row in after]
