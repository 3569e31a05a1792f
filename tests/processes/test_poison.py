"""Poison: a task that kills its workers again and again, and the innocent tasks that ran beside it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.rescue import Budget, GiveUp, RunAgain, after_death, suspects_at_once
from supervisor.store.queue import workers
from supervisor.store.recovery import stuck_tasks
from supervisor.store.tasks import claims
from tests.conftest import Store
from tests.support.workers import complete

MAX_ATTEMPTS = 3  # the default


def test_the_first_death_costs_no_time_and_later_ones_more_and_more() -> None:
    def wait(deaths_before: int) -> float:
        verdict = after_death(Budget(0, deaths_before, MAX_ATTEMPTS), remote=False, chance=0.999)
        assert isinstance(verdict, RunAgain) and verdict.counts == "deaths"
        return verdict.in_seconds

    assert wait(0) == 0
    assert [round(wait(before)) for before in (1, 2, 3, 4)] == [2, 4, 8, 16]
    assert isinstance(after_death(Budget(0, 5, MAX_ATTEMPTS), remote=False, chance=0.5), GiveUp)


@pytest.fixture
def die_together(store: Store, live_worker: Callable[..., str], clock) -> Callable[[], list[str]]:
    """Claim the due tasks for one worker and kill it; the tasks that died."""
    spawns = iter(range(1000))

    def die() -> list[str]:
        clock.advance(seconds=600)  # above every wait
        worker = live_worker(f"worker-{next(spawns)}")
        store.write(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.5, deadlines=False))
        store.write(_ripened)
        died = [claim.task_id for claim in store.dispatch(worker)]
        store.write(lambda tx: workers.mark_dead(tx, worker))
        store.write(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.5, deadlines=False))
        return sorted(died)

    return die


def _ripened(tx) -> None:
    from supervisor.store.queue import dispatch

    dispatch.ripen(tx)


def test_the_fewer_lives_suspects_have_left_the_fewer_of_them_run_at_once(
    store: Store, admitted_task: Callable[..., str], die_together: Callable[[], list[str]]
) -> None:
    suspects = sorted(admitted_task(f"o-{n}") for n in range(5))
    for deaths in range(1, MAX_ATTEMPTS + 1):
        assert die_together() == suspects, "no task is suspected yet"
        assert {store.task(task)["deaths"] for task in suspects} == {deaths}
    newcomer = admitted_task("o-new")
    died = die_together()
    assert newcomer in died and len(died) == 1 + 4, "three lives left: four at once, and others beside them"
    assert sorted(store.task(task)["deaths"] for task in suspects) == [3, 4, 4, 4, 4]
    while any(store.task(task)["deaths"] < 2 * MAX_ATTEMPTS - 1 for task in suspects):
        died = [task for task in die_together() if task in suspects]
        most = suspects_at_once(min(2 * MAX_ATTEMPTS + 1 - store.task(task)["deaths"] for task in died))
        assert 1 <= len(died) <= most
    assert len(set(die_together()) & set(suspects)) == 1, "with its last life each runs as the only suspect"


@pytest.fixture
def placed(store: Store) -> Callable[[], dict[str, str]]:
    """What a pick for the workers a and b claims: the worker of each task."""
    return lambda: {
        claim.task_id: store.task(claim.task_id)["worker_id"] for claim in store.dispatch("a", "b")
    }


@pytest.fixture
def last_life(admitted_task: Callable[..., str], die_together: Callable[[], list[str]], clock) -> str:
    """A task, due now, that one more death ends."""
    task = admitted_task("o-last")
    for _ in range(2 * MAX_ATTEMPTS - 1):
        assert die_together() == [task]
    clock.advance(seconds=600)
    return task


def test_no_other_task_is_placed_beside_one_with_its_last_life(
    store: Store,
    admitted_task: Callable[..., str],
    live_worker: Callable[..., str],
    last_life: str,
    placed: Callable[[], dict[str, str]],
) -> None:
    """Any other task may be poison that is not suspected yet."""
    store.write(_ripened)
    others = [admitted_task(f"o-{n}") for n in range(3)]
    for worker in ("a", "b"):
        live_worker(worker, slots=8)
    first = placed()
    assert first.keys() == {last_life, *others}
    assert {first[task] for task in others} == {"a", "b"} - {first[last_life]}
    late = [admitted_task(f"o-late-{n}") for n in range(10)]
    joined = placed()
    assert len(joined) == 5 and set(joined.values()) == {first[others[0]]}, "nothing joins it while it runs"
    row = store.task(last_life)
    store.write(lambda tx: complete(tx, last_life, row["lease"], []))
    left = set(late) - joined.keys()
    assert placed() == dict.fromkeys(left, first[last_life]), "its worker takes others again"


def test_a_worker_that_is_never_empty_is_kept_for_a_task_with_its_last_life(
    store: Store,
    admitted_task: Callable[..., str],
    live_worker: Callable[..., str],
    last_life: str,
    placed: Callable[[], dict[str, str]],
) -> None:
    live_worker("a", slots=4)
    live_worker("b", slots=4)
    for n in range(5):
        admitted_task(f"o-{n}")
    running = placed()
    assert sorted(running.values()) == ["a", "a", "a", "b", "b"]
    store.write(_ripened)
    for n in range(5):
        admitted_task(f"o-late-{n}")
    assert list(placed().values()) == ["a"], "b is the emptier one, and gets nothing more"
    for task in [task for task, worker in running.items() if worker == "b"]:
        assert placed() == {}
        lease = store.task(task)["lease"]
        store.write(lambda tx, task=task, lease=lease: complete(tx, task, lease, []))
    assert placed() == {last_life: "b"}


def test_a_suspect_that_waits_for_a_worker_of_its_own_holds_back_no_other_suspect(
    store: Store,
    admitted_task: Callable[..., str],
    live_worker: Callable[..., str],
    die_together: Callable[[], list[str]],
    placed: Callable[[], dict[str, str]],
    clock,
) -> None:
    last, other = admitted_task("o-last"), admitted_task("o-other")
    for _ in range(MAX_ATTEMPTS):
        assert die_together() == sorted([last, other])
    clock.advance(seconds=600)
    store.write(_ripened)
    live_worker("early")
    (claim,) = [each for each in store.dispatch("early") if each.task_id == other]
    store.write(lambda tx: claims.postpone(tx, other, claim.lease, 5000))
    store.write(lambda tx: workers.mark_dead(tx, "early"))
    while store.task(last)["deaths"] < 2 * MAX_ATTEMPTS - 1:
        die_together()
    live_worker("a", slots=4)
    live_worker("b", slots=4)
    for n in range(2):
        admitted_task(f"o-{n}")
    assert set(placed().values()) == {"a", "b"}, "no worker is empty"
    clock.advance(seconds=5000)
    store.write(_ripened)
    assert placed().keys() == {other}
    assert store.task(last)["status"] == "pending"


@given(st.integers(1, 40))
def test_suspects_run_in_groups_that_halve_with_each_death_down_to_one(lives: int) -> None:
    assert suspects_at_once(1) == 1
    assert suspects_at_once(lives) <= suspects_at_once(lives + 1) <= 2 * suspects_at_once(lives)


def test_poison_ends_as_worker_died_after_twice_its_attempts_and_is_refunded(
    store: Store, admitted_task: Callable[..., str], die_together: Callable[[], list[str]]
) -> None:
    poison = admitted_task()
    for _ in range(2 * MAX_ATTEMPTS):
        assert die_together() == [poison]
    row = store.task(poison)
    assert (row["status"], row["deaths"], row["failures"]) == ("failed", 2 * MAX_ATTEMPTS, 0)
    assert "worker_died" in row["error"]
    assert [kind for _, kind, _ in store.entries(poison)] == ["debit", "refund"]
