"""A part of an order that is refused while a service works on another part: what was accepted is not thrown away."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from actors.providers.base import (
    Accepted,
    AtCapacity,
    ContentRejected,
    Done,
    Failed,
    Job,
    RateLimited,
    Transient,
    UnknownOutcome,
)
from actors.providers.base import Running as JobRuns
from config.settings import Settings
from supervisor.store.tasks import history
from tests.conftest import Clock, Store
from tests.support.models.step_house import Asked, Remote, StepHouse

PICTURES = 3


class Slow(Remote):
    """Its jobs are done when they are polled for the second time.  ends: {picture: how its job ends otherwise}."""

    def __init__(self, asked: list[Asked], fate: Any) -> None:
        super().__init__(asked, fate)
        self.polls: list[int] = []
        self.ends: dict[int, Exception] = {}

    async def poll(self, remote: Accepted, job: Job) -> JobRuns | Done | Failed:
        (n,) = job.pictures
        self.polls.append(n)
        if self.polls.count(n) < 2:
            return JobRuns(poll_after_seconds=1.0)
        if n in self.ends:
            return Failed(self.ends.pop(n))  # type: ignore[arg-type]
        return await super().poll(remote, job)


@pytest.fixture
def house(store: Store, clock: Clock) -> Callable[..., StepHouse]:
    """A house whose service says `said` in turn to requests for the second picture, and accepts all others."""

    def made(*said: Exception, **provider: Any) -> StepHouse:
        kept = list(said)
        given = {"kind": "http", "may_bill_twice": False, **provider}
        type_ = {"provider": "remote", "cost_credits": 1}
        asked_for = Settings(
            data_dir=store.settings.data_dir, providers={"remote": given}, tasks={"portrait": type_}
        )
        changed = {name: getattr(asked_for, name) for name in ("providers", "tasks")}
        house = StepHouse(store, clock, store.settings.model_copy(update=changed))
        fate = lambda asked: kept.pop(0) if kept and 1 in asked.pictures else None  # noqa: E731
        house.services["remote"] = Slow(house.asked, fate)
        return house

    return made


def _images(store: Store, task_id: str) -> int:
    return len(json.loads(store.work(task_id)["images"] or "[]"))


def _ordered(house: StepHouse) -> list[int]:
    return [each.pictures[0] for each in house.asked]


async def _made(house: StepHouse) -> str:
    task_id = house.order("portrait", count=PICTURES)
    await house.live(task_id)
    return task_id


@pytest.mark.parametrize("wait", [RateLimited("Slowly.", wait_seconds=2.0), AtCapacity("It is full.")])
async def test_a_part_that_is_told_to_wait_is_ordered_later_and_the_others_once(
    store: Store, house: Callable[..., StepHouse], wait: Exception
) -> None:
    shop = house(wait, wait)
    task_id = await _made(shop)
    assert (store.task(task_id)["status"], store.task(task_id)["failures"]) == ("completed", 0)
    assert _images(store, task_id) == PICTURES and store.entries(task_id) == [(1, "debit", -PICTURES)]
    assert sorted(_ordered(shop)) == [0, 1, 1, 1, 2]


async def test_our_own_limit_of_one_job_at_once_makes_the_parts_one_after_the_other(
    store: Store, house: Callable[..., StepHouse]
) -> None:
    shop = house(limits={"concurrency": 1})
    task_id = await _made(shop)
    assert store.task(task_id)["status"] == "completed" and _images(store, task_id) == PICTURES
    assert store.entries(task_id) == [(1, "debit", -PICTURES)] and _ordered(shop) == [0, 1, 2]


async def test_a_part_that_fails_at_every_try_takes_no_other_with_it(
    store: Store, house: Callable[..., StepHouse]
) -> None:
    shop = house(*[Transient("503")] * 10)
    task_id = await _made(shop)
    assert (store.task(task_id)["status"], _images(store, task_id)) == ("completed", 1)
    assert store.entries(task_id) == [(1, "debit", -PICTURES), (1, "refund", PICTURES - 1)]
    assert _ordered(shop) == [0, 1, 1, 1]


@pytest.mark.parametrize("error", [ContentRejected("No."), UnknownOutcome("It said nothing.")])
async def test_a_part_that_can_not_be_had_is_refunded_and_what_was_accepted_is_kept(
    store: Store, house: Callable[..., StepHouse], error: Exception
) -> None:
    shop = house(error)
    task_id = await _made(shop)
    assert (store.task(task_id)["status"], _images(store, task_id)) == ("completed", 1)
    assert store.entries(task_id) == [(1, "debit", -PICTURES), (1, "refund", PICTURES - 1)]
    assert _ordered(shop) == [0, 1]


async def test_the_end_of_the_accepted_part_does_not_hide_that_another_can_not_be_had(
    store: Store, house: Callable[..., StepHouse]
) -> None:
    shop = house(ContentRejected("No."))
    shop.services["remote"].ends = {0: Transient("Out of memory.")}  # type: ignore[attr-defined]
    task_id = await _made(shop)
    assert store.task(task_id)["status"] == "failed"
    assert json.loads(store.task(task_id)["error"])["code"] == "content_rejected"
    assert store.entries(task_id) == [(1, "debit", -PICTURES), (1, "refund", PICTURES)] and _ordered(
        shop
    ) == [0, 1]


async def test_the_history_tells_why_a_part_waits(store: Store, house: Callable[..., StepHouse]) -> None:
    shop = house(RateLimited("Slowly.", wait_seconds=2.0))
    task_id = await _made(shop)
    told = store.all("SELECT event, error FROM task_event WHERE task_id = ? ORDER BY id", task_id)
    waits = [row for row in told if row["event"] == "postponed"]
    assert len(waits) == 1 and "Slowly." in str(waits[0]["error"]), [row["event"] for row in told]
    shown = store.database.read(lambda tx: history.timeline(tx, task_id, None))
    events = [each["event"] for each in shown or []]
    assert events.count("postponed") == 1 and events.count("handed_off") == 2, events
