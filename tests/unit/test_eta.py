"""The estimated time of a task's end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.task_type import TaskType
from supervisor.core.claim import Claim
from supervisor.core.eta import eta_seconds
from supervisor.store.queue import liveness, queue_snapshot, workers
from supervisor.store.tasks import claims, user_actions
from tests.conftest import Clock, Store
from tests.support.models.stepped import advance_now, portrait
from tests.support.well import Well
from tests.support.workers import complete

RUNS = st.lists(st.floats(0.1, 600), min_size=1, max_size=20)


def test_nothing_is_guessed_from_nothing() -> None:
    assert eta_seconds(ahead=0, slots=4, recent_run_seconds=[]) is None
    assert eta_seconds(ahead=0, slots=0, recent_run_seconds=[10]) is None


def test_a_waiting_task_waits_for_the_rounds_before_it() -> None:
    assert eta_seconds(ahead=3, slots=4, recent_run_seconds=[10]) == 20
    assert eta_seconds(ahead=7, slots=4, recent_run_seconds=[10]) == 30


def test_a_task_that_finds_a_free_slot_does_not_wait() -> None:
    assert eta_seconds(ahead=0, slots=4, free_slots=1, recent_run_seconds=[10]) == 10
    assert eta_seconds(ahead=0, slots=4, free_slots=0, recent_run_seconds=[10]) == 12, "a quarter of a run"
    assert eta_seconds(ahead=5, slots=4, free_slots=2, recent_run_seconds=[10]) == 20


def test_a_running_task_has_the_rest_of_a_run_and_none_is_guessed_beyond_the_longest() -> None:
    assert eta_seconds(ahead=0, slots=1, recent_run_seconds=[10], running_for_seconds=4) == 6
    assert eta_seconds(ahead=0, slots=1, recent_run_seconds=[10], running_for_seconds=400) is None
    runs = [10, 20, 30, 40]
    assert eta_seconds(ahead=0, slots=1, recent_run_seconds=runs, running_for_seconds=25) == 10, (
        "35 is the median of those that took longer"
    )


def test_one_task_that_hung_spoils_no_estimate() -> None:
    assert eta_seconds(ahead=0, slots=1, free_slots=1, recent_run_seconds=[10, 9, 11, 600]) in (10, 11)


def test_a_task_that_may_not_run_yet_has_its_own_wait_where_that_is_longer() -> None:
    assert eta_seconds(ahead=0, slots=4, free_slots=4, recent_run_seconds=[10], due_in_seconds=30) == 40
    assert eta_seconds(ahead=7, slots=4, recent_run_seconds=[10], due_in_seconds=5) == 30


@given(RUNS, st.integers(0, 1000), st.integers(1, 64))
def test_more_ahead_is_never_sooner_and_more_slots_never_later(
    runs: list[float], ahead: int, slots: int
) -> None:
    def guess(ahead: int, slots: int) -> int:
        seconds = eta_seconds(ahead=ahead, slots=slots, recent_run_seconds=runs)
        assert seconds is not None
        return seconds

    assert guess(ahead, slots) <= guess(ahead + 1, slots)
    assert guess(ahead, slots + 1) <= guess(ahead, slots)


@pytest.fixture
def steps_settings(store: Store) -> None:
    declared = TaskType.model_validate(portrait())
    tasks = {**store.settings.tasks, "portrait": declared}
    store.settings = store.settings.model_copy(update={"tasks": tasks})


def test_guesses_are_made_from_completed_runs_of_the_type_and_live_slots(
    store: Store,
    completed_task: Callable[..., str],
    failed_task: Callable[..., str],
    live_worker: Callable[..., str],
    claimed_task: Callable[..., object],
) -> None:
    completed_task()
    failed_task()
    completed_task(type_="fitting")
    live_worker("worker-2", slots=5)
    order = store.database.read(lambda tx: queue_snapshot.read_order(tx, store.settings))
    assert order.pending == 0
    runs = {type_: len(store.database.read(lambda tx, t=type_: queue_snapshot.recent_run_seconds(tx, t)))
            for type_ in ("photography", "fitting", "other")}  # fmt: skip
    assert runs == {"photography": 1, "fitting": 1, "other": 0}
    assert store.database.read(lambda tx: liveness.read(tx, 15)).slots == 1005
    claimed_task("o-2")
    assert [each.busy for each in store.database.read(liveness.worker_signs)] == [1, 0]


def test_what_finished_steps_took_is_no_longer_to_come() -> None:
    assert eta_seconds(ahead=0, slots=1, free_slots=1, recent_run_seconds=[60], spent_seconds=45) == 15
    assert (
        eta_seconds(ahead=0, slots=1, recent_run_seconds=[60], spent_seconds=45, running_for_seconds=5) == 10
    )
    assert eta_seconds(ahead=0, slots=1, free_slots=1, recent_run_seconds=[60], spent_seconds=70) is None


def test_all_steps_of_a_task_count_for_its_estimate_and_not_the_last_alone(
    store: Store,
    clock: Clock,
    steps_settings: None,
    claimed_task: Callable[..., Claim],
    live_worker: Callable[..., str],
) -> None:
    well = Well(store, clock)

    def runs(seconds: float) -> None:
        clock.advance(seconds)
        store.write(lambda tx: workers.beat(tx, live_worker(), 0))
        well.tick(seconds)

    def step(claim: Claim, seconds: float) -> None:
        runs(seconds)
        if claim.step == claim.last_step:
            store.write(lambda tx: complete(tx, claim.task_id, claim.lease, []))
        else:
            store.write(lambda tx: advance_now(tx, claim.task_id, claim.lease))

    def placed(task_id: str) -> int | None:
        view = store.database.read(lambda tx: user_actions.get(tx, task_id))
        order = store.database.read(lambda tx: queue_snapshot.read_order(tx, store.settings))
        assert view is not None
        eta: int | None = order.placed(view)["eta_seconds"]
        return eta

    claim = claimed_task("o-1", type_="portrait")
    for seconds in (10, 60, 5):
        step(claim, seconds)
        claim = next(iter(store.dispatch()), claim)
    first = claimed_task("o-2", type_="portrait")
    assert 70 < (placed(first.task_id) or 0) < 100
    step(first, 10)
    assert 60 < (placed(first.task_id) or 0) < 90
    (second,) = store.dispatch()
    runs(20)
    assert 35 < (placed(second.task_id) or 0) < 65


def test_a_second_attempt_is_not_expected_before_its_time(
    store: Store,
    clock: Clock,
    completed_task: Callable[..., str],
    claimed_task: Callable[..., Claim],
) -> None:
    Well(store, clock)
    completed_task()
    claim = claimed_task("o-2")
    store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 200))
    view = store.database.read(lambda tx: user_actions.get(tx, claim.task_id, "o-2"))
    order = store.database.read(lambda tx: queue_snapshot.read_order(tx, store.settings))
    assert view is not None and view["attempt"] == 2
    assert 150 < order.placed(view)["eta_seconds"] <= 260
