"""Jobs that a worker has left by its death, where they fill their provider: they are gone on with, and nothing waits
for ever."""

from __future__ import annotations

import json
from typing import Any

import pytest

from config.settings import Settings
from supervisor.store.queue.capacity import takes_more
from tests.conftest import Clock, Store
from tests.support.models.step_house import StepHouse


@pytest.fixture
def house(store: Store, clock: Clock) -> StepHouse:
    """A house whose service takes one job at once."""
    return _house(store, clock, may_bill_twice=True, limits={"concurrency": 1})


def _house(store: Store, clock: Clock, **provider: Any) -> StepHouse:
    given: dict[str, Any] = {"kind": "http", **provider}
    asked_for = Settings(
        data_dir=store.settings.data_dir,
        providers={"remote": given},
        tasks={"portrait": {"provider": "remote", "cost_credits": 1}},
    )
    changed = {name: getattr(asked_for, name) for name in ("providers", "tasks")}
    return StepHouse(store, clock, store.settings.model_copy(update=changed))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dies_at", range(1, 6))
async def test_a_worker_dies_at_any_commit_and_its_job_fills_the_provider(
    store: Store, house: StepHouse, dies_at: int, after: bool, count: int
) -> None:
    tasks = [house.order("portrait", count=count) for _ in range(2)]
    await house.live(tasks[0], dies_at=dies_at, after=after)
    await house.live(tasks[1])
    for task_id in tasks:
        assert store.task(task_id)["status"] == "completed"
        assert store.entries(task_id) == [(1, "debit", -count)]


async def test_a_job_that_is_polled_holds_its_room(store: Store, house: StepHouse) -> None:
    def has_room() -> bool:
        return store.database.read(lambda tx: takes_more(tx, house.settings, "portrait", ""))

    task_id = house.order("portrait")
    assert has_room()
    await house.live(task_id, until="ai_processing")
    assert not has_room()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dies_at", range(1, 10))
async def test_a_worker_dies_at_any_commit_and_what_another_request_of_the_order_made_is_kept(
    store: Store, clock: Clock, dies_at: int, after: bool
) -> None:
    """The service may not bill twice, so the request whose answer died with the worker is given up and refunded."""
    house = _house(store, clock, may_bill_twice=False)
    task_id = house.order("portrait", count=2)
    await house.live(task_id, dies_at=dies_at, after=after)
    ordered = [each.pictures[0] for each in house.asked]
    assert len(ordered) == len(set(ordered)), "none is ordered twice"
    states = [row["state"] for row in store.all("SELECT state FROM remote_job")]
    known = states.count("done")
    assert set(states) <= {"done", "unknown"}, "no job that the service has accepted is given up"
    images = json.loads(store.work(task_id)["images"] or "[]")
    assert len(images) == known and -sum(entry[2] for entry in store.entries(task_id)) == known
    assert store.task(task_id)["status"] == ("completed" if known else "failed")
