"""What a user sees of the steps of a task, on both databases, and how run times become weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.providers.base import ContentRejected
from config.settings import Settings
from supervisor.core.claim import Claim
from supervisor.steps.step_orders import progress_of
from supervisor.store.counters import counters, step_times
from supervisor.store.ledger import provider_costs
from supervisor.store.ledger.provider_costs import ProviderCost
from supervisor.store.operators import gauges, overview, task_details
from supervisor.store.sql.rows import decoded
from supervisor.store.tasks import history, shown_steps
from tests.conftest import Clock, Store
from tests.support.databases import fresh_settings, is_postgres
from tests.support.models.step_house import Asked, Fate, StepHouse
from tests.support.models.stepped import advance_now
from tests.support.servers.postgres_databases import give_back

STEPS: list[dict[str, Any]] = [
    {"name": "cut_out", "provider": "local", "keep": True},
    {"name": "paint", "provider": "remote", "weight": 3},
    {"name": "enlarge", "provider": "other", "for_each": "${steps.paint.images}"},
]

NEEDY: list[dict[str, Any]] = [
    {"name": "cut_out", "provider": "local"},
    {"name": "paint", "provider": "remote", "needs": {"gpu": 1}, "ai_timeout_seconds": 7},
]


@pytest.fixture
def settings(tmp_path: Path, database_kind: str) -> Iterator[Settings]:
    providers = {name: {"kind": "http", "may_bill_twice": False} for name in ("local", "remote", "other")}
    chosen = fresh_settings(
        tmp_path,
        kind=database_kind,
        providers=providers,
        tasks={"portrait": {"steps": STEPS}, "needy": {"steps": NEEDY}},
    )
    yield chosen
    if is_postgres(chosen):
        give_back(chosen.database_url)


@pytest.fixture
def house(store: Store, clock: Clock, settings: Settings) -> Callable[[Fate], StepHouse]:
    return lambda fate=lambda asked: None: StepHouse(store, clock, settings, fate)


def shown(store: Store, task_id: str) -> list[dict[str, Any]]:
    return store.database.read(lambda tx: shown_steps.shown(tx, task_id))


def states(store: Store, task_id: str) -> list[tuple[str, str, int]]:
    return [(each["name"], each["status"], each["progress"]) for each in shown(store, task_id)]


async def test_each_step_is_shown_from_its_waiting_to_its_end(
    house: Callable[..., StepHouse], store: Store
) -> None:
    running = house()
    task_id = running.order("portrait")
    waiting = [("cut_out", "waiting", 0), ("paint", "waiting", 0), ("enlarge", "waiting", 0)]
    assert states(store, task_id) == waiting
    await running.live(task_id, until="ai_processing")
    assert states(store, task_id) == [
        ("cut_out", "done", 100), ("paint", "running", 0), ("enlarge", "waiting", 0)
    ]  # fmt: skip
    await running.live(task_id)
    assert states(store, task_id) == [(name, "done", 100) for name, _, _ in waiting]
    first, second, last = shown(store, task_id)
    assert len(first["images"]) == 1 and second["images"] is None and last["images"] is None
    assert all(each["run_seconds"] >= 0 and each["cost"] == {} for each in (first, second, last))


async def test_a_retry_shows_what_an_earlier_run_has_made(
    house: Callable[..., StepHouse], store: Store
) -> None:
    fails = True

    def fate(asked: Asked) -> Exception | None:
        return ContentRejected("No.") if fails and asked.step == 1 else None

    running = house(fate)
    task_id = running.order("portrait")
    await running.live(task_id)
    assert [status for _, status, _ in states(store, task_id)] == ["done", "failed", "waiting"]
    fails = False
    running.retry(task_id)
    assert states(store, task_id)[0] == ("cut_out", "resumed", 100)
    await running.live(task_id)
    assert [status for _, status, _ in states(store, task_id)] == ["resumed", "done", "done"]
    happened = store.database.read(lambda tx: history.timeline(tx, task_id)) or []
    assert [(each["event"], each["step"]) for each in happened if each["event"] in ("advanced", "resumed")] == [
        ("advanced", "paint"), ("resumed", "paint"), ("advanced", "enlarge")
    ]  # fmt: skip


async def test_the_costs_of_a_step_are_added_up_by_unit(
    house: Callable[..., StepHouse], store: Store
) -> None:
    running = house()
    task_id = running.order("portrait")
    await running.live(task_id)

    def bill(n: int, step: int, amount: str, unit: str) -> None:
        cost = ProviderCost(f"r-{n}", task_id, "portrait", 1, 1, 1, "remote", amount, unit, step)
        store.write(lambda tx: provider_costs.add(tx, cost))

    bill(1, 1, "0.1", "USD")
    bill(2, 1, "0.20", "USD")
    bill(3, 1, "3", "seconds")
    bill(4, 2, "1", "USD")
    assert [each["cost"] for each in shown(store, task_id)] == [
        {},
        {"USD": "0.3", "seconds": "3"},
        {"USD": "1"},
    ]


def test_operators_see_what_the_present_step_needs_and_asks(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task(type_="needy")

    def examined() -> tuple[Any, ...]:
        found = store.database.read(lambda tx: task_details.examine(tx, store.settings, claim.task_id))
        assert found is not None
        service, room = found["service"], found["room"]
        return service["name"], service["ai_timeout_seconds"], room["needs"], room["has_worker"]

    def needed() -> tuple[int, int]:
        read = store.database.read(lambda tx: gauges.read(tx, store.settings))
        return read.needed["gpu"], read.unplaceable["needy"]

    assert examined() == ("local", 300, "", True) and needed() == (0, 0)
    store.write(lambda tx: advance_now(tx, claim.task_id, claim.lease))
    assert examined() == ("remote", 7, "gpu = 1", False) and needed() == (1, 1)
    queue = {
        each["type"]: each
        for each in store.database.read(lambda tx: overview.read(tx, store.settings))["queue"]
    }
    assert (queue["needy"]["provider"], queue["needy"]["has_worker"]) == ("local", False)
    assert queue["portrait"]["has_worker"] is True


def test_a_task_without_steps_shows_none(store: Store, admitted_task: Callable[..., str]) -> None:
    assert shown(store, admitted_task()) == [] and shown(store, "of-nobody") == []


def test_a_weight_that_is_not_declared_is_learnt_for_the_next_order(
    store: Store, admitted_task: Callable[..., str]
) -> None:
    def weights() -> list[float]:
        fixed = decoded(store.task(admitted_task(type_="portrait"))["steps"])
        return [step["weight"] for step in fixed]

    assert weights() == [1, 3, 1]
    for step, seconds in (("cut_out", 2.0), ("paint", 6.0), ("enlarge", 8.0)):
        labels = {"type": "portrait", "step": step, "outcome": "completed"}
        store.write(lambda tx, s=seconds, of=labels: counters.observe(tx, step_times.RUN_SECONDS, s, **of))
    store.write(lambda tx: counters.fold(tx, 1000))
    assert weights() == [1, 3, 4], "in the unit of the weight that is declared"


def test_the_run_times_of_a_types_steps_are_their_means(store: Store) -> None:
    def observe(seconds: float, step: str, type_: str = "portrait", outcome: str = "completed") -> None:
        store.write(
            lambda tx: counters.observe(
                tx, step_times.RUN_SECONDS, seconds, type=type_, step=step, outcome=outcome
            )
        )

    for seconds in (2.0, 4.0):
        observe(seconds, "paint")
    observe(900.0, "paint", outcome="failed")
    observe(900.0, "paint", "photography")
    store.write(lambda tx: counters.fold(tx, 1000))
    found = store.database.read(lambda tx: step_times.mean_seconds(tx, "portrait"))
    assert found == pytest.approx({"paint": 3.0})


@given(st.lists(st.floats(0.01, 1000), min_size=1, max_size=12), st.data())
def test_the_progress_of_a_step_is_read_back_from_that_of_its_task(weights: list[float], data: Any) -> None:
    steps = [{"weight": weight} for weight in weights]
    n = data.draw(st.integers(0, len(steps) - 1))
    percent = data.draw(st.integers(0, 99))
    told = shown_steps.percent_of_step(steps, n, progress_of(steps, n, percent))
    assert 0 <= told <= 99
    share = weights[n] / sum(weights)
    assert abs(told - percent) <= 1 / share + 1  # the task's percent is rounded down


@given(st.lists(st.floats(0.01, 1000), min_size=1, max_size=12))
def test_the_progress_of_a_task_never_falls(weights: list[float]) -> None:
    steps = [{"weight": weight} for weight in weights]
    told = [progress_of(steps, n, percent) for n in range(len(steps)) for percent in range(101)]
    assert told == sorted(told) and told[0] == 0 and told[-1] == 100
    assert all(progress_of(steps, n, 100) == progress_of(steps, n + 1, 0) for n in range(len(steps) - 1))
